"""Folds and orders that follow from the keys of rows, not from where the rows lie."""

import numpy as np

from heft.importance.base import ImportanceData

__all__ = ["fold_of", "look_up", "row_order"]

Array = np.ndarray

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: spreads consecutive seeds


def fold_of(group: Array, folds: int, seed: int = 0) -> Array:
    """(n,) in [0, folds): the same fold for all rows of a group, by hash of its key."""
    return (_hash(np.asarray(group).astype(np.uint64), seed) % np.uint64(folds)).astype(np.int64)


def row_order(data: ImportanceData, seed: int = 0) -> Array:
    """(n,) row numbers by hash of their keys, so that their order in memory does not matter."""
    key = _hash(data.group.astype(np.uint64), seed + 1)
    for column in (data.pair, data.position):
        key = _hash(key ^ column.astype(np.uint64), seed + 1)
    return np.argsort(key, kind="stable")


def look_up(values: Array, known: Array) -> tuple[Array, Array]:
    """Where each value stands in the sorted `known`, (n,) each, and whether it is there at all.

    The place is 0 for what is not there, so that it can index what has a row at least.
    """
    place = np.searchsorted(known, values)
    found = np.zeros(len(values), bool)
    inside = place < len(known)
    found[inside] = known[place[inside]] == np.asarray(values)[inside]
    return np.where(found, place, 0), found


def _hash(key: Array, seed: int) -> Array:
    key = key + np.uint64(seed * _GOLDEN % 2**64)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
