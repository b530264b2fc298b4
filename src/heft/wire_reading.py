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
from heft.wire_kernels import BYTES, COMPLETE, FAULTS, FLOAT, INT, LIST, decode_rows
from heft.wire_lists import fill_lists

__all__ = ["read_shard"]

Columns = dict[str, np.ndarray]

_CHUNK = 1 << 20  # compressed bytes read at a time
_KIND = {bytes: BYTES, float: FLOAT, int: INT}
_NUMBER = {float: np.float32, int: np.int64}


class Wanted(Protocol):
    """A feature: its name, its type, what stands for an absent value, and how many numbers
    its list holds; 0 if it has one value."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> type: ...
    @property
    def fallback(self) -> bytes | int | float: ...
    @property
    def width(self) -> int: ...


def read_shard(
    path: str, features: Sequence[Wanted], batch_rows: int, chunk: int = _CHUNK
) -> Iterator[Columns]:
    """Batches of columns in the order of the rows, each of `batch_rows` but the last.

    Args:
        path: a TFRecord file, local or of any file system TensorFlow knows; gzipped if it ends
            in .gz.
        features: what to read: float32, int64 or `object` arrays of bytes come out, (rows,), or
            (rows, width) of a list.
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
        kinds = [LIST if feature.width else _KIND[feature.dtype] for feature in features]
        self.kinds = np.array(kinds, np.int64)
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
        self.lists = {
            k: np.full((self.rows, feature.width), feature.fallback, _NUMBER[feature.dtype])
            for k, feature in enumerate(self.features)
            if feature.width
        }
        found = BYTES in self.kinds or LIST in self.kinds
        texts = shape if found else (len(self.features), 1)
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
        return self._fill_lists(array, begun) or (place, fault, feature)

    def _fill_lists(self, array: np.ndarray, begun: int) -> tuple[int, int, int] | None:
        """What the lists of the new rows hold; the first fault, if there is one."""
        faults = []
        for k, numbers in self.lists.items():
            words = numbers.view(np.uint32 if numbers.dtype == np.float32 else np.uint64)
            kind = _KIND[self.features[k].dtype]
            row, fault = fill_lists(
                array, self.begins[k], self.lengths[k], begun, self.row, kind, words
            )
            if fault != COMPLETE:
                faults.append((row, fault, k))
        if not faults:
            return None
        self.row, fault, k = min(faults)
        return 0, fault, k

    def taken(self) -> Columns:
        columns: Columns = {}
        for k, feature in enumerate(self.features):
            if feature.width:
                columns[feature.name] = self.lists[k][: self.row]
                continue
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
    wanted = ""
    if feature >= 0:
        count = features[feature].width or "one"
        wanted = f": expected {count} {features[feature].dtype.__name__}"
    return f"{path}, record {record + 1}{name}: {FAULTS[fault]}{wanted}; write the shard again"
