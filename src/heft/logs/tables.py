"""Arrow tables on their way between the steps of ingest."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from heft.logs.attribution import FILE, HASH, ROW
from heft.logs.canonical import canonical_columns
from heft.logs.settings import LogsSettings

__all__ = ["bucket_slices", "empty_table", "packed", "unpacked"]


def bucket_slices(
    stream: str, table: pa.Table, hashes: np.ndarray, buckets: int
) -> Iterator[tuple[int, tuple[str, bytes]]]:
    """The rows of each bucket that has some, packed, with the stream they are of.

    Args:
        stream: goes with each slice.
        table: rows in any order, which slices keep.
        hashes: (rows,) uint64; the remainder is the bucket.
        buckets: how many there are.
    """
    bucket = (hashes % np.uint64(buckets)).astype(np.int64)
    table = table.take(pa.array(np.argsort(bucket, kind="stable")))
    ends = np.cumsum(np.bincount(bucket, minlength=buckets))
    for number, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if end > first:
            yield number, (stream, packed(table.slice(int(first), int(end - first))))


def empty_table(stream: str, settings: LogsSettings) -> pa.Table:
    """The columns that rows of a stream travel with, and no row."""
    none, _ = canonical_columns({}, settings.fields_of(stream), "ms", 0)
    table = pa.table(none)
    for name, kind in ((FILE, pa.int32()), (ROW, pa.int64()), (HASH, pa.uint64())):
        table = table.append_column(name, pa.array([], kind))
    return table


def packed(table: pa.Table) -> bytes:
    """A table as bytes."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def unpacked(blobs: Iterable[bytes]) -> pa.Table:
    """Tables of the same columns as one."""
    return pa.concat_tables([pa.ipc.open_stream(blob).read_all() for blob in blobs])
