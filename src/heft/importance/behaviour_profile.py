"""What is kept of a visitor's behaviour: sums, so that shards can be added up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.people_clicks import DEEPEST, PeopleClicks, place_of

__all__ = ["DELAY_BINS", "PEOPLE", "TEMPO_BINS", "Profile", "merge_profiles", "profile_of"]

Array = np.ndarray

# People differ: how much they click, and how fast their looks fade down the page.
_APPETITES = (0.25, 0.5, 0.75, 1.0, 1.35, 1.8)
_FADES = (0.6, 1.0, 1.5)
PEOPLE = tuple((g, h) for g in _APPETITES for h in _FADES)
_LEAST, _MOST = 2e-3, 0.97  # nobody is certain to click, or not to

DELAY_BINS = 24  # of a factor of two thirds of an octave each, from 50 ms
_SHORTEST, _PER_OCTAVE = 0.05, 1.5
_REQUEST_BINS, _SPAN_BINS = 6, 4
TEMPO_BINS = _REQUEST_BINS * _SPAN_BINS
_HOUR_MS = 3_600_000
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Profile:
    """Sufficient statistics of visitors, and of each visitor's pairs.

    Every column but `first` and `last` is a sum over rows, those two are a minimum
    and a maximum: `merge_profiles` of the shards' profiles is the profile of
    all, if no request is split between shards. 800 bytes a visitor and 32 for
    each distinct (visitor, pair).

    Attributes:
        user: (u,) int64, ascending.
        shown, clicked: (u, 32) rows and clicks by position.
        delays: (u, DELAY_BINS) clicks by their delay.
        people: (u, len(PEOPLE)) log-likelihood of the clicks under each kind of person.
        requests: (u,) result pages.
        first, last: (u,) int64, milliseconds; no time is a `first` above `last`.
        pair_user, pair: (p,) int64, sorted by both.
        pair_shown, pair_clicked: (p,).
    """

    user: Array
    shown: Array
    clicked: Array
    delays: Array
    people: Array
    requests: Array
    first: Array
    last: Array
    pair_user: Array
    pair: Array
    pair_shown: Array
    pair_clicked: Array

    def __len__(self) -> int:
        return len(self.user)

    def tempo(self) -> Array:
        """(u,) int64 in [0, TEMPO_BINS): how many requests within what time."""
        many = np.clip(np.log2(np.maximum(self.requests, 1)).astype(np.int64), 0, _REQUEST_BINS - 1)
        span = np.maximum(self.last.astype(float) - self.first.astype(float), 0.0) / _HOUR_MS
        length = np.digitize(span, (1.0, 6.0, 48.0))
        # One request has no tempo, whatever its time.
        return np.asarray(np.where(self.requests > 1, many * _SPAN_BINS + length, 0))


def profile_of(data: ImportanceData, unit: Array, clicks: PeopleClicks, user: Array) -> Profile:
    """The profile of each unit.

    Args:
        data: the samples; whole requests.
        unit: (n,) int64, whose behaviour is summed up: the users or the requests.
        clicks: how people click.
        user: (n,) int64, whose own clicks do not count in what is expected of a row.
    """
    users, who = np.unique(unit, return_inverse=True)
    place, label = place_of(data.position), np.asarray(data.label, float)
    cell = who * (DEEPEST + 1) + place
    count = len(users)
    delays, first, last = _times(data, who, count)
    pair_user, pair, shown, clicked = _pairs(unit, data.pair, label)
    return Profile(
        user=users,
        shown=_table(cell, None, count, DEEPEST + 1),
        clicked=_table(cell, label, count, DEEPEST + 1),
        delays=delays,
        people=_people(data, who, count, clicks, user),
        requests=_distinct(who, data.group, count),
        first=first,
        last=last,
        pair_user=pair_user,
        pair=pair,
        pair_shown=shown,
        pair_clicked=clicked,
    )


def merge_profiles(parts: Sequence[Profile]) -> Profile:
    """Several profiles, made with one `PeopleClicks`, as one.

    Raises:
        DataError: there are none.
    """
    if not parts:
        raise DataError("0 profiles: expected at least one to merge")

    def joined(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    users, who = np.unique(joined("user"), return_inverse=True)
    summed = {}
    for name in ("shown", "clicked", "delays", "people", "requests"):
        values = joined(name)
        summed[name] = np.zeros((len(users), *values.shape[1:]))
        np.add.at(summed[name], who, values)
    first = np.full(len(users), _NEVER)
    last = np.full(len(users), -_NEVER)
    np.minimum.at(first, who, joined("first"))
    np.maximum.at(last, who, joined("last"))
    keys = np.stack([joined("pair_user"), joined("pair")], axis=1)
    distinct, place = _unique_rows(keys)
    return Profile(
        user=users, first=first, last=last, pair_user=distinct[:, 0], pair=distinct[:, 1],
        pair_shown=np.bincount(place, joined("pair_shown"), minlength=len(distinct)),
        pair_clicked=np.bincount(place, joined("pair_clicked"), minlength=len(distinct)),
        **summed,
    )  # fmt: skip


def _people(
    data: ImportanceData, who: Array, count: int, clicks: PeopleClicks, user: Array
) -> Array:
    """(u, len(PEOPLE)): one column at a time, so that nothing is as wide as it is long."""
    attraction, place = clicks.attraction(data, user), place_of(data.position)
    total = np.empty((count, len(PEOPLE)))
    # The chance of what happened is p for a click, and 1 − p without one.
    base, sign = 1.0 - data.label, 2.0 * data.label - 1.0
    for k, (appetite, fade) in enumerate(PEOPLE):
        chance = (appetite * clicks.theta_**fade)[place] * attraction
        np.clip(chance, _LEAST, _MOST, out=chance)
        total[:, k] = np.bincount(who, np.log(base + sign * chance), count)
    return total


def _times(data: ImportanceData, who: Array, count: int) -> tuple[Array, Array, Array]:
    """Delays by bin, and the first and last time of each visitor."""
    delays = np.zeros((count, DELAY_BINS))
    if data.click_delay is not None:
        known = np.flatnonzero((data.label == 1) & (np.nan_to_num(data.click_delay, nan=-1.0) >= 0))
        if np.isinf(data.click_delay).any():
            raise DataError(
                f"click_delay=inf in {int(np.isinf(data.click_delay).sum())} rows: expected "
                "seconds from impression to click, NaN without one"
            )
        octave = np.log2(np.maximum(data.click_delay[known].astype(float), _SHORTEST) / _SHORTEST)
        place = np.minimum((octave * _PER_OCTAVE).astype(np.int64), DELAY_BINS - 1)
        delays = _table(who[known] * DELAY_BINS + place, None, count, DELAY_BINS)
    first, last = np.full(count, _NEVER), np.full(count, -_NEVER)
    if data.timestamp is not None:
        np.minimum.at(first, who, data.timestamp)
        np.maximum.at(last, who, data.timestamp)
    return delays, first, last


def _distinct(who: Array, group: Array, count: int) -> Array:
    """(u,) how many groups each visitor has."""
    _, code = np.unique(group, return_inverse=True)
    pairs = np.unique(who * (code.max(initial=0) + 1) + code)
    return np.bincount(pairs // (code.max(initial=0) + 1), minlength=count).astype(float)


def _pairs(unit: Array, pair: Array, label: Array) -> tuple[Array, Array, Array, Array]:
    distinct, place = _unique_rows(np.stack([unit, pair], axis=1))
    size = len(distinct)
    return (
        distinct[:, 0], distinct[:, 1], np.bincount(place, minlength=size).astype(float),
        np.bincount(place, label, size),
    )  # fmt: skip


def _unique_rows(keys: Array) -> tuple[Array, Array]:
    """Distinct rows of (n, 2) int64 in order, and each row's place among them."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    place = np.empty(len(keys), np.int64)
    place[order] = np.cumsum(starts) - 1
    return ordered[starts], place


def _table(cell: Array, weight: Array | None, rows: int, columns: int) -> Array:
    flat = np.bincount(cell, weight, minlength=rows * columns)
    return flat.astype(float).reshape(rows, columns)
