"""A split against the schema: what TensorFlow Data Validation objects to, in plain words."""

from collections.abc import Callable

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from heft.gate.anomaly import Anomaly, shown
from heft.gate.offences import (
    Finding,
    Offence,
    is_absent,
    is_there,
    not_one_of,
    outside,
)
from heft.gate.statistics import Column, Statistics, columns_of, rows_of, validated

__all__ = ["check_schema", "domain_of", "range_of"]

Info = anomalies_pb2.AnomalyInfo
_SHOWN_VALUES = 5

_ABSENT = {Info.FEATURE_TYPE_LOW_FRACTION_PRESENT, Info.FEATURE_TYPE_LOW_NUMBER_PRESENT}
_MISSING = {Info.SCHEMA_MISSING_COLUMN, Info.FEATURE_TYPE_NOT_PRESENT}
_RANGE = {
    Info.INT_TYPE_BIG_INT, Info.INT_TYPE_SMALL_INT, Info.FLOAT_TYPE_BIG_FLOAT,
    Info.FLOAT_TYPE_SMALL_FLOAT, Info.BOOL_TYPE_BIG_INT, Info.BOOL_TYPE_SMALL_INT,
}  # fmt: skip
_TYPE = {
    Info.UNEXPECTED_DATA_TYPE, Info.STRING_TYPE_NOW_FLOAT, Info.STRING_TYPE_NOW_INT,
    Info.ENUM_TYPE_BYTES_NOT_STRING, Info.ENUM_TYPE_FLOAT_NOT_STRING,
    Info.ENUM_TYPE_INT_NOT_STRING, Info.FLOAT_TYPE_NOT_FLOAT, Info.FLOAT_TYPE_STRING_NOT_FLOAT,
    Info.INT_TYPE_INT_EXPECTED, Info.INT_TYPE_NOT_STRING, Info.INT_TYPE_STRING_EXPECTED,
}  # fmt: skip
_VALUES_IN_ROW = {
    Info.FEATURE_TYPE_HIGH_NUMBER_VALUES, Info.FEATURE_TYPE_LOW_NUMBER_VALUES,
    Info.FEATURE_TYPE_UNEXPECTED_REPEATED, Info.FEATURE_TYPE_NO_VALUES,
}  # fmt: skip


def check_schema(
    split: str, observed: Statistics, schema: schema_pb2.Schema, pii: tuple[str, ...] = ()
) -> list[Finding]:
    """What of a split's statistics the schema does not allow, feature by feature.

    Args:
        split: its name.
        observed: its statistics.
        schema: as it is in git.
        pii: columns of which no value may be said.
    """
    result = validated(observed, schema)
    own = {feature.name: feature for feature in schema.feature}
    columns = columns_of(observed)
    found = []
    for name, info in sorted(result.anomaly_info.items()):
        if info.severity == Info.ERROR:
            for reason in info.reason:
                feature = own.get(name, schema_pb2.Feature(name=name))
                column = columns.get(name, Column(rows=rows_of(observed)))
                found.append(_finding(split, feature, reason, column, schema, name in pii))
    dataset = result.dataset_anomaly_info
    if dataset.severity == Info.ERROR:
        kind, came = dataset.short_description.lower(), dataset.description
        found.append(Finding(Anomaly(split, "dataset", kind, "what the schema says", came)))
    return found


def _finding(
    split: str,
    feature: schema_pb2.Feature,
    reason: anomalies_pb2.AnomalyInfo.Reason,
    column: Column,
    schema: schema_pb2.Schema,
    hidden: bool,
) -> Finding:
    """One reason, by the kind it is of."""
    name = feature.name
    rows: int | None = None
    test: Callable | None = None
    by_row = False
    if reason.type in _MISSING:
        kind, expected, came = "missing column", "the column", "no row has it"
        rows = column.rows
    elif reason.type == Info.SCHEMA_NEW_COLUMN:
        kind, expected = "unknown column", "no such column"
        came, test, rows = column.type, is_there, column.there
    elif reason.type in _ABSENT:
        kind, expected = "missing values", _presence(feature)
        came = f"absent in {column.absent:,} of {column.rows:,} rows"
        test, by_row, rows = is_absent, True, column.absent
    elif reason.type in _RANGE:
        low, high = range_of(feature)
        kind, expected = "out of range", _range(low, high)
        came, test = f"{column.low:g} to {column.high:g}", outside(low, high)
    elif reason.type == Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES:
        known = domain_of(feature, schema)
        kind, expected = "unexpected values", _listed(known)
        came = f"values that are none of {'these' if len(known) > 1 else 'it'}"
        test = not_one_of([value.encode() for value in known])
    elif reason.type in _TYPE:
        wanted = schema_pb2.FeatureType.Name(feature.type)
        kind, expected, came = "another type", wanted, column.type
        test, rows = is_there, column.there
    elif reason.type in _VALUES_IN_ROW:
        kind, expected = "values in a row", _range(*_counts(feature))
        came = f"{column.least} to {column.most}"
    else:
        kind, expected = reason.short_description.lower().rstrip("."), "what the schema says"
        # TFDV's words may quote values.
        came = "see the kind" if hidden else shown(reason.description or reason.short_description)
    offence = Offence(name, test, by_row) if test is not None else None
    return Finding(Anomaly(split, name, kind, expected, came, rows), offence)


def _presence(feature: schema_pb2.Feature) -> str:
    presence = feature.presence
    if presence.min_fraction >= 1:
        return "a value in every row"
    if presence.min_fraction > 0:
        return f"a value in at least {presence.min_fraction:.1%} of rows"
    return f"a value in at least {presence.min_count:,} rows"


def range_of(feature: schema_pb2.Feature) -> tuple[float, float]:
    """(lowest, highest) value that the schema allows a number; infinite where it says none."""
    which = feature.WhichOneof("domain_info")
    if which == "bool_domain":
        return 0.0, 1.0
    if which not in ("int_domain", "float_domain"):
        return float("-inf"), float("inf")
    domain = getattr(feature, which)
    low = domain.min if domain.HasField("min") else float("-inf")
    high = domain.max if domain.HasField("max") else float("inf")
    return low, high


def domain_of(feature: schema_pb2.Feature, schema: schema_pb2.Schema) -> tuple[str, ...]:
    """The texts that the schema allows a feature; none where it says none."""
    if feature.WhichOneof("domain_info") == "domain":
        for domain in schema.string_domain:
            if domain.name == feature.domain:
                return tuple(domain.value)
    return tuple(feature.string_domain.value)


def _counts(feature: schema_pb2.Feature) -> tuple[float, float]:
    least, most = feature.value_count.min, feature.value_count.max
    return least, most or float("inf")


def _range(low: float, high: float) -> str:
    if low == high:
        return f"{low:g}"
    if high == float("inf"):
        return f"at least {low:g}"
    return f"at most {high:g}" if low == float("-inf") else f"{low:g} to {high:g}"


def _listed(values: tuple[str, ...]) -> str:
    first = ", ".join(shown(value) for value in values[:_SHOWN_VALUES])
    rest = len(values) - _SHOWN_VALUES
    more = f" and {rest} more" if rest > 0 else ""
    return f"one of {first}{more}" if len(values) > 1 else f"{first} alone"
