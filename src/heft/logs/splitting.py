"""Which split a request belongs to, decided on narrow facts alone.

Requests stand in an order: of time, that of their first row, or of a hash, of their own id or
of their user's. What the writers need is small: two places in that order where the splits are
cut, and the few requests whose rows, looked at one by one, would not all say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.errors import DataError
from heft.logs.hashing import hash_ids
from heft.logs.settings import SplitSettings

__all__ = [
    "IMPRESSION_SPLITS",
    "RequestTimes",
    "SplitPlan",
    "hash_ids",
    "kept_negatives",
    "plan_splits",
    "row_places",
]

# A split is a small integer in the arrays: its place in this tuple.
IMPRESSION_SPLITS = (
    features.TRAIN, features.TUNE, features.NATURAL, features.HARVEST, features.SHUFFLED,
)  # fmt: skip
_TRAIN, _TUNE, _NATURAL, _HARVEST, _SHUFFLED = range(5)
_BITS = 53  # of a hash that count: a double holds as many
_NEVER = np.iinfo(np.int64).max


def _no_rows(dtype: type) -> np.ndarray:
    return np.empty(0, dtype)


@dataclass(frozen=True)
class RequestTimes:
    """One entry per request, in the order of its hash: 26 bytes each. `first` and `last` are
    the places of its rows in the order of the splits."""

    hashes: np.ndarray = field(default_factory=lambda: _no_rows(np.uint64))
    first: np.ndarray = field(default_factory=lambda: _no_rows(np.int64))
    last: np.ndarray = field(default_factory=lambda: _no_rows(np.int64))
    any_shuffled: np.ndarray = field(default_factory=lambda: _no_rows(bool))
    all_shuffled: np.ndarray = field(default_factory=lambda: _no_rows(bool))

    @classmethod
    def of_rows(cls, hashes: np.ndarray, time: np.ndarray, shuffled: np.ndarray) -> "RequestTimes":
        """From rows: hash of the request, place, whether the page was shuffled, each (rows,)."""
        shuffled = shuffled.astype(bool)
        return cls.merged([cls(hashes, time, time, shuffled, shuffled)])

    @classmethod
    def merged(cls, parts: Sequence["RequestTimes"]) -> "RequestTimes":
        """Several, as one entry per request."""
        hashes = np.concatenate([part.hashes for part in parts] or [_no_rows(np.uint64)])
        if not len(hashes):
            return cls()
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))

        def reduced(name: str, how: np.ufunc) -> np.ndarray:
            values = np.concatenate([getattr(part, name) for part in parts])
            return np.asarray(how.reduceat(values[order], starts))

        return cls(
            ordered[starts], reduced("first", np.minimum), reduced("last", np.maximum),
            reduced("any_shuffled", np.logical_or), reduced("all_shuffled", np.logical_and),
        )  # fmt: skip


@dataclass(frozen=True)
class SplitPlan:
    """Enough to say of any row which split it belongs to."""

    tune_from: int  # a place in the order
    natural_from: int
    harvest_share: float
    by: str
    exceptional: np.ndarray  # hashes of requests, ascending
    exceptional_split: np.ndarray
    requests: dict[str, int]  # by split; a split without any is left out

    def assign(self, hashes: np.ndarray, place: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
        """The split of each row, as its number in `IMPRESSION_SPLITS`, (rows,).

        Args:
            hashes: of the request.
            place: of `row_places`.
            shuffled: whether the page was.
        """
        split = _assign(hashes, place, shuffled.astype(bool), self)
        if len(self.exceptional):
            entry = np.searchsorted(self.exceptional, hashes)
            entry = np.minimum(entry, len(self.exceptional) - 1)
            found = self.exceptional[entry] == hashes
            split = np.where(found, self.exceptional_split[entry], split)
        return split


def row_places(table: pa.Table, by: str) -> np.ndarray:
    """Where rows stand in the order that splits are cut in, int64 (rows,).

    That is ms, or 53 bits of a hash. Of a row without a user, it is that of its request.
    """
    if by == "time":
        return np.asarray(table.column(features.TIMESTAMP).to_numpy(), np.int64)
    ids = table.column(features.REQUEST_ID).combine_chunks()
    if by == "user":
        users = table.column(features.USER_ID).combine_chunks().fill_null("")
        ids = pc.if_else(pc.equal(pc.utf8_trim_whitespace(users), ""), ids, users)
    return (hash_ids(ids) >> np.uint64(64 - _BITS)).astype(np.int64)


def _assign(
    hashes: np.ndarray, place: np.ndarray, shuffled: np.ndarray, plan: SplitPlan
) -> np.ndarray:
    in_order = np.where(place >= plan.tune_from, _TUNE, _TRAIN)
    in_order = np.where(place >= plan.natural_from, _NATURAL, in_order)
    drawn = (hashes >> np.uint64(64 - _BITS)).astype(float) * 2.0**-_BITS
    if plan.by == "user":
        drawn = place * 2.0**-_BITS  # a user's shuffled pages stay together as well
    by_hash = np.where(drawn < plan.harvest_share, _HARVEST, _SHUFFLED)
    return np.where(shuffled, by_hash, in_order)


def plan_splits(requests: RequestTimes, settings: SplitSettings) -> SplitPlan:
    """Cuts the requests: by time exactly, ties going to the later split; by hash at the
    places where the fractions of all hashes lie, so that a request never changes sides.

    Raises:
        DataError: a split that was asked for would be empty.
    """
    places = np.sort(requests.first[~requests.any_shuffled])
    if settings.by == "time":
        natural = _rows(places, settings.natural)
        natural_from = _cut(places, natural)
        tune_from = _cut(places, natural + _rows(places, settings.tune))
    else:
        natural_from = round((1 - settings.natural) * 2**_BITS)
        tune_from = round((1 - settings.natural - settings.tune) * 2**_BITS)
    nobody = np.empty(0, np.uint64)
    plan = SplitPlan(tune_from, natural_from, settings.shuffled_for_estimation, settings.by,
                     nobody, np.empty(0, np.int64), {})  # fmt: skip
    split = _assign(requests.hashes, requests.first, requests.any_shuffled, plan)
    last = _assign(requests.hashes, requests.last, requests.all_shuffled, plan)
    odd = (split != last) | (requests.any_shuffled != requests.all_shuffled)
    # Rows between the first and the last may lie in yet another split.
    odd |= requests.first != requests.last if settings.by == "user" else False
    counts = np.bincount(split, minlength=len(IMPRESSION_SPLITS))
    by_split = {name: int(n) for name, n in zip(IMPRESSION_SPLITS, counts, strict=True) if n}
    _refuse_empty(by_split, settings, places)
    return replace(
        plan, exceptional=requests.hashes[odd], exceptional_split=split[odd], requests=by_split
    )


def kept_negatives(hashes: np.ndarray, rate: float) -> np.ndarray:
    """Boolean (rows,): whether a request's unclicked rows stay, drawn by its hash at `rate`.

    The draw is another one than that of the splits: both rest on the same hash, and train
    would otherwise be cut from one end of it.
    """
    mixed = (hashes ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(32)
    return np.asarray((mixed >> np.uint64(64 - _BITS)).astype(float) * 2.0**-_BITS < rate)


def _rows(times: np.ndarray, fraction: float) -> int:
    """A fraction of the requests, at least one if any is asked for."""
    return max(round(len(times) * fraction), 1) if fraction > 0 else 0


def _cut(times: np.ndarray, latest: int) -> int:
    """The time from which the `latest` requests begin."""
    if not len(times) or not latest:
        return int(_NEVER)
    return int(times[max(len(times) - latest, 0)])


def _refuse_empty(by_split: dict[str, int], settings: SplitSettings, places: np.ndarray) -> None:
    asked = {
        features.TRAIN: 1.0,
        features.TUNE: settings.tune,
        features.NATURAL: settings.natural,
    }
    for name, fraction in asked.items():
        if fraction > 0 and name not in by_split:
            what, check = (
                ("distinct times", "check `timestamp_unit`")
                if settings.by == "time"
                else (f"hashes of a {settings.by}", "split by time")
            )
            raise DataError(
                f"the split {name!r} is empty: {len(places)} requests in logged order at "
                f"{len(np.unique(places))} {what} cannot be cut into "
                f"tune={settings.tune}, natural={settings.natural}: bring a longer log, or "
                f"{check}, or lower the fractions"
            )
