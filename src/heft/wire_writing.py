"""The inner loops of writing examples: the wire format of `tf.Example` and TFRecord frames.

Every row of an entry, `Features.feature[name]`, is three nested messages, each behind its
length. So the sizes of all rows are added up first, column by column; then every column's
entries are written where the rows' last ones ended.
"""

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from heft.crc32c import masked_crc

__all__ = [
    "BYTES", "FLOAT", "FRAME", "INT", "add_sizes", "lay_out", "write_entries", "write_frames",
    "write_heads",
]  # fmt: skip

BYTES, FLOAT, INT = 0, 1, 2  # field numbers in `Feature`, less one
FRAME = 16  # bytes of a TFRecord frame: 12 before the data, 4 behind it
_BEFORE = 12
_HEAD = 44  # most bytes of four tags and lengths
_FIRST, _SECOND = np.uint8(0x0A), np.uint8(0x12)  # tags of fields 1 and 2 with a length


@numba.njit(nogil=True, cache=True, inline="always")
def _varint_size(value: np.uint64) -> int:
    size = 1
    while value > np.uint64(0x7F):
        value >>= np.uint64(7)
        size += 1
    return size


@numba.njit(nogil=True, cache=True, inline="always")
def _sized(length: int) -> int:
    """Bytes of a field with a tag of one byte, a length, and so much behind it."""
    return 1 + _varint_size(np.uint64(length)) + length


@numba.njit(nogil=True, cache=True, inline="always")
def _list_size(kind: int, begin: int, end: int, words: np.ndarray) -> int:
    """Bytes of a BytesList, FloatList or Int64List."""
    if kind == FLOAT:
        return _sized(4 * (end - begin))
    size = 0
    for k in range(begin, end):
        if kind == BYTES:
            size += _sized(np.int64(words[k + 1] - words[k]))  # type: ignore[arg-type]
        else:
            size += _varint_size(words[k])
    return size if kind == BYTES else _sized(size)


@numba.njit(nogil=True, cache=True)
def add_sizes(
    sizes: np.ndarray, name_length: int, kind: int, offsets: np.ndarray, words: np.ndarray
) -> None:
    """Adds the bytes of a column's entries to `sizes` (rows,); a row without values has none."""
    for row in range(len(sizes)):
        begin, end = offsets[row], offsets[row + 1]
        if begin < end:
            feature = _sized(_list_size(kind, begin, end, words))
            sizes[row] += _sized(_sized(name_length) + _sized(feature))


@numba.njit(nogil=True, cache=True)
def lay_out(sizes: np.ndarray, starts: np.ndarray, frame: int) -> np.ndarray:
    """Fills `starts` (rows + 1,) for Examples with Features of `sizes`; where their bytes begin."""
    cursor = np.empty(len(sizes), np.int64)
    for row in range(len(sizes)):
        cursor[row] = starts[row] + (_BEFORE if frame else 0)
        starts[row + 1] = starts[row] + frame + _sized(sizes[row])
    return cursor


@numba.njit(nogil=True, cache=True, inline="always")
def _put_varint(out: np.ndarray, place: int, value: np.uint64) -> int:
    while value > np.uint64(0x7F):
        out[place] = np.uint8(value & np.uint64(0x7F)) | np.uint8(0x80)
        value >>= np.uint64(7)
        place += 1
    out[place] = np.uint8(value)
    return place + 1


@numba.njit(nogil=True, cache=True, inline="always")
def _put_head(out: np.ndarray, place: int, tag: np.uint8, length: int) -> int:
    out[place] = tag
    return _put_varint(out, place + 1, np.uint64(length))


@intrinsic
def _copy(typingctx, out, place, data, begin, length):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """C's memcpy of `length` bytes of data[begin:] to out[place:]."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        arrays = [
            context.make_array(kind)(context, builder, argument).data
            for kind, argument in ((out, arguments[0]), (data, arguments[2]))
        ]
        target = builder.gep(arrays[0], [arguments[1]])
        source = builder.gep(arrays[1], [arguments[3]])
        cgutils.raw_memcpy(builder, target, source, arguments[4], 1)
        return context.get_dummy_value()

    return types.void(out, types.int64, data, types.int64, types.int64), codegen


@numba.njit(nogil=True, cache=True, inline="always")
def _put_bytes(out: np.ndarray, place: int, data: np.ndarray, begin: int, end: int) -> int:
    _copy(out, place, data, begin, end - begin)
    return place + end - begin


@numba.njit(nogil=True, cache=True)
def write_heads(out: np.ndarray, cursor: np.ndarray, sizes: np.ndarray) -> None:
    """The tag and length of each Example's Features; `cursor` goes on behind them."""
    for row in range(len(sizes)):
        cursor[row] = _put_head(out, cursor[row], _FIRST, sizes[row])


@numba.njit(nogil=True, cache=True)
def write_entries(
    out: np.ndarray, cursor: np.ndarray, name: np.ndarray, kind: int, offsets: np.ndarray,
    words: np.ndarray, data: np.ndarray,
) -> None:  # fmt: skip
    """A column's entry of each row at its `cursor`, which goes on behind it."""
    head = np.empty(len(name) + _HEAD, np.uint8)
    length, last = 0, -1
    for row in range(len(cursor)):
        begin, end = offsets[row], offsets[row + 1]
        if begin >= end:
            continue
        values = _list_size(kind, begin, end, words)
        if values != last:
            length, last = _entry_head(head, name, kind, values), values
        place = _put_bytes(out, cursor[row], head, 0, length)
        cursor[row] = _put_values(out, place, kind, begin, end, words, data)


@numba.njit(nogil=True, cache=True)
def _entry_head(head: np.ndarray, name: np.ndarray, kind: int, values: int) -> int:
    """What an entry has before its list of so many bytes; how long that is."""
    feature = _sized(values)
    place = _put_head(head, 0, _FIRST, _sized(len(name)) + _sized(feature))
    place = _put_head(head, place, _FIRST, len(name))
    place = _put_bytes(head, place, name, 0, len(name))
    place = _put_head(head, place, _SECOND, feature)
    return _put_head(head, place, np.uint8(0x0A + 8 * kind), values)


@numba.njit(nogil=True, cache=True)
def _put_values(
    out: np.ndarray, place: int, kind: int, begin: int, end: int, words: np.ndarray,
    data: np.ndarray,
) -> int:  # fmt: skip
    """A list's values: texts each behind their length, numbers packed behind one."""
    if kind == BYTES:
        for k in range(begin, end):
            first, last = np.int64(words[k]), np.int64(words[k + 1])
            place = _put_head(out, place, _FIRST, last - first)  # type: ignore[arg-type]
            place = _put_bytes(out, place, data, first, last)  # type: ignore[arg-type]
        return place
    if kind == FLOAT:
        place = _put_head(out, place, _FIRST, 4 * (end - begin))
        for k in range(begin, end):
            for byte in range(4):
                out[place + byte] = np.uint8(words[k] >> np.uint64(8 * byte) & np.uint64(0xFF))
            place += 4
        return place
    size = 0
    for k in range(begin, end):
        size += _varint_size(words[k])
    place = _put_head(out, place, _FIRST, size)
    for k in range(begin, end):
        place = _put_varint(out, place, words[k])
    return place


@numba.njit(nogil=True, cache=True)
def write_frames(out: np.ndarray, starts: np.ndarray) -> None:
    """The length and the two checksums round each record, whose data is there."""
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        length = np.uint64(last - first - FRAME)
        for byte in range(8):
            out[first + byte] = np.uint8(length >> np.uint64(8 * byte) & np.uint64(0xFF))
        _put_crc(out, first + 8, first, first + 8)
        _put_crc(out, last - 4, first + _BEFORE, last - 4)


@numba.njit(nogil=True, cache=True, inline="always")
def _put_crc(out: np.ndarray, place: int, begin: int, end: int) -> None:
    crc = np.uint32(masked_crc(out, begin, end))
    for byte in range(4):
        out[place + byte] = np.uint8(crc >> np.uint32(8 * byte) & np.uint32(0xFF))
