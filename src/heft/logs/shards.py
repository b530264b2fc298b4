"""The steps of the ingest pipeline: read, merge the catalogue, write a bucket."""

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from apache_beam import pvalue

from heft import features
from heft.errors import ConfigError, DataError
from heft.logs import attribution, encoding, fields
from heft.logs.attribution import (
    ATTRIBUTED,
    CLICK_TIME,
    CONFLICTING,
    DUPLICATES,
    FILE,
    HASH,
    ROW,
    Joined,
)
from heft.logs.files import LogFile
from heft.logs.guarding import Guard
from heft.logs.hashing import hash_ids
from heft.logs.histories import HISTORY, NARROW_COLUMNS, with_history
from heft.logs.planning import Plan, ReadFacts
from heft.logs.reading import Batch, read_batches
from heft.logs.settings import LogsSettings
from heft.logs.splitting import (
    IMPRESSION_SPLITS,
    RequestTimes,
    SplitPlan,
    kept_negatives,
    row_places,
)
from heft.logs.summary import NO_HISTORY, NO_VECTOR, NOTE, SPLIT, UNKNOWN_ITEMS, Counts
from heft.logs.tables import Slice, Spill, empty_table, packed, unpacked
from heft.record_files import write_shards

__all__ = [
    "BUCKETED", "FACTS", "ITEMS", "NARROW", "REJECTED", "MergeCatalogue", "ReadLog", "WriteBucket",
]  # fmt: skip

# Outputs of the reading step.
BUCKETED, FACTS, ITEMS, REJECTED = "bucketed", "facts", "items", "rejected"
SAMPLED_OUT = "sampled out"  # what became of an impression
NARROW = "narrow"  # what histories are made of

_JOINED = (fields.IMPRESSIONS, fields.CLICKS, fields.CONVERSIONS)
_NARROW = (fields.IMPRESSIONS, fields.CLICKS)


class ReadLog(beam.DoFn):
    """One file → slices of record batches by bucket, facts, and rejected rows."""

    def __init__(
        self, settings: LogsSettings, buckets: int, shuffle: str, persons: tuple[str, ...] = ()
    ) -> None:
        self._settings = settings
        self._buckets, self._shuffle = buckets, shuffle
        self._persons = persons

    def process(self, file: LogFile) -> Iterator[Any]:
        """Yields the tagged outputs named above."""
        stream = self._settings.stream(file.stream)
        if stream is None:
            raise ValueError(f"{file.stream} is not configured")
        columns = self._settings.fields_of(file.stream)
        facts = ReadFacts(file.stream, file.name, file.number)
        requests: list[RequestTimes] = []
        rejected = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=rejected, mode="wb", compresslevel=6, mtime=0) as lines,
            Spill(self._shuffle, self._buckets) as spill,
        ):
            try:
                # The key stays on the machine that reads: no worker is sent it.
                guard = Guard.of(self._settings.privacy, self._persons)
                for batch in read_batches(file, stream, columns, guard):
                    _note(facts, batch, lines, self._settings.end_ms)
                    if file.stream == fields.IMPRESSIONS and len(batch.places):
                        requests.append(_request_times(batch, self._settings.splits.by))
                    yield from self._slices(file, batch, spill)
            except (ConfigError, DataError) as error:
                facts.problem = str(error)
        facts.requests = RequestTimes.merged(requests)
        if facts.reasons:
            key = (fields.STREAMS.index(file.stream), file.number)
            yield pvalue.TaggedOutput(REJECTED, (key, rejected.getvalue()))
        yield pvalue.TaggedOutput(FACTS, facts)

    def _slices(self, file: LogFile, batch: Batch, spill: Spill) -> Iterator[Any]:
        rows = len(batch.places)
        if not rows:
            return
        table = pa.table(batch.columns)
        table = table.append_column(FILE, pa.array(np.full(rows, file.number, np.int32)))
        table = table.append_column(ROW, pa.array(batch.places.astype(np.int64)))
        if file.stream == fields.CATALOGUE:
            yield pvalue.TaggedOutput(ITEMS, (file.number, packed(table)))
            return
        hashes = hash_ids(_key(table, file.stream))
        if file.stream in (fields.IMPRESSIONS, fields.GRADES):
            table = table.append_column(HASH, pa.array(hashes))
        for bucketed in spill.slices(file.stream, table, hashes):
            yield pvalue.TaggedOutput(BUCKETED, bucketed)
        if self._settings.computes_history and file.stream in _NARROW:
            narrow = table.select([n for n in NARROW_COLUMNS if n in table.column_names])
            for bucketed in spill.slices(file.stream, narrow, hashes):
                yield pvalue.TaggedOutput(NARROW, bucketed)


class MergeCatalogue(beam.DoFn):
    """All items as one table, the first row of each id; b"" if there is no catalogue."""

    def process(self, once: bytes, parts: Sequence[tuple[int, bytes]]) -> Iterator[Any]:
        """Yields the packed table, and the counts under `FACTS`."""
        if not parts:
            yield b""
            return
        table = unpacked([part for _, part in parts])
        rows = table.num_rows
        table = table.sort_by([(FILE, "ascending"), (ROW, "ascending")])
        codes = table.column(features.ITEM_ID).combine_chunks().dictionary_encode().indices
        _, first = np.unique(codes.to_numpy(), return_index=True)
        table = table.take(pa.array(np.sort(first)))
        yield packed(table)
        yield pvalue.TaggedOutput(FACTS, Counter({
            (fields.CATALOGUE, ATTRIBUTED): table.num_rows,
            (fields.CATALOGUE, DUPLICATES): rows - table.num_rows,
        }))  # fmt: skip


class WriteBucket(beam.DoFn):
    """All rows of one bucket → one shard per split."""

    def __init__(self, settings: LogsSettings, buckets: int, split_uris: dict[str, str]) -> None:
        self._settings = settings
        self._buckets = buckets
        self._split_uris = split_uris
        self._extra = (*settings.categorical, *settings.numeric, *settings.vectors)
        roles = (settings.categorical, settings.numeric, tuple(settings.vectors))
        self._columns = encoding.example_columns(*roles)
        self._graded_columns = encoding.graded_columns(*roles)

    def process(
        self,
        bucketed: tuple[int, Iterable[tuple[str, Slice]]],
        plan: Plan,
        catalogue: bytes,
    ) -> Iterator[Counts]:
        """Yields what became of the rows; nothing is written without a plan for it."""
        bucket, slices = bucketed
        streams: dict[str, list[Slice]] = {}
        for stream, part in sorted(slices):
            streams.setdefault(stream, []).append(part)
        if plan.splits is None:
            return
        items = unpacked([catalogue]) if catalogue else None
        if plan.read.get(fields.GRADES):
            yield self._write_graded(bucket, streams.get(fields.GRADES, []), items)
        impressions, clicks, conversions = (
            self._table(stream, streams.get(stream, [])) for stream in _JOINED
        )
        joined = attribution.join_bucket(impressions, clicks, conversions, self._settings.rules)
        if self._settings.computes_history:
            table = with_history(joined.table, streams.get(HISTORY, []))
            joined = replace(joined, table=table)
        yield self._write_splits(bucket, joined, items, plan, plan.splits)

    def _table(self, stream: str, parts: list[Slice]) -> pa.Table:
        return unpacked(parts) if parts else empty_table(stream, self._settings)

    def _write_splits(
        self,
        bucket: int,
        joined: Joined,
        items: pa.Table | None,
        plan: Plan,
        splits: SplitPlan,
    ) -> Counts:
        table, unknown = encoding.join_items(joined.table, items, self._extra)
        shown = table.column(features.TIMESTAMP).to_numpy()
        clicked = table.column(CLICK_TIME).to_numpy()
        seconds = encoding.observation(
            np.where(clicked >= 0, clicked, shown),
            plan.end_of_data, self._settings.conversion_window,
        )  # fmt: skip
        table = table.append_column(features.OBSERVATION, pa.array(seconds))
        requests = hash_ids(table.column(features.REQUEST_ID).combine_chunks())
        split = splits.assign(
            requests, row_places(table, splits.by), table.column(features.RANDOMISED).to_numpy()
        )
        impressions = joined.impressions
        if self._settings.negative_rate < 1:
            table, kept = self._sampled(table, requests, split)
            split = split[kept]
            impressions = Counter({
                ATTRIBUTED: table.num_rows, SAMPLED_OUT: int((~kept).sum()),
                DUPLICATES: impressions[DUPLICATES], CONFLICTING: impressions[CONFLICTING],
            })  # fmt: skip
        counts: Counts = Counter({(UNKNOWN_ITEMS, ""): unknown})
        for name in self._settings.vectors:
            counts[NO_VECTOR, name] += table.column(name).null_count
        if self._settings.history:
            counts[NO_HISTORY, ""] += table.column(features.HISTORY).null_count
        counts.update({(NOTE, name): count for name, count in joined.notes.items()})
        shards = []
        for place, name in enumerate(IMPRESSION_SPLITS):
            if name in splits.requests:
                rows = table.filter(pa.array(split == place)).combine_chunks()
                counts[SPLIT, name] += rows.num_rows
                path = self._shard_path(name, bucket)
                shards.append(encoding.shard_of(rows, self._columns, path))
        write_shards(shards)
        for stream, outcomes in zip(
            _JOINED,
            (impressions, joined.clicks, joined.conversions),
            strict=True,
        ):
            counts.update({(stream, kind): count for kind, count in outcomes.items()})
        return counts

    def _sampled(
        self, table: pa.Table, requests: np.ndarray, split: np.ndarray
    ) -> tuple[pa.Table, np.ndarray]:
        """Rows that stay, with the probability that they did; and which did, (rows,)."""
        rate = self._settings.negative_rate
        happened = [table.column(name).to_numpy() for name in (features.CLICK, features.CONVERSION)]
        drawn = (split == IMPRESSION_SPLITS.index(features.TRAIN)) & ~np.any(happened, axis=0)
        kept = ~drawn | kept_negatives(requests, rate)
        sampling = pa.array(np.where(drawn, rate, 1.0).astype(np.float32))
        table = table.append_column(features.SAMPLING, sampling)
        return table.filter(pa.array(kept)), kept

    def _write_graded(self, bucket: int, parts: list[Slice], items: pa.Table | None) -> Counts:
        table = self._table(fields.GRADES, parts)
        rows = table.num_rows
        keys = _key(table, fields.GRADES)
        table = table.append_column(features.IMPRESSION_ID, keys)
        # The grades of a query are judged together, as a result page is.
        table = table.append_column(features.REQUEST_ID, table.column(features.QUERY))
        table = attribution.first_of_each(table, [ROW, FILE])
        table, unknown = encoding.join_items(table, items, self._extra)
        path = self._shard_path(features.GRADED, bucket)
        written = table.num_rows
        write_shards([encoding.shard_of(table, self._graded_columns, path)])
        return Counter({
            (SPLIT, features.GRADED): written, (UNKNOWN_ITEMS, ""): unknown,
            (fields.GRADES, ATTRIBUTED): written, (fields.GRADES, DUPLICATES): rows - written,
        })  # fmt: skip

    def _shard_path(self, split: str, bucket: int) -> str:
        folder = self._split_uris[split]
        tf.io.gfile.makedirs(folder)
        return f"{folder}/data_tfrecord-{bucket:05d}-of-{self._buckets:05d}.gz"


def _note(facts: ReadFacts, batch: Batch, lines: gzip.GzipFile, end: int | None) -> None:
    facts.read += batch.read
    if features.TIMESTAMP in batch.columns:
        facts.add_times(batch.columns[features.TIMESTAMP].to_numpy(), end)
    for row in batch.rejected:
        facts.reasons[row.reason] += 1
        if facts.first_rejected is None:
            facts.first_rejected = row.line
        entry = {"stream": facts.stream, "source": facts.source, "line": row.line}
        entry |= {"reason": row.reason, "raw": row.raw}
        lines.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        lines.write(b"\n")


def _request_times(batch: Batch, by: str) -> RequestTimes:
    return RequestTimes.of_rows(
        hash_ids(batch.columns[features.REQUEST_ID]),
        row_places(pa.table(batch.columns), by),
        batch.columns[features.RANDOMISED].to_numpy(),
    )


def _key(table: pa.Table, stream: str) -> pa.Array:
    """What rows of a stream are brought together by."""
    if stream == fields.GRADES:
        pair = (table.column(features.QUERY), table.column(features.ITEM_ID))
        return pc.binary_join_element_wise(*pair, "\t").combine_chunks()
    return table.column(features.IMPRESSION_ID).combine_chunks()
