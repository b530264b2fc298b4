"""The inner loop of reading lists of numbers, once `decode_rows` has found where they are."""

import numba
import numpy as np

from heft.wire_kernels import (
    BAD_EXAMPLE,
    COMPLETE,
    FLOAT,
    WRONG_KIND,
    WRONG_WIDTH,
    field_at,
    little,
    varint,
)

__all__ = ["fill_lists"]


@numba.njit(nogil=True, cache=True)
def fill_lists(
    data: np.ndarray, begins: np.ndarray, lengths: np.ndarray, row: int, last_row: int,
    kind: int, numbers: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Reads the lists of one feature that `decode_rows` found, in rows `row` to `last_row`.

    Args:
        data: as of `decode_rows`.
        begins, lengths: (rows,) int64, where each `Feature` is; −1 long where there is none.
        row, last_row: the first row to fill and the one behind the last.
        kind: `FLOAT` or `INT`.
        numbers: (rows, width) uint32 or uint64; what is absent stays as it is.

    Returns:
        The row behind the last good one, and `COMPLETE` or the fault of the row there.
    """
    width = numbers.shape[1]
    while row < last_row:
        if lengths[row] >= 0:
            end = begins[row] + lengths[row]
            count, fault = _numbers(data, begins[row], end, kind, numbers[row])
            if fault != COMPLETE or (count and count != width):
                return row, fault if fault != COMPLETE else WRONG_WIDTH
        row += 1
    return row, COMPLETE


@numba.njit(nogil=True, cache=True)
def _numbers(
    data: np.ndarray, place: int, end: int, kind: int, numbers: np.ndarray
) -> tuple[int, int]:
    """How many numbers the `Feature` at data[place:end] has, and a fault; packed or not."""
    count = 0
    single = 5 if kind == FLOAT else 0
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
            if tag & 7 not in (2, single) or (kind == FLOAT and (inner - begin) % 4):
                return 0, BAD_EXAMPLE
            while begin < inner:
                if kind == FLOAT:
                    value, begin = little(data, begin, 4), begin + 4
                else:
                    value, begin = varint(data, begin, inner)
                if begin < 0:
                    return 0, BAD_EXAMPLE
                if count < len(numbers):
                    numbers[count] = value
                count += 1
    return count, COMPLETE
