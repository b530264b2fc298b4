"""The Quarantine artifact: the rejected rows, and what became of all others."""

import gzip
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf

from heft import features
from heft.errors import GateError
from heft.logs.attribution import ATTRIBUTED, CONFLICTING, DUPLICATES
from heft.logs.fields import CLICKS, CONVERSIONS, IMPRESSIONS
from heft.logs.planning import Plan
from heft.logs.report import (
    IngestReport,
    StreamReport,
    check_conflict_rate,
    check_orphans,
)

__all__ = [
    "NOTE",
    "NO_HISTORY",
    "NO_VECTOR",
    "SPLIT",
    "UNKNOWN_ITEMS",
    "Counts",
    "add_counts",
    "write_quarantine",
]

# (stream or `SPLIT`, what became of the row) → rows
Counts = Counter[tuple[str, str]]
SPLIT, UNKNOWN_ITEMS = "split", "unknown items"
NO_VECTOR, NO_HISTORY = "no vector", "no history"
PAST = "past the end"  # a note: events that the end of the log was not judged by
NOTE = "note"  # beside: what rows that are counted elsewhere have in common

Rejected = tuple[tuple[int, int], bytes]


def add_counts(parts: Iterable[Mapping[tuple[str, str], int]]) -> Counts:
    """Sums counts."""
    total: Counts = Counter()
    for part in parts:
        total.update(part)
    return total


def write_quarantine(
    counts: Mapping[tuple[str, str], int],
    plan: Plan,
    rejected: Iterable[Rejected],
    uri: str,
    spans: Sequence[int],
    max_conflict_rate: float = 1.0,
) -> None:
    """Writes `quarantine.jsonl.gz`, in the order of streams, files and lines, and `summary.json`.

    Args:
        counts: of all buckets and the catalogue.
        plan: what was read, and why nothing was written, if so.
        rejected: ((stream, file), gzipped lines); gzip members may be strung together.
        uri: the folder to write to.
        spans: what was read, ascending.
        max_conflict_rate: of the impressions; more of them are a problem, as are events all of
            which are orphans.
    """
    counts = Counter(counts)  # Beam's coders hand back a plain dict
    members = [lines for _, lines in sorted(rejected)] or [gzip.compress(b"", mtime=0)]
    with tf.io.gfile.GFile(f"{uri}/quarantine.jsonl.gz", "wb") as handle:
        for lines in members:
            handle.write(lines)
    streams = {name: _stream(name, counts, plan) for name in sorted(plan.read)}
    problem, gated = plan.problem, plan.gated
    if problem is None and (found := _mismatched(streams, max_conflict_rate)):
        problem, gated = found, True
    splits = {name: counts[SPLIT, name] for name in features.SPLITS if counts[SPLIT, name]}
    missing = {name: n for (kind, name), n in sorted(counts.items()) if kind == NO_VECTOR}
    notes = {name: n for (kind, name), n in sorted(counts.items()) if kind == NOTE and n}
    notes |= {PAST: plan.past} if plan.past else {}
    report = IngestReport(
        span=spans[-1], window=len(spans), streams=streams, splits=splits,
        unknown_items=counts[UNKNOWN_ITEMS, ""], missing_vectors=missing or None,
        rows_without_history=counts.get((NO_HISTORY, "")), notes=notes or None,
        end_of_data=plan.end_of_data, problem=problem, gated=gated,
    )  # fmt: skip
    with tf.io.gfile.GFile(f"{uri}/summary.json", "w") as handle:
        optional = ("missing_vectors", "rows_without_history", "notes")
        unasked = {name for name in optional if getattr(report, name) is None}
        handle.write(report.model_dump_json(indent=2, exclude=unasked) + "\n")


def _mismatched(streams: Mapping[str, StreamReport], max_conflict_rate: float) -> str | None:
    """Why ids do not bring together what belongs together; None if they do."""
    try:
        if shown := streams.get(IMPRESSIONS):
            check_conflict_rate(shown.read, shown.conflicting, max_conflict_rate)
        for name in (CLICKS, CONVERSIONS):
            if events := streams.get(name):
                check_orphans(name, events.written, events.unattributed)
    except GateError as error:
        return str(error)
    return None


def _stream(name: str, counts: Mapping[tuple[str, str], int], plan: Plan) -> StreamReport:
    own: Mapping[str, int] = {kind: n for (stream, kind), n in counts.items() if stream == name}
    elsewhere = (ATTRIBUTED, DUPLICATES, CONFLICTING)
    return StreamReport(
        read=plan.read[name],
        written=own.get(ATTRIBUTED, 0),
        duplicates=own.get(DUPLICATES, 0),
        conflicting=own.get(CONFLICTING, 0),
        quarantined=sum(plan.reasons[name].values()),
        unattributed={kind: n for kind, n in sorted(own.items()) if kind not in elsewhere and n},
        reasons=plan.reasons[name],
    )
