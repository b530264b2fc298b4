"""Several estimators' opinions as one."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.ranks import RankTable
from heft.importance.registry import create, parameters, register

__all__ = ["Ensemble"]

Array = np.ndarray
_Key = tuple[int, int | None]  # label, slice


@register("ensemble")
class Ensemble:
    """The mean of the members' mid-ranks within label and slice, in (0, 1).

        s_i = mean over members e of rank(e_i among the rows of i's label and slice)

    The mid-rank is the share of rows with a lower score and half of those with
    the same, so that members of any scale count alike (Borda 1781). Within label
    and slice, so that no label and no category is favoured as a whole.

    Ranks are those among the fitted rows: a row's score does not depend on the
    shard it comes in. A slice with fewer than `slice_rows` fitted rows of a label,
    or none, is ranked among all rows of the label.

    Members should point the same way. A name with a minus before it counts
    downwards: "-el2n" takes hard samples for suspect.

    Cost: that of the members, and O(n log n) for each; O(n) memory for each.

    Args:
        members: names in the registry; each has `fit` and `score`.
        settings: of members, by name without the minus.
        proxy, reference: offered to every member that takes them.
        slice_rows: at least 1.
        random_state: offered likewise.

    Raises:
        ConfigError: no member, an unknown one, itself, one without scores, or
            settings of one that is not among them.
    """

    def __init__(
        self,
        members: Sequence[str] = ("label_quality", "data_oob", "knn_shapley"),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        proxy: OutOfFoldProxy | None = None,
        reference: ImportanceData | None = None,
        slice_rows: int = 50,
        random_state: int = 0,
    ) -> None:
        settings = settings or {}
        names = [member.removeprefix("-") for member in members]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"members={list(members)}: expected one or more, each once")
        if slice_rows < 1:
            raise ConfigError(f"slice_rows={slice_rows}: expected at least 1")
        for name in settings:
            if name not in names:
                raise ConfigError(f"Expected one of {names}, received: settings of {name!r}")
        offered = {"proxy": proxy, "reference": reference, "random_state": random_state}
        if proxy is None and any("proxy" in parameters(name) for name in names):
            offered["proxy"] = OutOfFoldProxy(random_state=random_state)
        self.members = tuple(members)
        self.slice_rows = slice_rows
        self.estimators = [_member(name, offered, settings.get(name, {})) for name in names]

    def fit(self, data: ImportanceData) -> Self:
        """Fits every member and keeps the distributions of its scores.

        Raises:
            DataError: a member raises it, or gives a score that is NaN or infinite.
        """
        self.tables_: list[dict[_Key, RankTable]] = []
        slices = _slices(data)
        for member, estimator in zip(self.members, self.estimators, strict=True):
            scores = _signed(member, estimator.fit(data).score(data))
            tables = {}
            for label in (0, 1):
                rows = np.flatnonzero(data.label == label)
                for part, chosen in _parts(slices, rows, self.slice_rows):
                    table = RankTable.of(scores[chosen])
                    if table is not None:
                        tables[label, part] = table
            self.tables_.append(tables)
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in (0, 1); ½ for a label that the fitted sample does not have."""
        check_fitted(self, "tables_")
        slices = _slices(data)
        total = np.zeros(len(data))
        for member, estimator, tables in zip(
            self.members, self.estimators, self.tables_, strict=True
        ):
            scores = _signed(member, estimator.score(data))
            rank = np.full(len(data), 0.5)
            for label in (0, 1):
                rows = np.flatnonzero(data.label == label)
                for part, chosen in _parts(slices, rows, 1):
                    table = tables.get((label, part), tables.get((label, None)))
                    if table is not None:
                        rank[chosen] = table.rank(scores[chosen])
            total += rank
        return (total / len(self.members)).astype(np.float32)


def _member(name: str, offered: dict[str, Any], settings: Mapping[str, Any]) -> Any:
    taken = {k: v for k, v in offered.items() if k in parameters(name)}
    if name == "ensemble":
        raise ConfigError("members hold 'ensemble' itself: expected other estimators")
    estimator = create(name, **(taken | dict(settings)))
    if not hasattr(estimator, "score"):
        raise ConfigError(f"estimator {name!r} gives no score: expected one with fit and score")
    return estimator


def _slices(data: ImportanceData) -> Array:
    """(n,) the slice of each row; one for all where the data has none."""
    return np.zeros(len(data), np.int64) if data.slice is None else data.slice


def _parts(slices: Array, rows: Array, least: int) -> list[tuple[int | None, Array]]:
    """`rows` as a whole, under None, then of each slice with at least `least` of them."""
    order = rows[np.argsort(slices[rows], kind="stable")]
    values, starts = np.unique(slices[order], return_index=True)
    parts: list[tuple[int | None, Array]] = [(None, rows)]
    for value, part in zip(values, np.split(order, starts[1:]), strict=False):
        if len(part) >= least:
            parts.append((int(value), part))
    return parts


def _signed(member: str, scores: Array) -> Array:
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise DataError(f"member {member!r} gave {bad} scores that are NaN or infinite")
    return -scores if member.startswith("-") else scores
