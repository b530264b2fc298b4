"""The views a model is judged on, and which metrics are right for each.

- natural: logged pages in the order they were shown. What users saw, biased by
  position: right for calibration and log loss, biased for ranking.
- shuffled: pages whose order was random: ranking of clicks without position bias.
- reweighted: natural pages again, each click counted by the inverse of the probability
  that its position was looked at: the same, where too few pages were shuffled.
- graded: human grades of query-item pairs: ranking of relevance itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from heft.errors import DataError
from heft.evaluation.grouped import GroupMean, gauc, ndcg_at_k
from heft.evaluation.metrics import (
    Auc,
    AucPr,
    Calibration,
    Ece,
    FloatArray,
    LogLoss,
    Metric,
    Values,
    err_gain,
)
from heft.evaluation.results import Model
from heft.evaluation.settings import EvaluationSettings
from heft.features import CTCVR, CTR, CVR, GRADED, NATURAL, SHUFFLED

__all__ = [
    "HEADS", "REWEIGHTED", "VIEWS", "MetricBuilder", "ViewData", "by_user", "view_metrics",
]  # fmt: skip

REWEIGHTED = "reweighted"
VIEWS = (NATURAL, SHUFFLED, REWEIGHTED, GRADED)
HEADS = (CTR, CVR, CTCVR)
GROUP_BY = {NATURAL: "request", SHUFFLED: "request", REWEIGHTED: "request", GRADED: "query"}

MetricBuilder = Callable[[Values], Metric]
Predictions = Mapping[str, Values]

_BY_USER = "_by_user"
_COLUMNS = ("click", "conversion", "grade", "request", "query", "user", "mass")


@dataclass(frozen=True)
class ViewData:
    """Rows of one view with the predictions of the weighted, control and baseline models.

    All arrays have shape (rows,). `weighted`, `control` and `baseline` hold probabilities
    in [0, 1] under the names `ctr` and, where there are conversions, `ctcvr`
    (other heads are carried and not judged). `control` is None if no control
    model was trained. All but graded need `click` and `request`, graded needs `grade` and
    `query`; `conversion` and `user` are optional. reweighted also needs `mass`: how much of
    a positive each row is, an unbiased estimate of its attractiveness, which may lie outside
    [0, 1]. `slices` maps a column to its value in each row.

    Raises:
        DataError: the view is unknown, a column it needs is missing, or an
            array is of another length.
    """

    name: str
    weighted: Predictions
    control: Predictions | None
    click: Values | None = None
    conversion: Values | None = None
    grade: Values | None = None
    request: Values | None = None
    query: Values | None = None
    slices: Mapping[str, Values] = field(default_factory=dict)
    baseline: Predictions | None = None
    user: Values | None = None
    mass: Values | None = None

    def __post_init__(self) -> None:
        if self.name not in VIEWS:
            raise DataError(f"view {self.name!r} is unknown: expected one of {', '.join(VIEWS)}")
        needed = [GROUP_BY[self.name], "grade" if self.name == GRADED else "click"]
        for column in needed + (["mass"] if self.name == REWEIGHTED else []):
            if getattr(self, column) is None:
                raise DataError(f"view {self.name!r} needs the column {column!r}: add it")
        for column, values in self._columns().items():
            if np.shape(values) != (self.rows,):
                raise DataError(
                    f"column {column!r} of view {self.name!r} has shape {np.shape(values)}: "
                    f"expected ({self.rows},), as {GROUP_BY[self.name]!r}"
                )
        for model, heads in self.models.items():
            missing = set(self.judged) - set(heads)
            if missing:
                raise DataError(
                    f"view {self.name!r} has no predictions {sorted(missing)} of the {model} "
                    f"model: expected {', '.join(self.judged)}"
                )

    @property
    def models(self) -> dict[Model, Predictions]:
        """The predictions of each model that there is."""
        named: dict[Model, Predictions | None] = {
            "weighted": self.weighted,
            "control": self.control,
            "baseline": self.baseline,
        }
        return {model: heads for model, heads in named.items() if heads is not None}

    @property
    def group(self) -> Values:
        """The key of the groups that hang together, shape (rows,)."""
        return np.asarray(getattr(self, GROUP_BY[self.name]))

    @property
    def rows(self) -> int:
        """How many rows the view has."""
        return len(self.group)

    @property
    def judged(self) -> tuple[str, ...]:
        """The heads this view has labels for."""
        if self.name in (NATURAL, SHUFFLED) and self.conversion is not None:
            return (CTR, CTCVR)
        return (CTR,)

    def take(self, rows: Values) -> "ViewData":
        """The view of some rows only, without slices."""
        heads = {
            model: {head: values[rows] for head, values in found.items()}
            for model, found in self.models.items()
        }
        given = {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}
        picked: dict[str, Any] = {name: np.asarray(values)[rows] for name, values in given.items()}
        return replace(
            self,
            weighted=heads["weighted"],
            control=heads.get("control"),
            baseline=heads.get("baseline"),
            slices={},
            **picked,
        )

    def _columns(self) -> dict[str, Values]:
        columns = {n: getattr(self, n) for n in _COLUMNS if getattr(self, n) is not None}
        for model, heads in self.models.items():
            columns |= {f"{model} {head}": values for head, values in heads.items()}
        return columns | {f"slice {name}": values for name, values in self.slices.items()}


def view_metrics(view: ViewData, settings: EvaluationSettings) -> dict[str, MetricBuilder]:
    """The metrics that are right for a view, by name (`ctr_auc`).

    Each value makes the metric of one model from its predictions for the head
    the name begins with.
    """
    if view.name == GRADED:
        return _graded_metrics(view, settings)
    if view.name == REWEIGHTED:
        return {f"{CTR}_auc": partial(Auc, np.asarray(view.mass, np.float64), bounded=False)}
    builders: dict[str, MetricBuilder] = {}
    for head, label in _labels(view).items():
        builders[f"{head}_auc"] = partial(Auc, label)
        builders[f"{head}_gauc"] = partial(_gauc, label, view.group)
        users = _users(view)
        if users is not None:
            builders[f"{head}_gauc{_BY_USER}"] = partial(_gauc_by_user, label, *users)
        name = f"{head}_ndcg_at_{settings.ndcg_at}"
        builders[name] = partial(_ndcg, label, view.group, settings.ndcg_at)
        if view.name == NATURAL:
            builders[f"{head}_auc_pr"] = partial(AucPr, label)
            builders[f"{head}_log_loss"] = partial(LogLoss, label)
            builders[f"{head}_calibration"] = partial(Calibration, label)
            builders[f"{head}_ece"] = partial(Ece, label, bins=settings.bins)
    return builders


def by_user(metric: str) -> bool:
    """Whether a metric's groups are users, whatever the view's are."""
    return metric.endswith(_BY_USER)


def _labels(view: ViewData) -> dict[str, FloatArray]:
    columns = {CTR: view.click, CTCVR: view.conversion}
    return {head: np.asarray(columns[head], np.float64) for head in view.judged}


def _graded_metrics(view: ViewData, settings: EvaluationSettings) -> dict[str, MetricBuilder]:
    grade = np.asarray(view.grade, np.float64)
    gain = err_gain(grade, settings.maximum_grade)
    relevant = (grade >= settings.relevant_grade).astype(np.float64)
    return {
        f"{CTR}_auc": partial(Auc, gain),
        f"{CTR}_auc_relevant": partial(Auc, relevant),
        f"{CTR}_ndcg_at_{settings.ndcg_at}": partial(_ndcg, grade, view.group, settings.ndcg_at),
        f"{CTR}_ece": partial(Ece, gain, bins=settings.bins),
    }


def _gauc(label: Values, group: Values, score: Values) -> Metric:
    return gauc(label, score, group)


def _ndcg(label: Values, group: Values, k: int, score: Values) -> Metric:
    return ndcg_at_k(label, score, group, k)


def _users(view: ViewData) -> tuple[Values, Values] | None:
    """Users, and the rows (indices) that have one; None if they are not known."""
    if view.user is None:
        return None
    user = np.asarray(view.user)
    rows = np.flatnonzero((user != b"") & (user != ""))
    return (user, rows) if rows.size else None


class _OnRows:
    """A metric over some rows of the view only."""

    def __init__(self, metric: GroupMean, rows: Values) -> None:
        self._metric, self._rows = metric, rows
        self.left_out = metric.left_out

    def value(self, weight: FloatArray) -> float:
        """See `Metric`."""
        return self._metric.value(weight[self._rows])


def _gauc_by_user(label: Values, user: Values, rows: Values, score: Values) -> Metric:
    return _OnRows(gauc(label[rows], score[rows], user[rows]), rows)
