"""Bootstraps of groups that no table has to remember."""

from typing import NamedTuple

import numba
import numpy as np

__all__ = ["Bags", "add_out_of_bag", "bag"]

Array = np.ndarray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class Bags(NamedTuple):
    """How each of T bags is drawn.

    Attributes:
        seed: of all bags.
        salts: (T,) int64, another for each bag.
        rate: expected times that a group is in a bag, in (0, 1].
    """

    seed: int
    salts: Array
    rate: float


def bag(group: Array, seed: int, salt: int, rate: float) -> tuple[Array, Array]:
    """Rows that are in the bag, ascending, and how often.

    Rows of one group are in as often as each other: Poisson(rate) times, drawn by
    a hash of group, seed and salt.

    Args:
        group: (n,) int64.
    """
    count = np.empty(len(group), np.int64)
    _count(group, seed, salt, rate, count)
    rows = np.flatnonzero(count)
    return rows, count[rows]


@numba.njit(cache=True, inline="always")
def _uniform(group: int, seed: int, salt: int) -> float:
    """In [0, 1), SplitMix64 (Steele, Lea & Flood 2014) of the three, one after another."""
    key = np.uint64(0)
    for value in (seed, salt, group):
        key = (key ^ np.uint64(value)) + _GOLDEN
        key = (key ^ (key >> np.uint64(30))) * _FIRST
        key = (key ^ (key >> np.uint64(27))) * _SECOND
        key ^= key >> np.uint64(31)
    return np.float64(key >> np.uint64(11)) / 2.0**53


@numba.njit(cache=True, parallel=True)
def _count(group: Array, seed: int, salt: int, rate: float, count: Array) -> None:
    for i in numba.prange(len(group)):
        drawn = _uniform(group[i], seed, salt)
        times, chance = 0, np.exp(-rate)
        while drawn >= chance and times < 20:
            drawn -= chance
            times += 1
            chance *= rate / times
        count[i] = times


@numba.njit(cache=True, parallel=True)
def add_out_of_bag(
    positive: Array,
    label: Array,
    group: Array,
    seed: int,
    salts: Array,
    rate: float,
    vote: bool,
    agreed: Array,
    judged: Array,
) -> None:
    """Sums what models without the row's group say of its label.

    Args:
        positive: (n, T) float32, probability of label 1.
        label: (n,) {0, 1}. group: (n,) int64.
        seed, salts, rate: of the T bags.
        vote: count probabilities above ½ in place of adding them up.
        agreed: (n,) float64, added to. judged: (n,) int64, models counted.
    """
    absent = np.exp(-rate)
    for i in numba.prange(len(label)):
        for t in range(len(salts)):
            if _uniform(group[i], seed, salts[t]) < absent:
                given = positive[i, t] if label[i] == 1 else 1 - positive[i, t]
                if vote:
                    given = 1.0 if given > 0.5 else 0.0
                agreed[i] += given
                judged[i] += 1
