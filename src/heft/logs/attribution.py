"""The join of impressions with their clicks and conversions, one bucket at a time.

A click belongs to its impression if it came within the click window, both ends
included; the first such click counts, or the last one. A conversion belongs to that
click (of several, to the last one before it, where the last one counts) if it came
within the conversion window of it; the first such conversion counts. There is no
credit for a view alone unless a view window is set. Every other event is counted by kind.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.logs.crediting import (
    ATTRIBUTED,
    CONFLICTING,
    DUPLICATES,
    FILE,
    ROW,
    Outcome,
    Rules,
    codes,
    credit_clicks,
    credit_conversions,
    events_of,
    starts,
)  # fmt: skip

__all__ = [
    "ATTRIBUTED",
    "CLICK_TIME",
    "CONFLICTING",
    "DUPLICATES",
    "FILE",
    "HASH",
    "ROW",
    "UNCLICKED_FLAGS",
    "VIEW_THROUGH",
    "Joined",
    "Rules",
    "conflicts",
    "first_of_each",
    "join_bucket",
]

# Counted beside: conversions of impressions that were only seen, and flags that say
# "converted" where nothing was clicked.
VIEW_THROUGH, UNCLICKED_FLAGS = "view-through", "unclicked flags"

# Columns the batches carry beside Heft's own.
HASH = "_hash"
CLICK_TIME = "_click_time"  # ms, -1 if there was no click

_MS = 1_000


@dataclass(frozen=True)
class Joined:
    """Impressions with labels, and what became of every row, by stream."""

    table: pa.Table
    impressions: Counter[str]
    clicks: Counter[str]
    conversions: Counter[str]
    notes: Counter[str] = field(default_factory=Counter)


def join_bucket(
    impressions: pa.Table, clicks: pa.Table, conversions: pa.Table, rules: Rules
) -> Joined:
    """Deduplicates and joins the rows whose impression ids share a bucket.

    Args:
        impressions: Heft's columns, and `_hash` (uint64, of the impression
            id), `_file` and `_row`, which say where a row was read. Where they have a
            column `click`, or `conversion`, it says what happened, in any of the rows of an
            id, and the stream of that name plays no part.
        clicks: impression_id, timestamp, `_file`, `_row`.
        conversions: the same and value.
        rules: what counts.

    Returns:
        The impressions, one per id (the earliest; of equal ones the one read
        first), in the order of their hash, with click, click_delay, conversion,
        conversion_delay, conversion_value and `_click_time`. A flag has no time: its delay is
        -1, and `_click_time` that of the impression.
    """
    flags = {
        name: _flagged_ids(impressions, name)
        for name in (features.CLICK, features.CONVERSION)
        if name in impressions.column_names
    }
    table = first_of_each(impressions, [ROW, FILE, features.TIMESTAMP])
    shown = table.column(features.TIMESTAMP).to_numpy()
    ids = table.column(features.IMPRESSION_ID).combine_chunks()
    events = events_of(clicks, ids)
    clicked = credit_clicks(events, shown, rules)
    if features.CLICK in flags:
        flagged = _is_in(ids, flags[features.CLICK])
        clicked = replace(clicked, time=np.where(flagged, shown, -1))
    converted = credit_conversions(events_of(conversions, ids), events, clicked, shown, rules)
    if rules.click == "last":
        # The click that a conversion is credited to is the one that counts.
        credited = converted.happened & clicked.happened
        clicked = replace(clicked, time=np.where(credited, converted.since, clicked.time))
    notes = Counter({VIEW_THROUGH: int((converted.happened & ~clicked.happened).sum())})
    if features.CONVERSION in flags:
        flagged = _is_in(ids, flags[features.CONVERSION])
        converted, notes = _flagged_conversions(table, flagged, clicked, rules)
    table = _with_labels(table, clicked, converted, shown, list(flags))
    again = impressions.num_rows - table.num_rows
    others = conflicts(impressions, table) if again else 0
    counts = Counter({ATTRIBUTED: table.num_rows, DUPLICATES: again - others, CONFLICTING: others})
    return Joined(table, counts, clicked.counts, converted.counts, +notes)


def _with_labels(
    table: pa.Table, clicked: Outcome, converted: Outcome, shown: np.ndarray, flags: list[str]
) -> pa.Table:
    click_delay = _seconds(shown, clicked.time)
    conversion_delay = _seconds(converted.since, converted.time)
    unknown = np.float32(-1.0)
    added = {
        features.CLICK: pa.array(clicked.happened.astype(np.int64)),
        features.CLICK_DELAY: pa.array(
            np.where(features.CLICK in flags, unknown, click_delay).astype(np.float32)
        ),
        features.CONVERSION: pa.array(converted.happened.astype(np.int64)),
        features.CONVERSION_DELAY: pa.array(
            np.where(features.CONVERSION in flags, unknown, conversion_delay).astype(np.float32)
        ),
        features.CONVERSION_VALUE: pa.array(
            np.where(converted.happened, converted.value, 0.0).astype(np.float32)
        ),
        CLICK_TIME: pa.array(clicked.time),
    }
    table = table.drop([name for name in added if name in table.column_names])
    for name, array in added.items():
        table = table.append_column(name, array)
    return table


def _seconds(since: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Seconds from `since` to `time`, float32; -1 where `time` is -1, which is never."""
    return np.where(time >= 0, (time - since) / _MS, -1.0).astype(np.float32)


def conflicts(rows: pa.Table, kept: pa.Table) -> int:
    """How many rows are no duplicate of the one that has their id in `kept`: of another page, or
    of another item. Their ids name more than one impression."""
    place = pc.index_in(
        rows.column(features.IMPRESSION_ID), kept.column(features.IMPRESSION_ID).combine_chunks()
    ).to_numpy()
    other = np.zeros(rows.num_rows, bool)
    for name in (features.REQUEST_ID, features.ITEM_ID):
        if name in rows.column_names:
            own = rows.column(name).combine_chunks()
            differs = pc.not_equal(own, kept.column(name).combine_chunks().take(pa.array(place)))
            other |= differs.to_numpy(zero_copy_only=False)
    return int(other.sum())


def first_of_each(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    """One row per impression id: the first by `order`, the last of which counts
    most; sorted by `_hash`, so that the outcome does not depend on how rows came."""
    table = rows.combine_chunks()
    hashes = table.column(HASH).to_numpy()
    places = np.argsort(hashes)
    first = starts(hashes[places])
    alone = first & np.append(first[1:], True)
    if alone.all():
        return table.take(pa.array(places))
    several = places[~alone]
    ids = table.column(features.IMPRESSION_ID).combine_chunks().take(pa.array(several))
    keys = [table.column(name).to_numpy()[several] for name in order]
    own = codes(ids)
    by_id = np.lexsort([*keys, own])
    kept = by_id[starts(own[by_id])]
    # Ids whose hashes collide are set apart by `order`.
    kept = kept[np.lexsort([*(key[kept] for key in keys), hashes[several[kept]]])]
    both = np.concatenate([places[alone], several[kept]])
    # Two ordered runs, which a stable sort merges.
    return table.take(pa.array(both[np.argsort(hashes[both], kind="stable")]))


def _flagged_ids(impressions: pa.Table, name: str) -> pa.Array:
    flagged = pc.equal(impressions.column(name), 1)
    return impressions.column(features.IMPRESSION_ID).filter(flagged).combine_chunks()


def _is_in(ids: pa.Array, flagged: pa.Array) -> np.ndarray:
    found: np.ndarray = pc.is_in(ids, value_set=flagged).to_numpy(zero_copy_only=False)
    return found


def _flagged_conversions(
    table: pa.Table, flagged: np.ndarray, clicked: Outcome, rules: Rules
) -> tuple[Outcome, Counter[str]]:
    counts = flagged if rules.view_window is not None else flagged & clicked.happened
    value = np.zeros(table.num_rows)
    if features.CONVERSION_VALUE in table.column_names:
        value = table.column(features.CONVERSION_VALUE).fill_null(0.0).to_numpy()
    since = np.zeros(table.num_rows, np.int64)
    outcome = Outcome(np.where(counts, 0, -1), value, since, Counter())
    notes = {
        VIEW_THROUGH: int((counts & ~clicked.happened).sum()),
        UNCLICKED_FLAGS: int((flagged & ~counts).sum()),
    }
    return outcome, Counter(notes)
