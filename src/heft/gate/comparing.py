"""A split against the span before, and against what the model is asked."""

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from heft.gate.anomaly import HIDDEN, Anomaly, shown
from heft.gate.offences import Finding, Offence, equal_to
from heft.gate.settings import GateSettings, LogColumns
from heft.gate.statistics import Column, Statistics, columns_of, rows_of, validated

__all__ = ["Measured", "compare", "too_small", "with_defaults"]

Info = anomalies_pb2.AnomalyInfo

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen–Shannon",
    anomalies_pb2.DriftSkewInfo.Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE: "absolute difference",
}
_ABSENCE = "absence"


@dataclass(frozen=True)
class Measured:
    """How far one column is from what it is compared with.

    Attributes:
        split, feature: of this span.
        against: `span 3`, say, or `serving`.
        measure: `L-infinity`, the largest difference of a value's share; `Jensen–Shannon`, in
            bits; `absence`, the difference in the share of rows without a value.
        value: in [0, 1].
        threshold: above which it is an anomaly.
    """

    split: str
    feature: str
    against: str
    measure: str
    value: float
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """For `gate.json`."""
        return asdict(self)


def with_defaults(
    schema: schema_pb2.Schema, settings: GateSettings, columns: LogColumns
) -> schema_pb2.Schema:
    """The schema with comparators for the columns that the model sees and it has none for."""
    schema = deepcopy(schema)
    for feature in schema.feature:
        for kind, categories, numbers in (
            ("drift_comparator", settings.drift_categories, settings.drift_numbers),
            ("skew_comparator", settings.skew_categories, settings.skew_numbers),
        ):
            if feature.HasField(kind):
                continue
            comparator = getattr(feature, kind)
            if feature.name in columns.seen_categorical and categories is not None:
                comparator.infinity_norm.threshold = categories
            elif feature.name in columns.seen_numeric and numbers is not None:
                comparator.jensen_shannon_divergence.threshold = numbers
    return schema


def compare(
    split: str,
    observed: Statistics,
    other: Statistics,
    against: str,
    schema: schema_pb2.Schema,
    settings: GateSettings,
    columns: LogColumns,
) -> tuple[list[Finding], list[Measured]]:
    """Drift against an earlier span, or skew against what was served.

    Args:
        split: of the examples.
        observed: its statistics.
        other: what it is compared with.
        against: `serving` for skew; anything else is drift, and how the other is called.
        schema: with comparators.
        settings: see there.
        columns: which of them the model sees, and which are of persons.
    """
    skew = against == "serving"
    now, there = columns_of(observed), columns_of(other)
    compared = _of_both(schema, skew, now.keys() & there.keys())
    sides = {"serving": other} if skew else {"previous": other}
    result = validated(observed, compared, **sides)
    measured = list(_measured(result, split, against, skew))
    if not skew and settings.drift_missing is not None:
        measured += _absences(split, against, now, there, settings.drift_missing, columns)
    nowhere = Column(rows=rows_of(observed))
    findings = [
        _finding(one, now.get(one.feature, nowhere), there[one.feature], columns.pii, skew)
        for one in measured
        if one.value > one.threshold
    ]
    return findings, measured


def _of_both(schema: schema_pb2.Schema, skew: bool, both: Collection[str]) -> schema_pb2.Schema:
    """Comparators of one kind, of columns that are on both sides: what is on one side alone
    is for the schema to judge."""
    schema = deepcopy(schema)
    for feature in schema.feature:
        if skew or feature.name not in both:
            feature.ClearField("drift_comparator")
        if not skew or feature.name not in both:
            feature.ClearField("skew_comparator")
    return schema


def _measured(
    result: anomalies_pb2.Anomalies, split: str, against: str, skew: bool
) -> Iterator[Measured]:
    for info in result.drift_skew_info:
        for one in info.skew_measurements if skew else info.drift_measurements:
            name = ".".join(info.path.step)
            measure = _MEASURES.get(one.type, "difference")
            yield Measured(split, name, against, measure, round(one.value, 6), one.threshold)


def _absences(
    split: str,
    against: str,
    now: dict[str, Column],
    there: dict[str, Column],
    threshold: float,
    columns: LogColumns,
) -> list[Measured]:
    found = []
    for name in (*columns.seen_categorical, *columns.seen_numeric, *columns.seen_vectors):
        if name in there and there[name].rows:
            here = now.get(name)
            absent = here.absent / here.rows if here and here.rows else 1.0
            apart = abs(absent - there[name].absent / there[name].rows)
            found.append(Measured(split, name, against, _ABSENCE, round(apart, 6), threshold))
    return found


def _finding(
    one: Measured, now: Column, there: Column, pii: Collection[str], skew: bool
) -> Finding:
    """What moved, and the rows of it."""
    kind = "skew" if skew else "drift"
    to = "what is asked" if skew else one.against
    measure = "difference in absence" if one.measure == _ABSENCE else one.measure
    expected = f"{measure} to {to} at most {one.threshold:g}"
    was, offence, rows = ("asked" if skew else "before"), None, now.there
    came = f"{one.value:.3g}"
    if one.measure == _ABSENCE:
        rows = now.absent
        came += f"; absent in {_share(there.absent, there.rows)} {was}, "
        came += f"{_share(now.absent, now.rows)} now"
    elif now.shares is not None and there.shares is not None:
        moved = _moved(now.shares, there.shares)
        if moved is not None:
            offence = Offence(one.feature, equal_to(moved.encode()))
            name = HIDDEN if one.feature in pii else shown(moved) or "no text"
            shares = (there.shares.get(moved, 0.0), now.shares.get(moved, 0.0))
            came += f"; most at {name}: {shares[0]:.1%} {was}, {shares[1]:.1%} now"
    else:
        came += f"; median {there.median:g} {was}, {now.median:g} now"
    return Finding(Anomaly(one.split, one.feature, kind, expected, came, rows), offence)


def _share(part: int, whole: int) -> str:
    return f"{part / whole if whole else 0.0:.1%}"


def _moved(now: dict[str, float], there: dict[str, float]) -> str | None:
    """The text whose share has changed most."""
    differences = {text: abs(now.get(text, 0.0) - there.get(text, 0.0)) for text in now | there}
    return max(differences, key=lambda text: (differences[text], text), default=None)


def too_small(observed: Statistics, other: Statistics, least: int) -> bool:
    """Whether either side has fewer rows than chance needs to be even."""
    return min(rows_of(observed), rows_of(other)) < least
