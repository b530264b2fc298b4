"""Arrow tables on their way between the steps of ingest.

Rows do not travel through Beam. A step writes them to a file of the shuffle folder, which
every worker reaches, and what travels is where they lie; so memory follows the bucket and
not the log.
"""

import uuid
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import tensorflow as tf

from heft.logs.attribution import FILE, HASH, ROW
from heft.logs.canonical import canonical_columns
from heft.logs.settings import LogsSettings
from heft.logs.storage import is_remote

__all__ = ["Slice", "Spill", "empty_table", "packed", "unpacked"]

Slice = tuple[str, int, int]  # path, first byte, bytes
Bucketed = tuple[int, tuple[str, Slice]]


class Spill:
    """A file of the shuffle folder that one step on one worker writes.

    Its name is drawn, so that a step that is done twice does not overwrite what the first
    time may already be read from.

    Args:
        folder: the shuffle folder; made if need be.
        buckets: how many there are.
    """

    def __init__(self, folder: str, buckets: int) -> None:
        self._folder, self._buckets = folder, buckets
        self._path, self._place = f"{folder}/{uuid.uuid4().hex}", 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._file is not None:
            self._file.close()

    def slices(self, stream: str, table: pa.Table, hashes: np.ndarray) -> Iterator[Bucketed]:
        """Writes the rows of each bucket that has some, and yields where, with the stream.

        Args:
            stream: goes with each slice.
            table: rows in any order, which slices keep.
            hashes: (rows,) uint64; the remainder is the bucket.
        """
        bucket = (hashes % np.uint64(self._buckets)).astype(np.int64)
        table = table.take(pa.array(np.argsort(bucket, kind="stable")))
        ends = np.cumsum(np.bincount(bucket, minlength=self._buckets))
        for number, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > first:
                blob = packed(table.slice(int(first), int(end - first)))
                yield number, (stream, self._written(blob))

    def _written(self, blob: bytes) -> Slice:
        if self._file is None:
            tf.io.gfile.makedirs(self._folder)
            self._file = _open(self._path, "wb")
        self._file.write(blob)
        begun, self._place = self._place, self._place + len(blob)
        # What is yielded may be read before this step ends.
        self._file.flush()
        return self._path, begun, len(blob)


def _open(path: str, mode: str) -> Any:
    return tf.io.gfile.GFile(path, mode) if is_remote(path) else open(path, mode)


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


def unpacked(parts: Iterable[bytes | Slice]) -> pa.Table:
    """Tables of the same columns as one, from bytes or from where they were written."""
    return pa.concat_tables([pa.ipc.open_stream(blob).read_all() for blob in _blobs(parts)])


def _blobs(parts: Iterable[bytes | Slice]) -> Iterator[bytes]:
    path, file = "", None
    try:
        for part in parts:
            if isinstance(part, bytes):
                yield part
                continue
            own, begin, length = part
            if own != path or file is None:
                if file is not None:
                    file.close()
                path, file = own, _open(own, "rb")
            file.seek(begin)
            yield file.read(length)
    finally:
        if file is not None:
            file.close()
