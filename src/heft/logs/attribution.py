"""The join of impressions with their clicks and conversions, one bucket at a time.

A click belongs to its impression if it came within the click window, both ends
included; the first such click counts. A conversion belongs to that click if it
came within the conversion window of it; the first such conversion counts, and
there is no credit for a view alone. Every other event is counted by kind.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.logs.fields import VALUE

__all__ = [
    "ATTRIBUTED",
    "CLICK_TIME",
    "DUPLICATES",
    "FILE",
    "HASH",
    "ROW",
    "Joined",
    "first_of_each",
    "join_bucket",
]

# What became of an event. Early: before its impression, or before its click.
ATTRIBUTED, DUPLICATES = "attributed", "duplicates"
ORPHAN, EARLY, LATE, REPEATED, UNCLICKED = (
    "orphan",
    "early",
    "late",
    "repeated",
    "unclicked",
)

# Columns the batches carry beside Heft's own.
HASH, FILE, ROW = "_hash", "_file", "_row"
CLICK_TIME = "_click_time"  # ms, -1 if there was no click

_MS = 1_000


@dataclass(frozen=True)
class Joined:
    """Impressions with labels, and what became of every row, by stream."""

    table: pa.Table
    impressions: Counter[str]
    clicks: Counter[str]
    conversions: Counter[str]


@dataclass(frozen=True)
class _Events:
    """Events without their duplicates, in order of time; `target` is a row of
    the impressions, -1 for none."""

    target: np.ndarray
    time: np.ndarray
    value: np.ndarray
    duplicates: int


def join_bucket(
    impressions: pa.Table,
    clicks: pa.Table,
    conversions: pa.Table,
    click_window: float,
    conversion_window: float,
) -> Joined:
    """Deduplicates and joins the rows whose impression ids share a bucket.

    Args:
        impressions: Heft's columns, and `_hash` (uint64, of the impression
            id), `_file` and `_row`, which say where a row was read.
        clicks: impression_id, timestamp, `_file`, `_row`.
        conversions: the same and value.
        click_window: seconds.
        conversion_window: seconds.

    Returns:
        The impressions, one per id (the earliest; of equal ones the one read
        first), in the order of their hash, with click, click_delay, conversion,
        conversion_delay, conversion_value and `_click_time`.
    """
    table = first_of_each(impressions, [ROW, FILE, features.TIMESTAMP])
    shown = table.column(features.TIMESTAMP).to_numpy()
    ids = table.column(features.IMPRESSION_ID).combine_chunks()

    click_events = _events(clicks, ids)
    click_time, _, click_counts = _attribute(click_events, shown, shown >= 0, click_window)
    clicked = click_time >= 0

    conversion_events = _events(conversions, ids)
    since = np.where(clicked, click_time, 0)
    time, value, conversion_counts = _attribute(
        conversion_events, since, clicked, conversion_window
    )
    converted = time >= 0
    added = {
        features.CLICK: pa.array(clicked.astype(np.int64)),
        features.CLICK_DELAY: pa.array(_seconds(shown, click_time)),
        features.CONVERSION: pa.array(converted.astype(np.int64)),
        features.CONVERSION_DELAY: pa.array(_seconds(since, time)),
        features.CONVERSION_VALUE: pa.array(np.where(converted, value, 0.0).astype(np.float32)),
        CLICK_TIME: pa.array(click_time),
    }
    for name, array in added.items():
        table = table.append_column(name, array)
    duplicates = impressions.num_rows - table.num_rows
    counts = Counter({ATTRIBUTED: table.num_rows, DUPLICATES: duplicates})
    return Joined(table, counts, click_counts, conversion_counts)


def _seconds(since: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Seconds from `since` to `time`, float32; -1 where `time` is -1, which is never."""
    return np.where(time >= 0, (time - since) / _MS, -1.0).astype(np.float32)


def first_of_each(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    """One row per impression id: the first by `order`, the last of which counts
    most; sorted by `_hash`, so that the outcome does not depend on how rows came."""
    table = rows.combine_chunks()
    codes = _codes(table.column(features.IMPRESSION_ID))
    keys = [table.column(name).to_numpy() for name in order]
    places = np.lexsort([*keys, codes])
    kept = places[_starts(codes[places])]
    hashes = table.column(HASH).to_numpy()[kept]
    # Ids whose hashes collide are set apart by `order`.
    kept = kept[np.lexsort([*(key[kept] for key in keys), hashes])]
    return table.take(pa.array(kept))


def _starts(*ordered: np.ndarray) -> np.ndarray:
    """Boolean (rows,): where a run of rows that agree in every array begins."""
    starts = np.ones(len(ordered[0]), bool)
    starts[1:] = np.any([values[1:] != values[:-1] for values in ordered], axis=0)
    return starts


def _events(events: pa.Table, ids: pa.Array) -> _Events:
    events = events.combine_chunks()
    own_ids = events.column(features.IMPRESSION_ID).combine_chunks()
    time = events.column(features.TIMESTAMP).to_numpy()
    value = np.zeros(len(time))
    if VALUE in events.column_names:
        value = events.column(VALUE).fill_null(0.0).to_numpy()
    codes = _codes(own_ids)
    read = [events.column(name).to_numpy() for name in (ROW, FILE)]
    order = np.lexsort([*read, value, time, codes])
    kept = order[_starts(codes[order], time[order], value[order])]
    kept = kept[np.lexsort([*(key[kept] for key in read), time[kept]])]
    target = pc.index_in(own_ids, value_set=ids).fill_null(-1)
    return _Events(
        target.to_numpy(zero_copy_only=False)[kept], time[kept], value[kept],
        len(time) - len(kept),
    )  # fmt: skip


def _attribute(
    events: _Events, since: np.ndarray, eligible: np.ndarray, window: float
) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """For each impression the time (ms, -1 for none) and value of its first
    event within `window` seconds of `since`, and what became of each event."""
    known = events.target >= 0
    target = np.where(known, events.target, 0)
    time = np.full(len(since), -1, np.int64)
    value = np.zeros(len(since))
    if not len(since):
        return time, value, Counter({ORPHAN: len(known), DUPLICATES: events.duplicates})
    waited = events.time - since[target]
    ready = known & eligible[target]
    inside = ready & (waited >= 0) & (waited <= window * _MS)
    candidates = np.flatnonzero(inside)
    # Events are in order of time, so the first of each target is the earliest.
    hit, first = np.unique(target[candidates], return_index=True)
    chosen = candidates[first]
    time[hit], value[hit] = events.time[chosen], events.value[chosen]
    counts = {
        ATTRIBUTED: len(chosen),
        REPEATED: len(candidates) - len(chosen),
        EARLY: int((ready & (waited < 0)).sum()),
        LATE: int((ready & (waited > window * _MS)).sum()),
        UNCLICKED: int((known & ~ready).sum()),
        ORPHAN: int((~known).sum()),
        DUPLICATES: events.duplicates,
    }
    return (
        time,
        value,
        Counter({kind: count for kind, count in counts.items() if count}),
    )


def _codes(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Equal ids get equal numbers."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    encoded: np.ndarray = array.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return encoded
