"""Ingest as one Beam pipeline.

Files are read as Arrow record batches, which are written to disk in slices, one per hash
bucket of the impression id; where they lie is what travels. Beside them go the narrow
facts (latest time, one time per request, counts) from which one small plan is
made, before anything is joined or written.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam import pvalue
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from heft.errors import DataError, GateError
from heft.logs.fields import STREAMS
from heft.logs.files import stream_files
from heft.logs.histories import ByUser, Histories
from heft.logs.planning import Plan, make_plan
from heft.logs.preflight import Preflight, preflight
from heft.logs.report import IngestReport
from heft.logs.settings import LogsSettings
from heft.logs.shards import (
    BUCKETED,
    FACTS,
    ITEMS,
    NARROW,
    REJECTED,
    MergeCatalogue,
    ReadLog,
    WriteBucket,
)
from heft.logs.summary import Counts, add_counts, write_quarantine
from heft.logs.tables import Slice

__all__ = ["ingest", "local_pipeline"]

_SHUFFLE = ".shuffle"
Bucketed = tuple[int, tuple[str, Slice]]


def local_pipeline() -> beam.Pipeline:
    """A pipeline in this process. Beam's `DirectRunner` would first try to
    download the Prism runner; this one it falls back to."""
    return beam.Pipeline(runner=FnApiRunner())


def ingest(
    settings: LogsSettings,
    split_uris: Mapping[str, str],
    quarantine_uri: str,
    make_pipeline: Callable[[], Any] = local_pipeline,
) -> IngestReport:
    """Reads a span of logs and writes joined examples, split by split.

    The same files and settings give the same bytes, however the work was
    spread.

    Args:
        settings: where the log is and how to read it.
        split_uris: a folder for each name in `heft.features.SPLITS`. A split
            without rows gets no folder.
        quarantine_uri: folder for `quarantine.jsonl.gz` (one object per row:
            stream, source, line, reason, raw) and `summary.json`.
        make_pipeline: makes the Beam pipeline to run on.

    Raises:
        ConfigError: the log has columns of persons, and there is no key to hash them with.
        DataError: the log cannot be read, or a split would be empty.
        GateError: more than `max_quarantine_rate` of a stream cannot be used, more than
            `max_conflict_rate` of the impressions have the id of another, or no event has that
            of an impression. As with DataError no split is written; the quarantine is.
    """
    # Made first: its options tell Beam's file systems where they are.
    pipeline = make_pipeline()
    looked = preflight(settings)
    files = [file for stream in STREAMS for file in stream_files(settings, stream, looked.spans)]
    tf.io.gfile.makedirs(quarantine_uri)
    places = _Places(dict(split_uris), quarantine_uri, f"{quarantine_uri}/{_SHUFFLE}")
    # What a run left that was killed.
    _clear(places.shuffle)
    try:
        with _imports_set_aside(), pipeline:
            _build(pipeline, files, settings, places, looked)
    finally:
        _clear(places.shuffle)
    return _outcome(places)


@dataclass(frozen=True)
class _Places:
    """Folders that every worker reaches."""

    splits: dict[str, str]
    quarantine: str
    shuffle: str


@contextmanager
def _imports_set_aside() -> Iterator[None]:
    """Keeps the objects there are, most of them of TensorFlow's modules, out of the collector's
    way: each of its full passes would walk them all, which takes as long as 50,000 rows do."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _clear(folder: str) -> None:
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)


def _build(
    pipeline: Any, files: list[Any], settings: LogsSettings, places: _Places, looked: Preflight
) -> None:
    buckets = settings.buckets or looked.buckets
    tags = (BUCKETED, FACTS, ITEMS, REJECTED, *([NARROW] if settings.computes_history else []))
    read = (
        pipeline
        | "Files" >> beam.Create(files)
        | "Read"
        >> beam.ParDo(ReadLog(settings, buckets, places.shuffle, looked.persons)).with_outputs(
            *tags
        )
    )
    # Side inputs of one element, since a global combine is a dozen steps to the runner.
    once = pipeline | "Once" >> beam.Impulse()
    plan = once | "Plan" >> beam.Map(
        lambda _, facts: make_plan(facts, settings), pvalue.AsList(read[FACTS])
    ).with_output_types(Plan)
    catalogue = once | "Catalogue" >> beam.ParDo(
        MergeCatalogue(), pvalue.AsList(read[ITEMS])
    ).with_outputs(FACTS, main=ITEMS)
    # A bucket without rows writes its empty shards, so that every split has all.
    empty = pipeline | "Buckets" >> beam.Create(
        [(bucket, ("", ("", 0, 0))) for bucket in range(buckets)], reshuffle=False
    ).with_output_types(Bucketed)
    histories = (
        _histories(read[NARROW], plan, catalogue[ITEMS], settings, buckets, places.shuffle)
        if (settings.computes_history)
        else ()
    )
    written = (
        (read[BUCKETED], empty, *histories)
        | beam.Flatten()
        | "ByBucket" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(
            WriteBucket(settings, buckets, places.splits),
            pvalue.AsSingleton(plan), pvalue.AsSingleton(catalogue[ITEMS]),
        )
    )  # fmt: skip
    _ = once | "Summary" >> beam.Map(
        _summarised, pvalue.AsIter(written), pvalue.AsIter(catalogue[FACTS]),
        pvalue.AsSingleton(plan), pvalue.AsIter(read[REJECTED]), places.quarantine, looked.spans,
        settings.max_conflict_rate,
    )  # fmt: skip


def _summarised(
    _: bytes, buckets: Iterable[Counts], items: Iterable[Counts], plan: Plan, *rest: Any
) -> None:
    write_quarantine(add_counts([*buckets, *items]), plan, *rest)


def _histories(
    narrow: Any, plan: Any, items: Any, settings: LogsSettings, buckets: int, shuffle: str
) -> tuple[Any, ...]:
    """What users had clicked before their impressions, by bucket of the impression."""
    return (
        narrow
        | "NarrowByBucket" >> beam.GroupByKey()
        | "JoinNarrow" >> beam.ParDo(
            ByUser(settings, buckets, shuffle), pvalue.AsSingleton(plan), pvalue.AsSingleton(items)
        )
        | "ByUser" >> beam.GroupByKey()
        | "Histories" >> beam.ParDo(Histories(settings, buckets, shuffle)),
    )  # fmt: skip


def _outcome(places: _Places) -> IngestReport:
    """Reads the summary the pipeline left, and raises what it decided."""
    with tf.io.gfile.GFile(f"{places.quarantine}/summary.json", "r") as handle:
        report = IngestReport.model_validate_json(handle.read())
    if report.problem is not None:
        # That ids do not fit is known only once rows are joined, and these are written by then.
        if any(stream.written for stream in report.streams.values()):
            for folder in places.splits.values():
                _clear(folder)
        raise (GateError if report.gated else DataError)(report.problem)
    report.check_balance()
    return report
