"""Joined rows → `tf.Example` shards with the columns of `heft.features.LOGGED`."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.features import Column, Role
from heft.record_files import Shard

__all__ = [
    "example_columns",
    "graded_columns",
    "join_items",
    "observation",
    "shard_of",
]

_ARROW = {bytes: pa.binary(), int: pa.int64(), float: pa.float32()}
# Rows encoded at a time, in one thread: bounds what is in hand.
_ROWS = 16_384
_ITEM_COLUMNS = (features.TITLE, features.CATEGORY, features.BRAND, features.PRICE)


def join_items(
    table: pa.Table, catalogue: pa.Table | None, extra: Sequence[str]
) -> tuple[pa.Table, int]:
    """Adds what the catalogue knows of each row's item.

    A value the catalogue lacks stays as the row has it.

    Returns:
        The table, and how many rows name an item the catalogue does not have.
    """
    if catalogue is None:
        return table, 0
    items = table.column(features.ITEM_ID).combine_chunks()
    place = pc.index_in(items, value_set=catalogue.column(features.ITEM_ID).combine_chunks())
    for name in dict.fromkeys((*_ITEM_COLUMNS, *extra)):
        if name not in catalogue.column_names:
            continue
        known = catalogue.column(name).combine_chunks().take(place)
        if name in table.column_names:
            own = table.column_names.index(name)
            known = pc.coalesce(known, table.column(name).combine_chunks())
            table = table.set_column(own, name, known)
        else:
            table = table.append_column(name, known)
    return table, place.null_count


def observation(start: np.ndarray, end_of_data: int, conversion_window: float) -> np.ndarray:
    """Seconds a conversion could have been seen, float32 (rows,), in [0, conversion_window].

    Args:
        start: ms of the click, or of the impression if there was none.
        end_of_data: ms of the latest event in the log.
        conversion_window: seconds.
    """
    seconds = np.clip((end_of_data - start) / 1_000, 0.0, conversion_window)
    return np.asarray(seconds, np.float32)


def example_columns(
    categorical: tuple[str, ...], numeric: tuple[str, ...], vectors: tuple[str, ...] = ()
) -> list[Column]:
    """The columns of an impression's example."""
    return [
        column for column in features.logged_columns(categorical, numeric, vectors)
        if column.name != features.GRADE
    ]  # fmt: skip


def graded_columns(
    categorical: tuple[str, ...], numeric: tuple[str, ...], vectors: tuple[str, ...] = ()
) -> list[Column]:
    """The columns of a human grade's example: nothing was shown or clicked."""
    item = (Role.TEXT, Role.CATEGORICAL, Role.NUMERIC, Role.VECTOR, Role.KEY)
    return [
        column for column in features.logged_columns(categorical, numeric, vectors)
        if column.name == features.GRADE
        or (column.role in item and column.name != features.USER_ID)
    ]  # fmt: skip


def shard_of(table: pa.Table, columns: Sequence[Column], path: str) -> Shard:
    """Rows as one gzipped TFRecord file, yet to be written; a null becomes the column's
    default, or an absent feature where there is none."""
    present = [column for column in columns if column.name in table.column_names]

    def block(first: int) -> dict[str, pa.Array]:
        rows = table.slice(first, _ROWS)
        return {column.name: _feature(rows.column(column.name), column) for column in present}

    return path, [partial(block, first) for first in range(0, table.num_rows, _ROWS)]


def _feature(values: pa.ChunkedArray, column: Column) -> pa.Array:
    array = values.combine_chunks()
    if pa.types.is_list(array.type):
        return array
    array = array.cast(_ARROW[column.dtype], safe=False)
    if column.default is not None:
        array = array.fill_null(pa.scalar(column.default, array.type))
    return array
