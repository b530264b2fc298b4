"""`tf.Example` bytes from columns, the same bytes for the same rows.

Protobuf writes the features of an Example in the order of a hash table that is
seeded anew in each process, so its bytes differ from run to run. Here they
come in the order of their names, which is what
`Example.SerializeToString(deterministic=True)` gives, a column at a time.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["encode_examples"]

# Field tags of tensorflow/core/example/{example,feature}.proto, wire type 2.
_FIRST, _SECOND = b"\x0a", b"\x12"
_KIND = {"bytes": b"\x0a", "float": b"\x12", "int64": b"\x1a"}


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
    parts: list[pa.Array] = []
    for name in sorted(columns, key=str.encode):
        parts += _entry(name, columns[name])
    features = pc.binary_join_element_wise(*parts, b"", null_handling="replace")
    return pc.binary_join_element_wise(_prefixes(_lengths(features), b"", _FIRST), features, b"")


def _entry(name: str, array: pa.Array) -> list[pa.Array]:
    """The map entry of one feature, as the bytes before the payload and the payload."""
    lists = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    values = array.flatten() if lists else array
    if pa.types.is_int64(values.type):
        kind, payload = "int64", _varints(values)
    elif pa.types.is_float32(values.type):
        kind, payload = "float", _fixed32(values)
    elif pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        kind, payload = "bytes", values.cast(pa.binary())
    else:
        raise TypeError(f"column {name!r} is {array.type}: expected binary, float32 or int64")
    # Numbers of a list are packed into one field; texts each have theirs.
    packed = not (lists and kind == "bytes")
    if not packed:
        payload = pc.binary_join_element_wise(
            _prefixes(_lengths(payload), b"", _FIRST), payload, b""
        )
    if lists:
        payload = _joined(payload, array)
    prefixes = _prefixes(_lengths(payload), name, _KIND[kind], packed)
    if payload.null_count:
        prefixes = pc.if_else(payload.is_valid(), prefixes, pa.scalar(None, pa.binary()))
    return [prefixes, payload]


def _joined(values: pa.Array, lists: pa.Array) -> pa.Array:
    """The payloads of each list's values as one, null where there is none."""
    sizes = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(_lengths(values))])
    offsets = ends[np.concatenate([[0], np.cumsum(sizes)])]
    data = values.buffers()[2] or pa.py_buffer(b"")
    whole = pa.Array.from_buffers(
        pa.binary(), len(lists), [None, pa.py_buffer(offsets.astype(np.int32)), data]
    )
    if sizes.all():
        return whole
    return pc.if_else(pa.array(sizes > 0), whole, pa.scalar(None, pa.binary()))


def _prefixes(lengths: np.ndarray, name: str | bytes, kind: bytes, packed: bool = True) -> pa.Array:
    """The bytes that go before a payload, which depend on its length alone."""
    distinct, which = np.unique(lengths, return_inverse=True)
    key = name.encode() if isinstance(name, str) else name
    table = pa.array([_prefix(int(n), key, kind, packed) for n in distinct], pa.binary())
    return table.take(pa.array(which))


def _prefix(length: int, key: bytes, kind: bytes, packed: bool) -> bytes:
    if not key:
        return kind + _varint(length)
    values = _FIRST + _varint(length) if packed else b""
    feature = kind + _varint(len(values) + length) + values
    body = _FIRST + _varint(len(key)) + key + _SECOND + _varint(len(feature) + length) + feature
    return _FIRST + _varint(len(body) + length) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _lengths(array: pa.Array) -> np.ndarray:
    lengths: np.ndarray = pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return lengths


def _varints(array: pa.Array) -> pa.Array:
    """Base-128 varints, two's complement for negative numbers."""
    values = array.fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    shifted = values[:, None] >> np.arange(0, 70, 7, dtype=np.uint64).clip(max=63)
    groups = shifted & np.uint64(0x7F)
    size = np.maximum(1, 10 - np.argmax(groups[:, ::-1] != 0, axis=1))
    size = np.where(values == 0, 1, size)
    place = np.arange(10)
    more = place < (size - 1)[:, None]
    coded = (groups | np.where(more, np.uint64(0x80), np.uint64(0))).astype(np.uint8)
    return _binary(coded[place < size[:, None]], np.concatenate([[0], np.cumsum(size)]), array)


def _fixed32(array: pa.Array) -> pa.Array:
    values = array.fill_null(0.0).to_numpy(zero_copy_only=False).astype("<f4")
    return _binary(values.view(np.uint8), np.arange(len(array) + 1) * 4, array)


def _binary(data: np.ndarray, offsets: np.ndarray, like: pa.Array) -> pa.Array:
    """A binary array from its bytes and offsets, null where `like` is."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    whole = pa.Array.from_buffers(pa.binary(), len(like), buffers)
    if not like.null_count:
        return whole
    return pc.if_else(like.is_valid(), whole, pa.scalar(None, pa.binary()))
