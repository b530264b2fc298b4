"""The steps of the scoring pipeline: read and predict, rank a bucket of groups."""

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam import pvalue
from apache_beam.utils.shared import Shared

from heft import features as f
from heft.errors import DataError
from heft.logs.encoding import join_items
from heft.logs.fields import CATALOGUE
from heft.logs.files import LogFile, resolve_spans, stream_files
from heft.logs.guarding import Guard
from heft.logs.hashing import hash_ids
from heft.logs.reading import read_batches
from heft.logs.tables import Slice, Spill, unpacked
from heft.scoring.model import ScoredModel
from heft.scoring.settings import KEPT, ScoreSettings

__all__ = ["COUNTS", "QUARANTINED", "RANK", "SCORE", "SCORED", "PredictFile", "RankBucket", "shard"]

SCORED, COUNTS, QUARANTINED = "scored", "counts", "quarantined"  # outputs of the first step
SCORE, RANK = "score", "rank"
_GROUP, _FILE, _ROW = "_group", "source", "row"
_KEPT_ORDER = (*KEPT, f.CTR, f.CVR, f.CTCVR, SCORE, RANK, _FILE, _ROW)


class PredictFile(beam.DoFn):
    """One file → its rows with predictions, in slices by bucket of their group.

    Args:
        settings: the job.
        group: `request_id` or `query`.
        buckets: of groups.
        shuffle: a folder that every worker reaches.
    """

    def __init__(self, settings: ScoreSettings, group: str, buckets: int, shuffle: str) -> None:
        self._settings = settings
        self._group, self._buckets, self._shuffle = group, buckets, shuffle
        self._shared = Shared()

    def setup(self) -> None:
        """Loads model and catalogue once in each worker process."""
        loaded = self._shared.acquire(
            lambda: _Loaded(ScoredModel(self._settings.model), _catalogue(self._settings))
        )
        self._model, self._catalogue = loaded.model, loaded.catalogue

    def process(self, file: LogFile) -> Iterator[Any]:
        """Yields the tagged outputs named above."""
        settings, counts, rejected = self._settings, Counter[str](), io.BytesIO()
        guard = Guard((), settings.logs.privacy.redact)
        with (
            gzip.GzipFile(fileobj=rejected, mode="wb", mtime=0) as lines,
            Spill(self._shuffle, self._buckets) as spill,
        ):
            for batch in read_batches(file, settings.stream, settings.fields, guard):
                counts["read"] += batch.read
                for row in batch.rejected:
                    counts[f"quarantined: {row.reason}"] += 1
                    facts = {"source": file.name, "line": row.line, "reason": row.reason,
                             "raw": row.raw}  # fmt: skip
                    lines.write(json.dumps(facts, ensure_ascii=False).encode() + b"\n")
                if len(batch.places):
                    table, unknown = self._scored(pa.table(batch.columns))
                    counts["scored"] += table.num_rows
                    counts["unknown_items"] += unknown
                    yield from self._slices(file, table, batch.places, spill)
        if any(name.startswith("quarantined") for name in counts):
            yield pvalue.TaggedOutput(QUARANTINED, (file.number, rejected.getvalue()))
        yield pvalue.TaggedOutput(COUNTS, dict(counts))

    def _scored(self, table: pa.Table) -> tuple[pa.Table, int]:
        extra = [name for name in self._model.inputs if name not in KEPT]
        table, _ = join_items(table, self._catalogue, extra)
        unknown = self._unknown(table)
        answers = self._model.predict(table)
        numbers = {
            name: answers[name] if name in answers else _numbers(table, name)
            for name in self._settings.by.names
        }
        scores = np.broadcast_to(self._settings.by(numbers), table.num_rows)
        columns = {name: _texts(table, name) for name in KEPT}
        columns |= {name: pa.array(values) for name, values in answers.items()}
        return pa.table(columns | {SCORE: pa.array(scores)}), unknown

    def _unknown(self, table: pa.Table) -> int:
        """Rows whose item the catalogue lacks, and whose title is not known therefore."""
        if self._catalogue is None:
            return 0
        titles, items = _texts(table, f.TITLE), _texts(table, f.ITEM_ID)
        nameless = pc.and_(pc.equal(titles, ""), pc.not_equal(items, ""))
        return int(pc.sum(nameless).as_py() or 0)

    def _slices(
        self, file: LogFile, table: pa.Table, places: np.ndarray, spill: Spill
    ) -> Iterator[Any]:
        group = table.column(self._group).combine_chunks()
        table = table.append_column(_GROUP, group)
        table = table.append_column(_FILE, pa.array([file.name] * table.num_rows))
        table = table.append_column(_ROW, pa.array(places.astype(np.int64)))
        for bucket, (_, part) in spill.slices(SCORED, table, hash_ids(group)):
            yield bucket, part


@dataclass(frozen=True)
class _Loaded:
    """What a worker process holds once."""

    model: ScoredModel
    catalogue: pa.Table | None


class RankBucket(beam.DoFn):
    """The rows of a bucket of groups → one Parquet file, each group in its order.

    Args:
        folder: of the output.
        buckets: of groups.
        top: candidates of a group to keep; 0 keeps all.
    """

    def __init__(self, folder: str, buckets: int, top: int) -> None:
        self._folder, self._buckets, self._top = folder, buckets, top

    def process(self, bucketed: tuple[int, Iterable[Slice]]) -> Iterator[dict[str, int]]:
        """Yields the counts of what was written."""
        bucket, parts = bucketed
        table = unpacked(parts)
        keys = [(_GROUP, "ascending"), (SCORE, "descending"), (_FILE, "ascending"),
                (_ROW, "ascending")]  # fmt: skip
        table = table.take(pc.sort_indices(table, keys))
        groups = table.column(_GROUP).combine_chunks().dictionary_encode().indices.to_numpy()
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        rank = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups))) + 1
        table = table.append_column(RANK, pa.array(rank)).select(_KEPT_ORDER)
        if self._top:
            table = table.filter(pa.array(rank <= self._top))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        with tf.io.gfile.GFile(f"{self._folder}/{shard(bucket, self._buckets)}", "wb") as out:
            out.write(buffer.getvalue())
        yield {"groups": len(starts), "written": table.num_rows}


def shard(bucket: int, buckets: int) -> str:
    """The name of a bucket's file."""
    return f"scores-{bucket:05d}-of-{buckets:05d}.parquet"


def _catalogue(settings: ScoreSettings) -> pa.Table | None:
    """The items of the log's catalogue, the last row of each; None where it has none."""
    logs = settings.logs
    own = logs.stream(CATALOGUE)
    if own is None:
        return None
    try:
        files = stream_files(logs, CATALOGUE, resolve_spans(logs))
    except DataError:
        return None  # the logs are elsewhere; the candidates have their titles, or none
    fields = logs.fields_of(CATALOGUE)
    tables = [
        pa.table(batch.columns) for file in files for batch in read_batches(file, own, fields)
    ]
    table = pa.concat_tables(tables)
    ids = table.column(f.ITEM_ID).to_pylist()
    last = {item: row for row, item in enumerate(ids)}
    return table.take(pa.array(sorted(last.values())))


def _texts(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.array([""] * table.num_rows)
    return table.column(name).combine_chunks().cast(pa.string()).fill_null("")


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """float64 (rows,), NaN where there is none."""
    column = table.column(name).combine_chunks().cast(pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False))
