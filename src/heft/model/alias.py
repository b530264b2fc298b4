"""Draws in proportion to weights, each in constant time: the alias method."""

import numba
import numpy as np

__all__ = ["alias_draws", "alias_table"]


def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The table of Vose 1991, *A Linear Algorithm for Generating Random Numbers*.

    Args:
        weights: (n,), at least 0, their sum above 0.

    Returns:
        `threshold` (n,) float64 in [0, 1] and `alias` (n,) int64: draw k evenly, keep it
        with probability threshold[k], else take alias[k].

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """
    weights = np.asarray(weights, np.float64)
    total = weights.sum()
    if not (np.isfinite(total) and total > 0) or (weights < 0).any():
        raise ValueError(
            f"weights with sum {total} and minimum {weights.min(initial=0)}: expected finite "
            "ones of at least 0, some above"
        )
    # By the largest first: the sum of the smallest floats has no inverse.
    shares = weights / weights.max()
    threshold, alias = _vose(shares * (len(shares) / shares.sum()))
    return threshold, alias


def alias_draws(weights: np.ndarray, count: int, seed: int | np.ndarray) -> np.ndarray:
    """(count,) int64 indices, independent, P(k) = weights[k] / Σ weights; the same by seed."""
    threshold, alias = alias_table(weights)
    random = np.random.default_rng(seed)
    place = random.integers(len(alias), size=count)
    return np.where(random.random(count) < threshold[place], place, alias[place])


@numba.njit(nogil=True, cache=True)
def _vose(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(scaled)
    threshold, alias = np.ones(n), np.arange(n)
    small, large = np.empty(n, np.int64), np.empty(n, np.int64)
    smalls = larges = 0
    for k in range(n):
        if scaled[k] < 1:
            small[smalls] = k
            smalls += 1
        else:
            large[larges] = k
            larges += 1
    rest = scaled.copy()
    while smalls and larges:
        smalls -= 1
        less, more = small[smalls], large[larges - 1]
        threshold[less], alias[less] = rest[less], more
        rest[more] -= 1 - rest[less]
        if rest[more] < 1:
            larges -= 1
            small[smalls] = more
            smalls += 1
    # What is left differs from 1 by rounding alone, but for weights of 0.
    for k in small[:smalls]:
        threshold[k] = 1.0
    return threshold, alias
