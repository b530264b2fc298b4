"""The inner loops of reading shards: TFRecord frames and the wire format of `tf.Example`."""

import numba
import numpy as np

from heft.crc32c import masked_crc

__all__ = [
    "BAD_EXAMPLE", "BYTES", "COMPLETE", "FAULTS", "FLOAT", "INT", "LIST", "WRONG_KIND",
    "WRONG_WIDTH", "decode_rows", "field_at", "little", "varint",
]  # fmt: skip

BYTES, FLOAT, INT = 0, 1, 2  # field numbers in `Feature`, less one
LIST = 3  # of numbers: found by `decode_rows`, read by `wire_lists`

# What `decode_rows` ends with.
COMPLETE, BAD_FRAME, BAD_EXAMPLE, MANY_VALUES, WRONG_KIND, WRONG_WIDTH = 0, 1, 2, 3, 4, 5
FAULTS = {
    BAD_FRAME: "its checksum or length is wrong",
    BAD_EXAMPLE: "it is no tf.Example",
    MANY_VALUES: "more than one value",
    WRONG_KIND: "values of another kind",
    WRONG_WIDTH: "a list of another length",
}
_FRAME = 12  # bytes before the data: length and its checksum
_FIRST, _SECOND = 0x0A, 0x12  # tags of fields 1 and 2 with a length
_ENTRIES = 256  # of a record whose keys are remembered


@numba.njit(nogil=True, cache=True, inline="always")
def little(data: np.ndarray, place: int, size: int) -> np.uint64:
    """`size` bytes as a number, the lowest first."""
    value = np.uint64(0)
    for k in range(size):
        value |= np.uint64(data[place + k]) << np.uint64(8 * k)
    return value


@numba.njit(nogil=True, cache=True, inline="always")
def varint(data: np.ndarray, place: int, end: int) -> tuple[np.uint64, int]:
    """The value and where it ends; −1 where it does not end before `end`."""
    value, shift = np.uint64(0), np.uint64(0)
    while place < end and shift < 64:
        byte = np.uint64(data[place])
        place += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < 0x80:
            return value, place
        shift += np.uint64(7)
    return value, -1


@numba.njit(nogil=True, cache=True)
def field_at(data: np.ndarray, place: int, end: int) -> tuple[int, int, int]:
    """Tag, and begin and end of the payload of the field at `place`; an end of −1 is a fault."""
    tag, begin = varint(data, place, end)
    if begin < 0:
        return 0, 0, -1
    wire = tag & np.uint64(7)
    stop = begin
    if wire == 2:
        size, begin = varint(data, begin, end)
        if begin < 0 or size > np.uint64(end - begin):
            return 0, 0, -1
        stop = begin + np.int64(size)
    elif wire == 0:
        stop = varint(data, begin, end)[1]
    elif wire == 1:
        stop = begin + 8
    elif wire == 5:
        stop = begin + 4
    else:
        return 0, 0, -1
    return np.int64(tag), begin, stop if stop <= end else -1  # type: ignore[return-value]


@numba.njit(nogil=True, cache=True)
def _same(data: np.ndarray, left: int, other: np.ndarray, right: int, length: int) -> bool:
    for k in range(length):  # noqa: SIM110  numba has no generators
        if data[left + k] != other[right + k]:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _wanted(data: np.ndarray, key: int, length: int, names: np.ndarray, ends: np.ndarray) -> int:
    """Number of the wanted feature with this name, or −1."""
    begin = 0
    for feature in range(len(ends)):
        if ends[feature] - begin == length and _same(data, key, names, begin, length):
            return feature
        begin = ends[feature]
    return -1


@numba.njit(nogil=True, cache=True)
def _value(
    data: np.ndarray, place: int, end: int, kind: int, word: np.ndarray, extent: np.ndarray
) -> tuple[int, int]:
    """How many values the `Feature` at data[place:end] has, and a fault.

    The last goes to word[0], or to `extent` as begin and length if it is of bytes.
    """
    count = 0
    while place < end:
        tag, inner, place = field_at(data, place, end)
        if place < 0 or tag & 7 != 2:
            return 0, BAD_EXAMPLE
        if tag >> 3 != kind + 1:
            return 0, WRONG_KIND
        count = 0
        while inner < place:
            tag, begin, inner = field_at(data, inner, place)
            if inner < 0:
                return 0, BAD_EXAMPLE
            if tag >> 3 != 1:
                continue
            found = _values(data, begin, inner, tag & 7, kind, word, extent)
            if found < 0:
                return 0, BAD_EXAMPLE
            count += found
    return count, COMPLETE


@numba.njit(nogil=True, cache=True)
def _values(
    data: np.ndarray, begin: int, end: int, wire: int, kind: int, word: np.ndarray,
    extent: np.ndarray,
) -> int:  # fmt: skip
    """Values of one field of a list, packed or not; −1 on a fault."""
    if kind == BYTES:
        extent[0], extent[1] = begin, end - begin
        return 1 if wire == 2 else -1
    if kind == FLOAT:
        if wire not in (2, 5) or (end - begin) % 4:
            return -1
        if end > begin:
            word[0] = little(data, end - 4, 4)
        return (end - begin) // 4
    if wire not in (0, 2):
        return -1
    count = 0
    while begin < end:
        word[0], begin = varint(data, begin, end)
        if begin < 0:
            return -1
        count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _entry(data: np.ndarray, place: int, end: int) -> tuple[int, int, int, int]:
    """Begin and end of the key and of the value of a map entry; a first of −1 is a fault."""
    key, key_end, value, value_end = place, place, place, place
    while place < end:
        tag, begin, place = field_at(data, place, end)
        if place < 0:
            return -1, 0, 0, 0
        if tag == _FIRST:
            key, key_end = begin, place
        elif tag == _SECOND:
            value, value_end = begin, place
    return key, key_end, value, value_end


@numba.njit(nogil=True, cache=True)
def _features(
    data: np.ndarray, place: int, end: int, row: int, names: np.ndarray, ends: np.ndarray,
    kinds: np.ndarray, words: np.ndarray, begins: np.ndarray, lengths: np.ndarray,
    seen: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Reads the wanted entries of a `Features` map; a fault, and the feature at fault."""
    word, extent = np.zeros(1, np.uint64), np.zeros(2, np.int64)
    number = 0
    while place < end:
        tag, inner, place = field_at(data, place, end)
        if place < 0:
            return BAD_EXAMPLE, -1
        if tag != _FIRST:
            continue
        key, key_end, value, value_end = _entry(data, inner, place)
        if key < 0:
            return BAD_EXAMPLE, -1
        # An entry mostly has the key that the entry of its number had in the record before.
        last = seen[number % len(seen)]
        number += 1
        size = key_end - key
        if last[1] != size or not _same(data, key, data, last[0], size):
            last[1], last[2] = size, _wanted(data, key, size, names, ends)
        last[0] = key
        feature = last[2]
        if feature < 0:
            continue
        if kinds[feature] == LIST:
            begins[feature, row], lengths[feature, row] = value, value_end - value
            continue
        count, fault = _value(data, value, value_end, kinds[feature], word, extent)
        if fault != COMPLETE or count > 1:
            return fault if fault != COMPLETE else MANY_VALUES, feature
        if count == 1 and kinds[feature] == BYTES:
            begins[feature, row], lengths[feature, row] = extent[0], extent[1]
        elif count == 1:
            words[feature, row] = word[0]
    return COMPLETE, -1


@numba.njit(nogil=True, cache=True)
def decode_rows(
    data: np.ndarray, place: int, row: int, last_row: int, check: bool, names: np.ndarray,
    ends: np.ndarray, kinds: np.ndarray, words: np.ndarray, begins: np.ndarray,
    lengths: np.ndarray,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Decodes whole records from data[place:] into rows `row` to `last_row`.

    Args:
        data: (bytes,) uint8.
        place: where the first record begins.
        row, last_row: the first row to fill and the one behind the last.
        check: the checksum of the data too; that of the length always is.
        names, ends: the wanted names one after another, and where each ends.
        kinds: of each wanted feature.
        words: (features, rows) uint64, numbers go here; what is absent stays as it is.
        begins, lengths: (features, rows) int64, where in `data` bytes are, or the `Feature`
            of a list.

    Returns:
        place and row behind the last whole record, `COMPLETE` or a fault of the record there,
        and the feature at fault.
    """
    seen = np.full((_ENTRIES, 3), -1, np.int64)
    size = len(data)
    while row < last_row and place + _FRAME <= size:
        if np.uint64(masked_crc(data, place, place + 8)) != little(data, place + 8, 4):
            return place, row, BAD_FRAME, -1
        length = little(data, place, 8)
        begin = place + _FRAME
        if length + np.uint64(4) > np.uint64(size - begin):
            break
        end = begin + np.int64(length)  # type: ignore[assignment]
        if check and np.uint64(masked_crc(data, begin, end)) != little(data, end, 4):
            return place, row, BAD_FRAME, -1
        at = begin
        while at < end:
            tag, inner, at = field_at(data, at, end)
            if at < 0:
                return place, row, BAD_EXAMPLE, -1
            if tag == _FIRST:
                fault, feature = _features(
                    data, inner, at, row, names, ends, kinds, words, begins, lengths, seen
                )
                if fault != COMPLETE:
                    return place, row, fault, feature
        place = end + 4  # type: ignore[assignment]
        row += 1
    return place, row, COMPLETE, -1
