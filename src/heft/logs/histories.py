"""What the user of an impression had clicked before it.

Clicks belong to users and rows to impressions, so two more shuffles go round the join:
narrow slices of impressions and clicks meet by impression, which says what was clicked
and when; those meet by user; and what is found goes back to the bucket of the impression.
"""

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.logs import fields
from heft.logs.attribution import CLICK_TIME, FILE, HASH, ROW, join_bucket
from heft.logs.encoding import join_items
from heft.logs.hashing import hash_ids
from heft.logs.planning import Plan
from heft.logs.settings import LogsSettings
from heft.logs.tables import Slice, Spill, empty_table, unpacked

__all__ = ["HISTORY", "NARROW_COLUMNS", "ByUser", "Histories", "last_clicks", "with_history"]

Bucketed = tuple[int, tuple[str, Slice]]

HISTORY = "history"  # a stream of the writers, as impressions and clicks are
_SHOWN, _CLICKED = "shown", "clicked"
_USER, _REQUEST, _TIME, _BUCKET = "user", "request", "time", "bucket"
NARROW_COLUMNS = (
    features.IMPRESSION_ID, features.REQUEST_ID, features.USER_ID, features.ITEM_ID,
    features.TITLE, features.TIMESTAMP, features.CLICK, FILE, ROW, HASH,
)  # fmt: skip
_CELLS = 1 << 21  # clicks looked at together


class ByUser(beam.DoFn):
    """One bucket of impressions and their clicks → both, by user. Rows without one are left out."""

    def __init__(self, settings: LogsSettings, buckets: int, shuffle: str) -> None:
        self._settings = settings
        self._buckets, self._shuffle = buckets, shuffle

    def process(
        self, bucketed: tuple[int, Iterable[tuple[str, Slice]]], plan: Plan, catalogue: bytes
    ) -> Iterator[Bucketed]:
        """Yields tables of what was shown and what was clicked, by bucket of the user."""
        bucket, streams = bucketed
        if plan.splits is None:
            return
        blobs = sorted(streams)
        impressions, clicks = (
            unpacked([blob for own, blob in blobs if own == stream])
            if any(own == stream for own, _ in blobs)
            else empty_table(stream, self._settings)
            for stream in (fields.IMPRESSIONS, fields.CLICKS)
        )
        nothing = empty_table(fields.CONVERSIONS, self._settings)
        table = join_bucket(impressions, clicks, nothing, self._settings.rules).table
        items = (
            unpacked([catalogue]).select([features.ITEM_ID, features.TITLE]) if catalogue else None
        )
        table, _ = join_items(table, items, ())
        yield from self._slices(bucket, table)

    def _slices(self, bucket: int, table: pa.Table) -> Iterator[Bucketed]:
        names = table.column(features.USER_ID).combine_chunks().fill_null("")
        known = pc.not_equal(pc.utf8_trim_whitespace(names), "")
        users = hash_ids(names)
        facts = pa.table({
            _USER: users,
            _REQUEST: hash_ids(table.column(features.REQUEST_ID).combine_chunks()),
            _TIME: table.column(features.TIMESTAMP).to_numpy(),
            _BUCKET: np.full(table.num_rows, bucket, np.int32),
            # The writers join the same rows in the same way: theirs has the same number.
            ROW: np.arange(table.num_rows),
        })  # fmt: skip
        titles = table.column(features.TITLE).combine_chunks().fill_null("")
        clicked = pc.and_(known, pc.greater_equal(table.column(CLICK_TIME).combine_chunks(), 0))
        clicked = pc.and_(clicked, pc.not_equal(titles, ""))
        clicks = pa.table({
            _USER: facts.column(_USER), _REQUEST: facts.column(_REQUEST),
            _TIME: table.column(CLICK_TIME), HASH: table.column(HASH), features.TITLE: titles,
        })  # fmt: skip
        found = ((_SHOWN, facts.filter(known)), (_CLICKED, clicks.filter(clicked)))
        with Spill(self._shuffle, self._buckets) as spill:
            for stream, rows in found:
                by = rows.column(_USER).to_numpy()
                yield from spill.slices(stream, rows, by)


class Histories(beam.DoFn):
    """What some users were shown and clicked → titles for each impression, by its bucket."""

    def __init__(self, settings: LogsSettings, buckets: int, shuffle: str) -> None:
        self._settings = settings
        self._buckets, self._shuffle = buckets, shuffle

    def process(self, bucketed: tuple[int, Iterable[tuple[str, Slice]]]) -> Iterator[Bucketed]:
        """Yields tables of row numbers and titles; an impression without clicks before has none."""
        streams: dict[str, list[Slice]] = {_SHOWN: [], _CLICKED: []}
        for stream, blob in sorted(bucketed[1]):
            streams[stream].append(blob)
        if not streams[_CLICKED]:
            return
        shown, clicks = (unpacked(streams[stream]) for stream in (_SHOWN, _CLICKED))
        # In an order of their own, whatever order the slices came in.
        order = np.lexsort([clicks.column(HASH).to_numpy(), clicks.column(_TIME).to_numpy()])
        clicks = clicks.take(pa.array(order)).combine_chunks()
        keys = [table.column(name).to_numpy() for table in (shown, clicks)
                for name in (_USER, _TIME, _REQUEST)]  # fmt: skip
        found = last_clicks(*keys, most=self._settings.history)
        some = found[:, 0] >= 0
        sizes = (found[some] >= 0).sum(axis=1)
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
        titles = clicks.column(features.TITLE).combine_chunks()
        picked = titles.take(pa.array(found[some][found[some] >= 0]))
        table = pa.table({
            ROW: shown.column(ROW).to_numpy()[some],
            features.HISTORY: pa.ListArray.from_arrays(offsets, picked),
        })  # fmt: skip
        buckets = shown.column(_BUCKET).to_numpy()[some].astype(np.uint64)
        with Spill(self._shuffle, self._buckets) as spill:
            yield from spill.slices(HISTORY, table, buckets)


def last_clicks(
    user: np.ndarray,
    time: np.ndarray,
    request: np.ndarray,
    click_user: np.ndarray,
    click_time: np.ndarray,
    click_request: np.ndarray,
    *,
    most: int,
) -> np.ndarray:
    """The last clicks of each impression's user before it, on other pages.

    A click on the page itself is left out whenever it came: rows of a page may be logged at
    different times, and what a page is clicked for must not tell of its other rows.

    Args:
        user, time, request: (rows,) of impressions; times in ms.
        click_user, click_time, click_request: (clicks,); of equal times the later one in the
            arrays counts as newer.
        most: clicks wanted, at least 1.

    Returns:
        (rows, most) int64 indices of clicks, the newest first; −1 where there are no more.
    """
    order = np.lexsort([click_time, click_user])
    begin, end = _before(user, time, click_user, click_time)
    own = np.subtract(*_before(request, time, click_request, click_time)[::-1])
    found = np.full((len(user), most), -1, np.int64)
    ordered_request = click_request[order]
    first = 0
    while first < len(user):
        # Clicks on the page itself are looked at and passed over.
        step = max(_CELLS // (most + int(own[first : first + _CELLS // most].max())), 1)
        rows = slice(first, first + step)
        width = most + int(own[rows].max())
        place = end[rows, None] - 1 - np.arange(width)
        good = place >= begin[rows, None]
        good &= ordered_request[np.where(good, place, 0)] != request[rows, None]
        kept = np.argsort(~good, axis=1, kind="stable")[:, :most]
        place, good = (np.take_along_axis(values, kept, axis=1) for values in (place, good))
        found[rows] = np.where(good, order[np.where(good, place, 0)], -1)
        first += step
    return found


def _before(
    group: np.ndarray, time: np.ndarray, other_group: np.ndarray, other_time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where, in the others ordered by group and time, those of a row's group that came
    strictly before it begin and end."""
    groups, times = np.concatenate([group, other_group]), np.concatenate([time, other_time])
    # At equal times the rows come first.
    is_other = np.arange(len(groups)) >= len(group)
    order = np.lexsort([is_other, times, groups])
    seen = np.empty(len(groups), np.int64)
    seen[order] = np.cumsum(is_other[order])
    return np.searchsorted(np.sort(other_group), group), seen[: len(group)]


def with_history(table: pa.Table, blobs: list[Slice]) -> pa.Table:
    """The joined rows of a bucket with the histories that were found for them; null for none."""
    place = np.full(table.num_rows, -1, np.int64)
    kind = pa.list_(pa.string())
    titles = pa.array([], kind)
    if blobs:
        found = unpacked(blobs).combine_chunks()
        place[found.column(ROW).to_numpy()] = np.arange(found.num_rows)
        titles = found.column(features.HISTORY).combine_chunks().cast(kind)
    return table.append_column(features.HISTORY, titles.take(pa.array(place, mask=place < 0)))
