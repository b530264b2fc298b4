"""Which rows an anomaly is about: counted where they lie, a few of their values kept."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heft import features as f
from heft.errors import DataError
from heft.examples import Feature, iterate_columns
from heft.gate.anomaly import Anomaly, said
from heft.gate.settings import LogColumns

__all__ = [
    "Finding", "Offence", "equal_to", "is_absent", "is_there", "log_features", "not_one_of",
    "outside", "with_rows",
]  # fmt: skip

# What no log has, in place of a value that is not there.
_NO_TEXT, _NO_NUMBER = b"\0absent", -(2**63)

Array = np.ndarray


@dataclass(frozen=True)
class Offence:
    """A test of a column's values.

    Attributes:
        feature: the column.
        test: (rows,) values to (rows,) bool.
        by_row: show which impressions they are, where a value has nothing to show.
    """

    feature: str
    test: Callable[[Array], Array]
    by_row: bool = False


@dataclass(frozen=True)
class Finding:
    """An anomaly, and how its rows are found; None where they are not counted."""

    anomaly: Anomaly
    offence: Offence | None = None


def log_features(columns: LogColumns) -> dict[str, Feature]:
    """Every column that ingest may write and that has one value a row, so that absent values
    are told from others."""
    found = {}
    listed = f.logged_columns(columns.categorical, columns.numeric, columns.vectors)
    absent: dict[type, bytes | int | float] = {
        bytes: _NO_TEXT, int: _NO_NUMBER, float: float("nan"),
    }  # fmt: skip
    for column in listed:
        if column.name not in columns.vectors and column.name != f.HISTORY:
            found[column.name] = Feature(column.name, column.dtype, absent[column.dtype])
    return found


def is_absent(values: Array) -> Array:
    """Rows without a value."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    nothing = _NO_NUMBER if values.dtype.kind == "i" else _NO_TEXT
    return np.asarray(values == nothing, bool)


def is_there(values: Array) -> Array:
    """Rows with a value."""
    return ~is_absent(values)


def outside(low: float, high: float) -> Callable[[Array], Array]:
    """Values, if there, below `low` or above `high`."""
    return lambda values: is_there(values) & ((values < low) | (values > high))


def not_one_of(known: Collection[bytes]) -> Callable[[Array], Array]:
    """Texts, if there, that are none of `known`."""
    allowed = frozenset(known) | {_NO_TEXT}
    return lambda values: np.fromiter((value not in allowed for value in values), bool, len(values))


def equal_to(text: bytes) -> Callable[[Array], Array]:
    """Texts that are this one."""
    return lambda values: np.asarray(values == text, bool)


def with_rows(
    findings: Sequence[Finding],
    shards: Sequence[str],
    features: Mapping[str, Feature],
    pii: Collection[str] = (),
    examples: int = 3,
) -> list[Anomaly]:
    """The anomalies of a split with the rows they are about, and a few values of them.

    One pass, in memory that does not grow with the rows. What cannot be read as the column
    that it should be is left uncounted.

    Args:
        findings: of one split.
        shards: of the split.
        features: that can be read, by name.
        pii: columns whose values are not shown.
        examples: at most so many of an anomaly, in the order of the rows.
    """
    offences = {k: x.offence for k, x in enumerate(findings) if x.offence is not None}
    offences = {k: own for k, own in offences.items() if own.feature in features}
    counts = dict.fromkeys(offences, 0)
    kept: dict[int, dict[object, None]] = {k: {} for k in offences}
    names = {own.feature for own in offences.values()} | {f.IMPRESSION_ID}
    try:
        for batch in iterate_columns(shards if offences else (), [features[n] for n in names]):
            for k, own in offences.items():
                mask = own.test(batch[own.feature])
                counts[k] += int(mask.sum())
                shown = batch[f.IMPRESSION_ID if own.by_row else own.feature][mask]
                for value in shown[: 100 * examples]:
                    if len(kept[k]) < examples:
                        kept[k][_plain(value)] = None
    except DataError:
        counts = {}
    found = []
    for k, finding in enumerate(findings):
        anomaly = finding.anomaly
        if k in counts:
            own = offences[k]
            column = f.IMPRESSION_ID if own.by_row else own.feature
            values = said(column, kept[k], pii)
            if own.by_row:
                values = tuple(f"{f.IMPRESSION_ID}={value}" for value in values)
            anomaly = replace(anomaly, rows=counts[k], examples=values)
        found.append(anomaly)
    return found


def _plain(value: object) -> object:
    return f"{value:g}" if isinstance(value, float | np.floating) else value
