"""Which query met which title how often: the traffic the reduction is weighted by."""

from collections.abc import Iterable, Mapping

import numpy as np

from heft import features

__all__ = ["count_pairs"]

_MERGED_AT_ONCE = 1 << 20
_TITLE_BITS = 32


def count_pairs(batches: Iterable[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Counts distinct pairs of query and title ids, in memory of the distinct pairs only.

    Args:
        batches: columns `features.QUERY_ID` and `features.TITLE_ID`, int64; rows
            where either is negative (not in the vocabulary) are left out.

    Returns:
        Pairs, (m, 2) int64, sorted; impressions of each, (m,) int64.
    """
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    waiting: list[np.ndarray] = []
    for batch in batches:
        queries, titles = batch[features.QUERY_ID], batch[features.TITLE_ID]
        known = (queries >= 0) & (titles >= 0)
        waiting.append((queries[known] << _TITLE_BITS) | titles[known])
        if sum(map(len, waiting)) >= _MERGED_AT_ONCE:
            keys, counts = _merge(keys, counts, waiting)
            waiting = []
    keys, counts = _merge(keys, counts, waiting)
    pairs = np.stack([keys >> _TITLE_BITS, keys & ((1 << _TITLE_BITS) - 1)], axis=1)
    return pairs, counts


def _merge(
    keys: np.ndarray, counts: np.ndarray, waiting: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    new = np.concatenate([np.empty(0, np.int64), *waiting])
    merged, inverse = np.unique(np.concatenate([keys, new]), return_inverse=True)
    weights = np.concatenate([counts, np.ones(len(new), np.int64)])
    return merged, np.bincount(inverse, weights, minlength=len(merged)).astype(np.int64)
