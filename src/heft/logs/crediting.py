"""Which event is credited to which impression, on arrays.

Events are deduplicated and in order of time; every one of them has one fate, and is
counted by it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.logs.fields import VALUE

__all__ = [
    "ATTRIBUTED", "CONFLICTING", "DUPLICATES", "FILE", "ORPHAN", "ROW", "Events", "Outcome",
    "Rules", "codes", "credit_clicks", "credit_conversions", "events_of", "starts",
]  # fmt: skip

# What became of an event. Early: before its impression, or before its click.
ATTRIBUTED, DUPLICATES = "attributed", "duplicates"
CONFLICTING = "conflicting"  # an impression whose id another one has, of another page or item
ORPHAN, EARLY, LATE, REPEATED, UNCLICKED = (
    "orphan",
    "early",
    "late",
    "repeated",
    "unclicked",
)

FILE, ROW = "_file", "_row"  # where a row was read

_MS = 1_000


@dataclass(frozen=True)
class Rules:
    """What counts. Windows are in seconds; without `view_window` views have no credit."""

    click_window: float
    conversion_window: float
    click: Literal["first", "last"] = "first"
    view_window: float | None = None


@dataclass(frozen=True)
class Events:
    """Events without their duplicates, in order of time; `target` is a row of
    the impressions, -1 for none."""

    target: np.ndarray
    time: np.ndarray
    value: np.ndarray
    duplicates: int


@dataclass(frozen=True)
class Outcome:
    """What was found for each impression: ms of the event, -1 for none, its value, and ms of
    what it was credited to."""

    time: np.ndarray
    value: np.ndarray
    since: np.ndarray
    counts: Counter[str]

    @property
    def happened(self) -> np.ndarray:
        """Boolean, (impressions,)."""
        return np.greater_equal(self.time, 0)


def events_of(events: pa.Table, ids: pa.Array) -> Events:
    """The events of a stream, each once and in order of time, matched with impressions' `ids`."""
    events = events.combine_chunks()
    own_ids = events.column(features.IMPRESSION_ID).combine_chunks()
    time = events.column(features.TIMESTAMP).to_numpy()
    value = np.zeros(len(time))
    if VALUE in events.column_names:
        value = events.column(VALUE).fill_null(0.0).to_numpy()
    own = codes(own_ids)
    read = [events.column(name).to_numpy() for name in (ROW, FILE)]
    order = np.lexsort([*read, value, time, own])
    kept = order[starts(own[order], time[order], value[order])]
    kept = kept[np.lexsort([*(key[kept] for key in read), time[kept]])]
    target = pc.index_in(own_ids, value_set=ids).fill_null(-1)
    return Events(
        target.to_numpy(zero_copy_only=False)[kept], time[kept], value[kept],
        len(time) - len(kept),
    )  # fmt: skip


def credit_clicks(events: Events, shown: np.ndarray, rules: Rules) -> Outcome:
    """What of the clicks belongs to an impression; `shown` is ms, (impressions,)."""
    known = events.target >= 0
    since = shown[np.where(known, events.target, 0)] if len(shown) else events.time
    return _attribute(events, since, known, rules.click_window, len(shown), rules.click)


def credit_conversions(
    events: Events, clicks: Events, clicked: Outcome, shown: np.ndarray, rules: Rules
) -> Outcome:
    """What of the conversions belongs to a click, or to a view where a window says so."""
    known = events.target >= 0
    if not len(shown):
        return _attribute(events, events.time, known, 0.0, 0, "first")
    target = np.where(known, events.target, 0)
    after_click = known & clicked.happened[target]
    since = clicked.time[target]
    if rules.click == "last" and len(clicks.time):
        since = _credited(events, clicks, shown, rules, since)
    window = np.full(len(target), rules.conversion_window)
    ready = after_click
    if rules.view_window is not None:
        viewed = known & ~after_click
        since = np.where(viewed, shown[target], since)
        window[viewed] = rules.view_window
        ready = known
    return _attribute(events, since, ready, window, len(shown), "first")


def _credited(
    events: Events, clicks: Events, shown: np.ndarray, rules: Rules, otherwise: np.ndarray
) -> np.ndarray:
    """ms of the last click inside its window that came no later than each event, of the
    same impression; `otherwise` where there is none."""
    waited = clicks.time - shown[np.maximum(clicks.target, 0)]
    inside = (clicks.target >= 0) & (waited >= 0) & (waited <= rules.click_window * _MS)
    target, time = clicks.target[inside], clicks.time[inside]
    targets, times = np.concatenate([target, events.target]), np.concatenate([time, events.time])
    # At equal times clicks come first.
    is_event = np.arange(len(targets)) >= len(target)
    order = np.lexsort([is_event, times, targets])
    place = np.where(is_event[order], -1, np.arange(len(order)))
    last = np.maximum.accumulate(place)
    before = np.where(last >= 0, order[np.maximum(last, 0)], 0)
    same = (last >= 0) & (targets[before] == targets[order])
    found = np.empty(len(order), np.int64)
    found[order] = np.where(same, times[before], -1)
    own = found[len(target) :]
    return np.where(own >= 0, own, otherwise)


def _attribute(
    events: Events, since: np.ndarray, ready: np.ndarray, window: np.ndarray | float,
    rows: int, which: str,
) -> Outcome:  # fmt: skip
    """The first, or last, event of each impression within `window` seconds of `since` (events,),
    where `ready` (events,) says that there is something to credit it to; and what became of
    each event."""
    time, value = np.full(rows, -1, np.int64), np.zeros(rows)
    credited = np.zeros(rows, np.int64)
    if not rows:
        counts = Counter({ORPHAN: len(events.time), DUPLICATES: events.duplicates})
        return Outcome(time, value, credited, +counts)
    known = events.target >= 0
    waited = events.time - since
    inside = ready & (waited >= 0) & (waited <= np.asarray(window) * _MS)
    candidates = np.flatnonzero(inside)
    if which == "last":
        candidates = candidates[::-1]
    # Events are in order of time, so the first of each target is the earliest.
    hit, first = np.unique(events.target[candidates], return_index=True)
    chosen = candidates[first]
    time[hit], value[hit], credited[hit] = events.time[chosen], events.value[chosen], since[chosen]
    counts = Counter({
        ATTRIBUTED: len(chosen),
        REPEATED: len(candidates) - len(chosen),
        EARLY: int((ready & (waited < 0)).sum()),
        LATE: int((ready & (waited > np.asarray(window) * _MS)).sum()),
        UNCLICKED: int((known & ~ready).sum()),
        ORPHAN: int((~known).sum()),
        DUPLICATES: events.duplicates,
    })  # fmt: skip
    return Outcome(time, value, credited, +counts)


def starts(*ordered: np.ndarray) -> np.ndarray:
    """Boolean (rows,): where a run of rows that agree in every array begins."""
    starts = np.ones(len(ordered[0]), bool)
    starts[1:] = np.any([values[1:] != values[:-1] for values in ordered], axis=0)
    return starts


def codes(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Equal ids get equal numbers."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    encoded: np.ndarray = array.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return encoded
