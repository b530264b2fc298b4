"""TFRecord files of `tf.Example`s, encoded and compressed on all cores of this process."""

import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import pyarrow as pa
import tensorflow as tf

from heft.wire import encode_records

__all__ = ["Block", "Shard", "write_shards", "write_stream"]

# Makes some rows of a shard: columns as `heft.wire.encode_examples` takes them.
Block = Callable[[], Mapping[str, pa.Array]]
Shard = tuple[str, Sequence[Block]]

_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS
_MOST_THREADS = 8  # of one process: Beam may run several
_HAND_ROWS = 4_096
_NOTHING = gzip.compress(b"", mtime=0)
_AHEAD = 2  # blocks in hand, times threads


def write_shards(shards: Sequence[Shard]) -> None:
    """Writes files, each the Examples of its blocks in order; gzipped if its name ends in .gz.

    A block is a gzip member of its own, which `gzip` and every TFRecord reader take as one
    stream; so threads share the work, and the bytes do not depend on how many there are.

    Args:
        shards: path and blocks of each; a path is local, or of any file system that TensorFlow
            knows. A block is made in a thread, and no more than a few are alive at a time.
    """
    with ThreadPoolExecutor(_threads()) as pool:
        # Blocks of later shards are begun while those of the first are written.
        parts = _in_order(pool, _jobs(shards))
        for path, blocks in shards:
            _write(path, islice(parts, len(blocks)))


def write_stream(path: str, blocks: Iterable[Block]) -> None:
    """Writes one file as `write_shards` does, of blocks whose number is not known beforehand.

    Args:
        path: as for `write_shards`.
        blocks: drawn in this thread, a few ahead of what is written.
    """
    packed = path.endswith(".gz")
    with ThreadPoolExecutor(_threads()) as pool:
        _write(path, _in_order(pool, ((block, packed) for block in blocks)))


def _write(path: str, parts: Iterable[bytes]) -> None:
    """A file of encoded blocks; of none, what every reader takes for a file without records."""
    empty = True
    with _open(path) as file:
        for data in parts:
            empty &= not data
            file.write(data)
        if empty and path.endswith(".gz"):
            file.write(_NOTHING)


def _in_order(pool: ThreadPoolExecutor, jobs: Iterator[tuple[Block, bool]]) -> Iterator[bytes]:
    """Blocks encoded by threads, in the order of the jobs; no more than a few are ahead."""
    coming: deque[Future[bytes]] = deque()
    while True:
        for block, packed in islice(jobs, _AHEAD * _threads() - len(coming)):
            coming.append(pool.submit(_encoded, block, packed))
        if not coming:
            return
        yield coming.popleft().result()


def _threads() -> int:
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


def _jobs(shards: Sequence[Shard]) -> Iterator[tuple[Block, bool]]:
    for path, blocks in shards:
        for block in blocks:
            yield block, path.endswith(".gz")


def _open(path: str) -> Any:
    return tf.io.gfile.GFile(path, "wb") if "://" in path else open(path, "wb")


def _encoded(block: Block, packed: bool) -> bytes:
    """The bytes of a block; none at all of one without rows, for TensorFlow takes an empty gzip
    member for the end of the file."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if packed else None
    parts = []
    for columns in _hands(block()):
        records = encode_records(columns)
        parts.append(deflate.compress(records.data) if deflate else records.tobytes())
    return b"".join([*parts, deflate.flush() if deflate and parts else b""])


def _hands(columns: Mapping[str, pa.Array]) -> Iterator[Mapping[str, pa.Array]]:
    """A few rows at a time, whose bytes stay in the processor's cache."""
    rows = len(next(iter(columns.values()))) if columns else 0
    for first in range(0, rows, _HAND_ROWS):
        yield {name: values.slice(first, _HAND_ROWS) for name, values in columns.items()}
