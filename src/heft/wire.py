"""`tf.Example` bytes from columns, the same bytes for the same rows.

Protobuf writes the features of an Example in the order of a hash table that is
seeded anew in each process, so its bytes differ from run to run. Here they
come in the order of their names, which is what
`Example.SerializeToString(deterministic=True)` gives, a column at a time and
without an object per row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import wire_writing as kernels

__all__ = ["encode_examples", "encode_records"]


def encode_examples(columns: Mapping[str, pa.Array]) -> pa.Array:
    """Serialised `tf.Example`s with one feature per column.

    Args:
        columns: arrays of shape (rows,): binary or string, float32, int64, or lists of
            them. A null, and an empty list, leaves the feature out of that row.

    Returns:
        A binary array of shape (rows,).

    Raises:
        TypeError: a column is of another type.
    """
    data, starts = _encoded(columns, framed=False)
    if starts[-1] > np.iinfo(np.int32).max:
        buffers = [None, pa.py_buffer(starts), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_binary(), len(starts) - 1, buffers)
    buffers = [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(starts) - 1, buffers)


def encode_records(columns: Mapping[str, pa.Array]) -> np.ndarray:
    """The same as the bytes of a TFRecord file, with lengths and checksums: (bytes,) uint8."""
    data, starts = _encoded(columns, framed=True)
    kernels.write_frames(data, starts)
    return data


@dataclass(frozen=True)
class _Column:
    """The values of all rows one after another; those of row r are `offsets[r]:offsets[r + 1]`."""

    prefix: np.ndarray  # of the entry, up to the kind of its values
    kind: int
    offsets: np.ndarray  # (rows + 1,) int64
    words: np.ndarray  # (values,) of numbers; of bytes (values + 1,), where in `data` they begin
    data: np.ndarray


def _encoded(columns: Mapping[str, pa.Array], framed: bool) -> tuple[np.ndarray, np.ndarray]:
    rows = len(next(iter(columns.values()))) if columns else 0
    every = np.arange(rows + 1)
    parts = [_column(name, columns[name], every) for name in sorted(columns, key=str.encode)]
    sizes = np.zeros(rows, np.int64)
    for part in parts:
        kernels.add_sizes(sizes, len(part.prefix), part.kind, part.offsets, part.words)
    starts = np.zeros(rows + 1, np.int64)
    cursor = kernels.lay_out(sizes, starts, kernels.FRAME if framed else 0)
    out = np.empty(int(starts[-1]), np.uint8)
    kernels.write_heads(out, cursor, sizes)
    for part in parts:
        kernels.write_entries(
            out, cursor, part.prefix, part.kind, part.offsets, part.words, part.data
        )
    return out, starts


def _column(name: str, array: pa.Array, every: np.ndarray) -> _Column:
    lists = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    if lists:
        sizes = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = _offsets(sizes)
        values = array.flatten()
    elif array.null_count:
        offsets = _offsets(array.is_valid().to_numpy(zero_copy_only=False))
        values = array.drop_null()
    else:
        offsets, values = every, array
    kind, words, data = _values(name, values)
    return _Column(np.frombuffer(name.encode(), np.uint8), kind, offsets, words, data)


def _offsets(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _values(name: str, values: pa.Array) -> tuple[int, np.ndarray, np.ndarray]:
    nothing = np.empty(0, np.uint8)
    if pa.types.is_int64(values.type):
        whole = values.fill_null(0).to_numpy(zero_copy_only=False)
        return kernels.INT, whole.view(np.uint64), nothing
    if pa.types.is_float32(values.type):
        numbers = values.fill_null(0.0).to_numpy(zero_copy_only=False)
        return kernels.FLOAT, numbers.view(np.uint32).astype(np.uint64), nothing
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        raise TypeError(f"column {name!r} is {values.type}: expected binary, float32 or int64")
    _, offsets, data = values.fill_null(b"" if pa.types.is_binary(values.type) else "").buffers()
    ends = np.zeros(1, np.int32)
    if offsets is not None and len(values):
        ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return (
        kernels.BYTES, ends.astype(np.uint64),
        nothing if data is None else np.frombuffer(data, np.uint8),
    )  # fmt: skip
