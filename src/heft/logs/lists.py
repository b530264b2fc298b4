"""Lists in a cell of a log: a vector of numbers, or texts.

Parquet has lists of its own, JSON arrays; in CSV, and wherever a block is parsed line by
line, the cell holds a JSON array.
"""

import json
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Marks", "is_list", "text_lists", "vectors"]

_LARGEST = float(np.finfo(np.float32).max)


class Marks(Protocol):
    """Where the faults of rows are kept."""

    def mark(self, mask: np.ndarray, reason: str) -> None:
        """Gives `reason` to the rows of `mask`."""


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def vectors(array: pa.Array, name: str, width: int, faults: Marks) -> pa.Array:
    """Lists of `width` float32, null where there is none, or an empty one.

    A row whose list has another length, or a number in it that is not finite, is marked
    and holds null.

    Args:
        array: (rows,) lists of numbers, or JSON arrays as text or bytes.
        name: of the column, for reasons.
        width: numbers in each list.
        faults: marked here.
    """
    rows = len(array)
    lists = _parsed(array, name, float, faults)
    sizes = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    for size in np.unique(sizes[(sizes > 0) & (sizes != width)]):
        faults.mark(sizes == size, f"{name}: {size} numbers, expected {width}")
    whole = sizes == width
    numbers = _numbers(lists.filter(pa.array(whole))).reshape(-1, width)
    finite = (np.abs(numbers) <= _LARGEST).all(axis=1)
    bad = np.zeros(rows, bool)
    bad[whole] = ~finite
    faults.mark(bad, f"{name}: not a finite number")
    kept = whole & ~bad
    offsets = np.concatenate([[0], np.cumsum(np.where(kept, width, 0))]).astype(np.int32)
    values = pa.array(numbers[finite].astype(np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~kept))


def text_lists(array: pa.Array, name: str, most: int, faults: Marks) -> pa.Array:
    """Lists of at most `most` texts, the first ones; null where there is none.

    Args:
        array: (rows,) lists of text, or JSON arrays as text or bytes.
        name: of the column, for reasons.
        most: texts kept of each list.
        faults: marked here where a row has something else.
    """
    lists = _parsed(array, name, str, faults).to_pylist()
    some = [[text for text in (texts or []) if text][:most] or None for texts in lists]
    return pa.array(some, pa.list_(pa.string()))


def _parsed(array: pa.Array, name: str, kind: type, faults: Marks) -> pa.Array:
    """`array` as lists of float64 or text."""
    wanted = pa.list_(pa.float64() if kind is float else pa.string())
    if is_list(array.type):
        return array.cast(wanted)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), wanted)
    values, bad = [], np.zeros(len(array), bool)
    for row, cell in enumerate(array.to_pylist()):
        value = _cell(cell, kind)
        bad[row] = value is None
        values.append(value or None)
    faults.mark(bad, f"{name}: not a list of {'numbers' if kind is float else 'texts'}")
    return pa.array(values, wanted)


def _cell(cell: str | bytes | None, kind: type) -> list[object] | None:
    """The list that a cell holds, empty if there is none; None if it is something else."""
    if cell is None or not cell.strip():
        return []
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    if value is None:
        return []
    if not isinstance(value, list):
        return None
    if kind is str:
        return value if all(isinstance(x, str) and _is_unicode(x) for x in value) else None
    numbers = all(
        isinstance(x, int | float) and not isinstance(x, bool) for x in value if x is not None
    )
    # A number in Python has no end; what float cannot hold is not finite.
    return [_float(x) for x in value] if numbers else None


def _is_unicode(text: str) -> bool:
    """JSON may hold half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _float(value: object) -> float:
    try:
        return float("nan") if value is None else float(value)  # type: ignore[arg-type]
    except OverflowError:
        return float("inf")


def _numbers(lists: pa.Array) -> np.ndarray:
    """All numbers of the lists one after another; NaN for null."""
    flat = lists.flatten().fill_null(float("nan"))
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64)
