"""Everything AnomalyGate does, over folders."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from heft import features as f
from heft.examples import Feature, shard_paths
from heft.gate.anomaly import HIDDEN, Anomaly
from heft.gate.comparing import Measured, compare, too_small, with_defaults
from heft.gate.findings import Findings, Passed
from heft.gate.labels import LabelCounts, check_labels, count_labels, with_orphans
from heft.gate.leaks import KnownLabel, leaks, measure_columns
from heft.gate.offences import log_features, with_rows
from heft.gate.schema_checks import check_schema
from heft.gate.served import serving_statistics
from heft.gate.settings import GateSettings, LogColumns
from heft.gate.statistics import Statistics, columns_of, rows_of, validated
from heft.logs.privacy import REDACTIONS, redact

__all__ = ["Span", "inspect"]

SERVING = "serving"
# What the schema says of a column that is not there need not be said as drift.
_GONE = ("missing column", "missing values")


@dataclass(frozen=True)
class Span:
    """What the gate looks at.

    Attributes:
        number: of the newest span that was read.
        examples: folder of each split.
        statistics: of the splits that have any.
        schema: that they must keep to.
        streams: what ingest says of each stream, as in the Quarantine's `summary.json`.
    """

    number: int
    examples: Mapping[str, str]
    statistics: Mapping[str, Statistics]
    schema: schema_pb2.Schema
    streams: Mapping[str, Any] = field(default_factory=dict)


def inspect(
    span: Span, passed: Sequence[Passed], settings: GateSettings, columns: LogColumns
) -> Findings:
    """Holds a span against the schema, the spans before it, what is asked, and itself.

    Args:
        span: see there.
        passed: the last spans that passed, at most one of each number; empty for a first one.
        settings: thresholds.
        columns: of the log and the model.

    Raises:
        InputError: serving statistics or logs cannot be read.
    """
    earlier = sorted(passed, key=lambda one: -one.span)
    shards = {split: shard_paths(uri) for split, uri in span.examples.items()}
    schema = with_defaults(span.schema, settings, columns)
    served = None
    if settings.serving is not None:
        served = serving_statistics(settings.serving, columns)
    notes = _notes(earlier, settings, columns, served)
    anomalies: list[Anomaly] = []
    measured: list[Measured] = []
    features = log_features(columns)
    for split, observed in span.statistics.items():
        findings = check_schema(split, observed, span.schema, columns.pii)
        gone = {x.anomaly.feature for x in findings if x.anomaly.kind in _GONE}
        for other, against in _others(split, earlier, served):
            if too_small(observed, other, settings.min_rows):
                sizes = f"{rows_of(observed):,} and {rows_of(other):,} rows"
                notes.append(
                    f"{split} is not compared with {against}: {sizes}, and "
                    f"gate.min_rows={settings.min_rows}"
                )
                continue
            drifted, sizes_of = compare(split, observed, other, against, schema, settings, columns)
            findings += [one for one in drifted if one.anomaly.feature not in gone]
            measured += sizes_of
        anomalies += with_rows(
            findings, shards.get(split, ()), features, columns.pii, settings.examples
        )
    labels, usual, of_labels = _labels(span, shards, earlier, settings, columns.window)
    known, of_leaks = _known(span, shards, features, settings, columns)
    return Findings(
        span=span.number,
        anomalies=tuple(anomalies + of_labels + of_leaks),
        notes=tuple(notes),
        compared_with=tuple(one.span for one in earlier),
        measured=tuple(measured),
        labels=labels,
        usual=usual,
        known_labels=tuple(known),
        statistics=span.statistics,
        differences=_differences(span, columns.pii),
    )


def _notes(
    earlier: Sequence[Passed],
    settings: GateSettings,
    columns: LogColumns,
    served: Statistics | None,
) -> list[str]:
    """What is not checked, and why."""
    notes = []
    if not columns.reviewed:
        notes.append(
            "the schema was inferred from this very span, which finds nothing in it: "
            "`heft schema infer` writes one to review, for schema_dir"
        )
    if not earlier:
        why = "no span before it has passed: drift and labels are compared with nothing"
        if settings.since is not None:
            why = f"no span from gate.since={settings.since} on and before it has passed"
        elif not columns.names_spans:
            why = (
                "the log's paths name no span, so that there is none before it: give each "
                "delivery a number with --span to have them compared"
            )
        notes.append(why)
    if served is None:
        notes.append("no serving data under gate.serving: skew is not measured")
    return notes


def _others(
    split: str, earlier: Sequence[Passed], served: Statistics | None
) -> list[tuple[Statistics, str]]:
    """What a split is compared with, and how that is called."""
    found = []
    before = earlier[0].statistics(split) if earlier else None
    if before is not None:
        found.append((before, f"span {earlier[0].span}"))
    if served is not None and split == f.TRAIN:
        found.append((served, SERVING))
    return found


def _labels(
    span: Span,
    shards: Mapping[str, Sequence[str]],
    earlier: Sequence[Passed],
    settings: GateSettings,
    window: int,
) -> tuple[LabelCounts, LabelCounts | None, list[Anomaly]]:
    """Of a window of several spans the newest part alone: what is wrong there would be lost
    among the others, which have been looked at before."""
    logged = [path for split, paths in shards.items() if split != f.GRADED for path in paths]
    after = float("-inf")
    if window > 1:
        found = [columns_of(one).get(f.TIMESTAMP) for one in span.statistics.values()]
        times = [time for one in found if one for time in (one.low, one.high)]
        after = max(times) - (max(times) - min(times)) / window if times else after
    now = with_orphans(count_labels(logged, after), span.streams.get("clicks"))
    usual = LabelCounts.pooled([one.labels for one in earlier]) if earlier else None
    return now, usual, check_labels(now, usual, settings.labels)


def _known(
    span: Span,
    shards: Mapping[str, Sequence[str]],
    features: Mapping[str, Feature],
    settings: GateSettings,
    columns: LogColumns,
) -> tuple[list[KnownLabel], list[Anomaly]]:
    """Of the columns that the model sees, the position and both texts included."""
    names = (*columns.seen_categorical, *columns.seen_numeric, f.POSITION, f.QUERY, f.TITLE)
    seen = [features[name] for name in dict.fromkeys(names)]
    seen += [Feature(name, float, width=columns.vectors[name]) for name in columns.seen_vectors]
    train = shards.get(f.TRAIN, ())
    known = measure_columns(
        train, rows_of(span.statistics.get(f.TRAIN)), seen, settings.leaks,
        columns.pii, settings.examples,
    )  # fmt: skip
    return known, leaks(known, settings.leaks)


def _differences(span: Span, pii: Collection[str]) -> dict[str, anomalies_pb2.Anomalies]:
    """What TFDV says of each split, where it quotes values redacted as the table is."""
    found = {}
    for split, statistics in span.statistics.items():
        result = validated(statistics, span.schema)
        for name, info in result.anomaly_info.items():
            for part in (info, *info.reason):
                text = redact(part.description, REDACTIONS)
                part.description = HIDDEN if name in pii and text else text
        found[split] = result
    return found
