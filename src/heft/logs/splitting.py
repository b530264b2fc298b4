"""Which split a request belongs to, decided on narrow facts alone.

A request's time is the time of its first row. What the writers need is small:
two cut-off times, and the few requests whose rows, looked at one by one, would
not all say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from heft import features
from heft.errors import DataError
from heft.logs.settings import SplitSettings

__all__ = ["RequestTimes", "SplitPlan", "hash_ids", "plan_splits"]

# A split is a small integer in the arrays: its place in this tuple.
IMPRESSION_SPLITS = (
    features.TRAIN, features.TUNE, features.NATURAL, features.HARVEST, features.SHUFFLED,
)  # fmt: skip
_TRAIN, _TUNE, _NATURAL, _HARVEST, _SHUFFLED = range(5)
_NEVER = np.iinfo(np.int64).max


def hash_ids(ids: pa.Array) -> np.ndarray:
    """Hashes of strings, uint64 (rows,): SipHash under a fixed key, the same in every process."""
    values = ids.to_numpy(zero_copy_only=False).astype(object)
    return np.asarray(pd.util.hash_array(values, categorize=False), np.uint64)


def _no_rows(dtype: type) -> np.ndarray:
    return np.empty(0, dtype)


@dataclass(frozen=True)
class RequestTimes:
    """One entry per request, in the order of its hash: 26 bytes each."""

    hashes: np.ndarray = field(default_factory=lambda: _no_rows(np.uint64))
    first: np.ndarray = field(default_factory=lambda: _no_rows(np.int64))  # ms
    last: np.ndarray = field(default_factory=lambda: _no_rows(np.int64))
    any_shuffled: np.ndarray = field(default_factory=lambda: _no_rows(bool))
    all_shuffled: np.ndarray = field(default_factory=lambda: _no_rows(bool))

    @classmethod
    def of_rows(cls, hashes: np.ndarray, time: np.ndarray, shuffled: np.ndarray) -> "RequestTimes":
        """From rows: hash of the request, ms, whether the page was shuffled, each (rows,)."""
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

    tune_from: int  # ms
    natural_from: int  # ms
    harvest_share: float
    exceptional: np.ndarray  # hashes of requests, ascending
    exceptional_split: np.ndarray
    requests: dict[str, int]  # by split; a split without any is left out

    def assign(self, hashes: np.ndarray, time: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
        """The split of each row, as its place in `IMPRESSION_SPLITS`, (rows,)."""
        split = _assign(hashes, time, shuffled.astype(bool), self)
        if len(self.exceptional):
            place = np.searchsorted(self.exceptional, hashes)
            place = np.minimum(place, len(self.exceptional) - 1)
            found = self.exceptional[place] == hashes
            split = np.where(found, self.exceptional_split[place], split)
        return split


def _assign(
    hashes: np.ndarray, time: np.ndarray, shuffled: np.ndarray, plan: SplitPlan
) -> np.ndarray:
    by_time = np.where(time >= plan.tune_from, _TUNE, _TRAIN)
    by_time = np.where(time >= plan.natural_from, _NATURAL, by_time)
    drawn = (hashes >> np.uint64(11)).astype(float) * 2.0**-53
    by_hash = np.where(drawn < plan.harvest_share, _HARVEST, _SHUFFLED)
    return np.where(shuffled, by_hash, by_time)


def plan_splits(requests: RequestTimes, settings: SplitSettings) -> SplitPlan:
    """Cuts the requests by time, exactly, ties going to the later split.

    Raises:
        DataError: a split that was asked for would be empty.
    """
    times = np.sort(requests.first[~requests.any_shuffled])
    natural = _rows(times, settings.natural)
    natural_from = _cut(times, natural)
    tune_from = _cut(times, natural + _rows(times, settings.tune))
    nobody = np.empty(0, np.uint64)
    plan = SplitPlan(tune_from, natural_from, settings.shuffled_for_estimation,
                     nobody, np.empty(0, np.int64), {})  # fmt: skip
    split = _assign(requests.hashes, requests.first, requests.any_shuffled, plan)
    last = _assign(requests.hashes, requests.last, requests.all_shuffled, plan)
    odd = (split != last) | (requests.any_shuffled != requests.all_shuffled)
    counts = np.bincount(split, minlength=len(IMPRESSION_SPLITS))
    by_split = {name: int(n) for name, n in zip(IMPRESSION_SPLITS, counts, strict=True) if n}
    _refuse_empty(by_split, settings, times)
    return SplitPlan(
        tune_from, natural_from, settings.shuffled_for_estimation,
        requests.hashes[odd], split[odd], by_split,
    )  # fmt: skip


def _rows(times: np.ndarray, fraction: float) -> int:
    """A fraction of the requests, at least one if any is asked for."""
    return max(round(len(times) * fraction), 1) if fraction > 0 else 0


def _cut(times: np.ndarray, latest: int) -> int:
    """The time from which the `latest` requests begin."""
    if not len(times) or not latest:
        return int(_NEVER)
    return int(times[max(len(times) - latest, 0)])


def _refuse_empty(by_split: dict[str, int], settings: SplitSettings, times: np.ndarray) -> None:
    asked = {
        features.TRAIN: 1.0,
        features.TUNE: settings.tune,
        features.NATURAL: settings.natural,
    }
    for name, fraction in asked.items():
        if fraction > 0 and name not in by_split:
            raise DataError(
                f"the split {name!r} is empty: {len(times)} requests in logged order at "
                f"{len(np.unique(times))} distinct times cannot be cut into "
                f"tune={settings.tune}, natural={settings.natural}: bring a longer log, or "
                "check `timestamp_unit`, or lower the fractions"
            )
