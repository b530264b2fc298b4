"""Columns from TFRecord shards of `tf.Example`, without an object per record on the way.

`tf.io.parse_example` behind a TFRecordDataset copies each record four times. Here a shard is
inflated in chunks, and one loop goes over frames and wire format and writes numbers where
they belong.
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Protocol

import numpy as np
import tensorflow as tf

from heft.errors import DataError
from heft.wire_kernels import BYTES, COMPLETE, FAULTS, FLOAT, INT, decode_rows

__all__ = ["read_shard"]

Columns = dict[str, np.ndarray]

_CHUNK = 1 << 20  # compressed bytes read at a time
_KIND = {bytes: BYTES, float: FLOAT, int: INT}


class Wanted(Protocol):
    """One scalar feature: its name, its type, and what stands for an absent value."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> type: ...
    @property
    def fallback(self) -> bytes | int | float: ...


def read_shard(
    path: str, features: Sequence[Wanted], batch_rows: int, chunk: int = _CHUNK
) -> Iterator[Columns]:
    """Batches of columns in the order of the rows, each of `batch_rows` but the last.

    Args:
        path: a TFRecord file, local or of any file system TensorFlow knows; gzipped if it ends
            in .gz.
        features: what to read: float32, int64 or `object` arrays of bytes come out.
        batch_rows: at least 1.
        chunk: bytes read at a time; memory is some ten times that, and the batch.

    Raises:
        DataError: the file is cut off or damaged, or a value is not the one of its kind that
            was expected.
    """
    batch = _Batch(features, batch_rows)
    compressed = path.endswith(".gz")
    rest, records = b"", 0
    for data in _ahead(_inflated(path, chunk) if compressed else _plain(path, chunk)):
        buffer = rest + data
        array = np.frombuffer(buffer, np.uint8)
        place = 0
        while True:
            begun = batch.row
            place, fault, feature = batch.fill(array, buffer, place, check=not compressed)
            records += batch.row - begun
            if fault != COMPLETE:
                raise DataError(_message(path, records, fault, features, feature))
            if batch.row < batch_rows:
                break
            yield batch.taken()
        rest = buffer[place:]
    if rest:
        raise DataError(
            f"{path} ends within record {records + 1}: expected a whole TFRecord file; write it "
            "again"
        )
    if batch.row:
        yield batch.taken()


class _Batch:
    """Columns that are being filled."""

    def __init__(self, features: Sequence[Wanted], rows: int) -> None:
        names = [feature.name.encode() for feature in features]
        self.features, self.rows = features, rows
        self.names = np.frombuffer(b"".join(names) + b"\0", np.uint8)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        self.kinds = np.array([_KIND[feature.dtype] for feature in features], np.int64)
        self._begin()

    def _begin(self) -> None:
        shape = (len(self.features), self.rows)
        self.row = 0
        self.words = np.empty(shape, np.uint64)
        for k, feature in enumerate(self.features):
            if feature.dtype is float:
                self.words[k] = np.float32(feature.fallback).view(np.uint32)
            elif feature.dtype is int:
                self.words[k] = np.int64(feature.fallback).view(np.uint64)
        texts = shape if BYTES in self.kinds else (len(self.features), 1)
        self.begins, self.lengths = np.zeros(texts, np.int64), np.full(texts, -1, np.int64)
        self.objects = {
            k: np.full(self.rows, feature.fallback, object)
            for k, feature in enumerate(self.features)
            if feature.dtype is bytes
        }

    def fill(
        self, array: np.ndarray, buffer: bytes, place: int, check: bool
    ) -> tuple[int, int, int]:
        begun = self.row
        place, self.row, fault, feature = decode_rows(
            array, place, begun, self.rows, check, self.names, self.ends, self.kinds,
            self.words, self.begins, self.lengths,
        )  # fmt: skip
        # Taken out at once: the next chunk is another buffer.
        for k, column in self.objects.items():
            extents = zip(
                self.begins[k, begun : self.row].tolist(),
                self.lengths[k, begun : self.row].tolist(),
                strict=True,
            )
            for row, (begin, length) in enumerate(extents, begun):
                if length >= 0:
                    column[row] = buffer[begin : begin + length]
        return place, fault, feature

    def taken(self) -> Columns:
        columns: Columns = {}
        for k, feature in enumerate(self.features):
            words = self.words[k, : self.row]
            if feature.dtype is float:
                columns[feature.name] = words.astype(np.uint32).view(np.float32)
            elif feature.dtype is int:
                columns[feature.name] = words.view(np.int64)
            else:
                columns[feature.name] = self.objects[k][: self.row]
        self._begin()
        return columns


def _open(path: str) -> IO[bytes]:
    return open(path, "rb") if "://" not in path else tf.io.gfile.GFile(path, "rb")


def _plain(path: str, chunk: int) -> Iterator[bytes]:
    with _open(path) as file:
        while data := file.read(chunk):
            yield data


def _inflated(path: str, chunk: int) -> Iterator[bytes]:
    """The content of a gzip file, whose own checksum zlib compares."""
    inflater: Any = None
    for data in _plain(path, chunk):
        while data:
            inflater = inflater or zlib.decompressobj(wbits=31)
            try:
                yield inflater.decompress(data)
            except zlib.error as error:
                raise DataError(f"{path} is damaged ({error}): write it again") from error
            data = inflater.unused_data
            if inflater.eof:
                inflater = None
    if inflater is not None:
        raise DataError(f"{path} is cut off: expected a whole gzip file; write it again")


def _ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The next chunk is read and inflated while the last one is decoded."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (data := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield data


def _message(path: str, record: int, fault: int, features: Sequence[Wanted], feature: int) -> str:
    name = f", feature {features[feature].name!r}" if feature >= 0 else ""
    wanted = f": expected one {features[feature].dtype.__name__}" if feature >= 0 else ""
    return f"{path}, record {record + 1}{name}: {FAULTS[fault]}{wanted}; write the shard again"
