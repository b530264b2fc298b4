"""`tf.Example` shards as columns, and columns as shards.

Heft works on columns (`dict[str, np.ndarray]`), TFX on gzipped TFRecords of
`tf.Example`. This file is the only bridge between the two.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf

from heft.errors import DataError
from heft.record_files import write_shards
from heft.wire_reading import read_shard

__all__ = ["Feature", "iterate_columns", "read_columns", "shard_paths", "write_columns"]

Columns = dict[str, np.ndarray]

_BLOCK_ROWS = 16_384  # encoded at a time


@dataclass(frozen=True)
class Feature:
    """One feature to read; an absent value becomes `default`.

    Attributes:
        name: of the feature.
        dtype: bytes, int or float.
        default: of a value, or of each number of a list.
        width: 0 for one value a row; else each row has a list of this many numbers, or none.
    """

    name: str
    dtype: type
    default: bytes | int | float | None = None
    width: int = 0

    def __post_init__(self) -> None:
        if self.width and self.dtype is bytes:
            raise TypeError(f"{self.name!r} of width {self.width}: expected numbers in a list")

    @property
    def fallback(self) -> bytes | int | float:
        """What stands for an absent value."""
        absent: dict[type, bytes | int | float] = {bytes: b"", int: 0, float: float("nan")}
        return absent[self.dtype] if self.default is None else self.default

    def empty(self) -> np.ndarray:
        """The column of no rows."""
        kinds = {bytes: object, int: np.int64, float: np.float32}
        return np.empty((0, self.width) if self.width else 0, kinds[self.dtype])


def shard_paths(split_uri: str) -> list[str]:
    """The shards of one split, in name order.

    Raises:
        DataError: the folder holds no file.
    """
    paths = sorted(tf.io.gfile.glob(f"{split_uri.rstrip('/')}/*"))
    if not paths:
        raise DataError(f"no examples under {split_uri}: expected TFRecord shards there")
    return paths


def iterate_columns(
    paths: Sequence[str], features: Sequence[Feature], batch_size: int = 16_384
) -> Iterator[Columns]:
    """Yields batches of columns, in shard order and row order."""
    for path in paths:
        yield from read_shard(path, features, batch_size)


def read_columns(paths: Sequence[str], features: Sequence[Feature]) -> Columns:
    """All rows of `paths` as one array per feature, (rows,) or (rows, width)."""
    batches = list(iterate_columns(paths, features))
    if not batches:
        return {f.name: f.empty() for f in features}
    return {f.name: np.concatenate([batch[f.name] for batch in batches]) for f in features}


def write_columns(columns: Mapping[str, np.ndarray], path: str | Path) -> int:
    """Writes columns as one TFRecord shard of `tf.Example`s, gzipped if `path` ends in .gz.

    Floats are written as float32, integers as int64; a column (rows, width) of either as
    lists. A NaN float means that the feature is absent in that row, as does a list of
    nothing else. The same columns give the same bytes.

    Returns:
        Rows written.
    """
    arrays = {name: _as_arrow(values) for name, values in columns.items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = len(next(iter(arrays.values())))

    def block(first: int) -> dict[str, pa.Array]:
        return {name: values.slice(first, _BLOCK_ROWS) for name, values in arrays.items()}

    write_shards([(str(path), [partial(block, first) for first in range(0, rows, _BLOCK_ROWS)])])
    return rows


def _as_arrow(values: np.ndarray) -> pa.Array:
    if values.ndim == 2:
        absent = np.isnan(values).all(axis=1) if values.dtype.kind == "f" else None
        # NaN among numbers is a value here, and stays one.
        kind = pa.float32() if values.dtype.kind == "f" else pa.int64()
        numbers = pa.array(values.ravel().astype(kind.to_pandas_dtype()), from_pandas=False)
        mask = None if absent is None else pa.array(absent)
        return pa.FixedSizeListArray.from_arrays(numbers, values.shape[1], mask=mask)
    if values.dtype.kind == "f":
        floats = values.astype(np.float32)
        return pa.array(floats, pa.float32(), mask=np.isnan(floats))
    if values.dtype.kind in "iub":
        return pa.array(values.astype(np.int64), pa.int64())
    return pa.array(values, pa.binary())
