"""The schema in git: made from data, held against data, widened by what was agreed to."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tensorflow_metadata.proto.v0 import schema_pb2

from heft import features as f
from heft.errors import InputError
from heft.gate.anomaly import Anomaly
from heft.gate.schema_checks import check_schema, domain_of
from heft.gate.schema_text import changed_text, parsed
from heft.gate.settings import GateSettings, LogColumns
from heft.gate.statistics import Column, Statistics, columns_of
from heft.tfdv import tfdv

__all__ = ["Difference", "accepted", "differences", "inferred"]

BySplit = Mapping[str, Statistics]

_FLAGS = (f.CLICK, f.CONVERSION, f.RANDOMISED)
_SHARES = (f.PROPENSITY, f.SAMPLING)
_NOT_NEGATIVE = (f.PRICE, f.CONVERSION_VALUE, f.OBSERVATION, f.GRADE)
_LARGEST_DOMAIN = 100_000


def inferred(
    statistics: BySplit, span: int, columns: LogColumns, settings: GateSettings, values: int = 20
) -> str:
    """The text of a schema that the data keeps to, to be reviewed.

    What Heft's own columns must be is known; of the others type and presence are those of the
    data, and their values if they are categories of few.

    Args:
        statistics: of each split of a span.
        span: its number.
        columns: of the log and the model.
        settings: whose thresholds become the comparators of the columns that the model sees.
        values: most values of a column whose values are listed; those of persons never are.
    """
    found = _over_splits(statistics)
    features = {
        name: _inferred(name, found[name], columns, settings, values)
        for name in [*_ordered(found, columns)]
    }
    head = (
        f"# What ingested examples must look like, inferred from span {span}: review it by hand.\n"
        "# Another feature, value or range is taken up by `heft schema accept`.\n"
    )
    return changed_text(head, features)


def _over_splits(statistics: BySplit) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    for split in statistics.values():
        for name, column in columns_of(split).items():
            found.setdefault(name, []).append(column)
    return found


def _ordered(names: Iterable[str], columns: LogColumns) -> list[str]:
    """In the order in which Heft knows columns, others by name."""
    known = f.logged_columns(columns.categorical, columns.numeric, columns.vectors)
    place = {column.name: k for k, column in enumerate(known)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


def _inferred(
    name: str,
    splits: Sequence[Column],
    columns: LogColumns,
    settings: GateSettings,
    values: int,
) -> schema_pb2.Feature:
    kind = "BYTES" if splits[0].type == "STRING" else splits[0].type
    feature = schema_pb2.Feature(name=name, type=schema_pb2.FeatureType.Value(kind))
    absent = max(x.absent / x.rows if x.rows else 1.0 for x in splits)
    if absent:
        # Twice as many may be absent as are, and no more.
        feature.presence.min_fraction = math.floor(100 * max(0.0, 1 - 2 * absent)) / 100
        feature.presence.min_count = 0
    else:
        feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
    feature.value_count.min = min(max(x.least, 1) for x in splits)
    feature.value_count.max = max(columns.vectors.get(name, 0), *(x.most for x in splits))
    if name == f.HISTORY:
        feature.value_count.min, feature.value_count.max = 1, max(columns.history, 1)
    _bound(feature)
    categories = (f.CATEGORY, f.BRAND, *columns.categorical, *columns.seen_categorical)
    listed = sorted({text for x in splits for text in x.shares or {}})
    if name in categories and name not in columns.pii and 0 < len(listed) <= values:
        feature.string_domain.value.extend(listed)
    if name in columns.seen_categorical and settings.drift_categories is not None:
        feature.drift_comparator.infinity_norm.threshold = settings.drift_categories
    if name in columns.seen_numeric and settings.drift_numbers is not None:
        feature.drift_comparator.jensen_shannon_divergence.threshold = settings.drift_numbers
    return feature


def _bound(feature: schema_pb2.Feature) -> None:
    """Ranges of Heft's own columns."""
    if feature.name in _FLAGS:
        feature.int_domain.min, feature.int_domain.max = 0, 1
    elif feature.name == f.POSITION:
        feature.int_domain.min = 1
    elif feature.name in _SHARES:
        feature.float_domain.min, feature.float_domain.max = 0, 1
    elif feature.name in _NOT_NEGATIVE:
        feature.float_domain.min = 0


@dataclass(frozen=True)
class Difference:
    """One feature that is not as the schema says.

    Attributes:
        feature: its name.
        anomalies: what the gate would say of it, over all splits.
    """

    feature: str
    anomalies: tuple[Anomaly, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """For a console: `+` is not in the schema, `-` not in the data, `~` is different."""
        found: dict[str, None] = {}
        for one in self.anomalies:
            mark = {"unknown column": "+", "missing column": "-"}.get(one.kind, "~")
            text = f"{mark} {one.feature}: {one.kind}: expected {one.expected}; {one.came}"
            if one.rows is not None and one.kind != "missing column":
                text += f"; {one.rows:,} {'row' if one.rows == 1 else 'rows'}"
            if one.examples:
                text += f"; such as {', '.join(one.examples)}"
            found[text + f" ({one.split})"] = None
        return tuple(found)


def differences(anomalies: Iterable[Anomaly]) -> list[Difference]:
    """Anomalies of the schema by feature, in the order in which they come."""
    by_feature: dict[str, list[Anomaly]] = {}
    for one in anomalies:
        by_feature.setdefault(one.feature, []).append(one)
    return [Difference(name, tuple(found)) for name, found in by_feature.items()]


def accepted(
    text: str,
    statistics: BySplit,
    names: Sequence[str],
    columns: LogColumns,
    settings: GateSettings,
) -> str:
    """The schema's text, widened so that the data of the features named is allowed.

    A missing column may be absent from then on; a new one is taken up as `inferred` would;
    ranges, values and types are widened by TensorFlow Data Validation. What else the text
    says stays as it is.

    Args:
        text: of the schema.
        statistics: of each split.
        names: features that differ.
        columns: of the log and the model.
        settings: as of `inferred`.

    Raises:
        InputError: a name does not differ, or what is wrong with it is not for a schema to allow.
    """
    schema = parsed(text)
    kinds = _kinds(schema, statistics)
    if unknown := sorted(set(names) - set(kinds)):
        raise InputError(
            f"{', '.join(unknown)}: nothing to accept; expected some of "
            f"{sorted(kinds) or 'none, as the data is what the schema says'}"
        )
    found = _over_splits(statistics)
    changed: dict[str, schema_pb2.Feature] = {}
    domains: dict[str, schema_pb2.StringDomain] = {}
    for name in _ordered(dict.fromkeys(names), columns):
        if name in columns.pii and "unexpected values" in kinds[name]:
            raise InputError(
                f"{name} is a column of persons, and its values are not for git: take its "
                "string_domain out of the schema by hand"
            )
        if "unknown column" not in kinds[name] and name not in {x.name for x in schema.feature}:
            raise _stubborn(name, kinds[name])
        if "unknown column" in kinds[name]:
            changed[name] = _inferred(name, found[name], columns, settings, values=0)
        else:
            feature, domain = _widened(name, schema, statistics, kinds[name])
            changed[name] = feature
            if domain is not None:
                domains[domain.name] = domain
    new = changed_text(text, changed, domains)
    left = _kinds(parsed(new), statistics)
    for name in changed:
        if name in left:
            raise _stubborn(name, left[name])
    return new


def _stubborn(name: str, kinds: set[str]) -> InputError:
    return InputError(
        f"{name}: {', '.join(sorted(kinds))} cannot be accepted by widening; review the schema by "
        "hand"
    )


def _kinds(schema: schema_pb2.Schema, statistics: BySplit) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for split, observed in statistics.items():
        for finding in check_schema(split, observed, schema):
            found.setdefault(finding.anomaly.feature, set()).add(finding.anomaly.kind)
    return found


def _widened(
    name: str, schema: schema_pb2.Schema, statistics: BySplit, kinds: set[str]
) -> tuple[schema_pb2.Feature, schema_pb2.StringDomain | None]:
    """The feature as all splits need it, and the domain that it shares, if it does."""
    wider = schema_pb2.Schema()
    wider.CopyFrom(schema)
    for observed in statistics.values():
        wider = tfdv.update_schema(wider, observed, max_string_domain_size=_LARGEST_DOMAIN)
    feature, own = (_named(x, name) for x in (wider, schema))
    feature.presence.CopyFrom(own.presence)
    if "missing column" in kinds:
        feature.CopyFrom(own)
        feature.presence.Clear()
        feature.presence.min_count = 0
    elif "missing values" in kinds:
        there = [columns_of(observed).get(name, Column()) for observed in statistics.values()]
        least = min(x.there / x.rows if x.rows else 0.0 for x in there)
        feature.presence.min_fraction = math.floor(100 * least) / 100
        feature.presence.min_count = min(feature.presence.min_count, *(x.there for x in there))
    domain = None
    if feature.WhichOneof("domain_info") == "domain":
        values = sorted(domain_of(feature, wider))
        domain = schema_pb2.StringDomain(name=feature.domain, value=values)
    elif feature.WhichOneof("domain_info") == "string_domain":
        values = sorted(feature.string_domain.value)
        del feature.string_domain.value[:]
        feature.string_domain.value.extend(values)
    return feature, domain


def _named(schema: schema_pb2.Schema, name: str) -> schema_pb2.Feature:
    return next(feature for feature in schema.feature if feature.name == name)
