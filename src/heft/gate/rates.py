"""Statistics of rates and distributions whose rows come in clusters."""

from collections.abc import Sequence

import numpy as np
from scipy.special import betainc
from scipy.stats import chi2

__all__ = ["chance_of_excess", "chance_of_rates", "chance_of_shares", "divergence", "spread"]

Array = np.ndarray


def spread(events: Array, exposure: Array) -> float:
    """How many times a rate's variance is that of independent rows: the design effect
    (Kish 1965, *Survey Sampling*), at least 1.

    The variance is that of a ratio over random groups of whole clusters.

    Args:
        events: (groups,) of each group.
        exposure: (groups,) rows of each group; groups without are left out.
    """
    there = exposure > 0
    events, exposure = events[there].astype(float), exposure[there].astype(float)
    groups, total = len(exposure), exposure.sum()
    if groups < 2 or not events.sum():
        return 1.0
    rate = events.sum() / total
    residual = events - rate * exposure
    variance = groups / (groups - 1) * float(residual @ residual) / total**2
    return max(1.0, variance / (rate / total))


def chance_of_rates(
    events: float, exposure: float, other: float, other_exposure: float, design: float = 1.0
) -> float:
    """Two-sided probability of rates at least so different if they are one.

    Given the sum of both counts, one of them is binomial (Przyborowski & Wilenski 1940,
    *Homogeneity of results in testing samples from Poisson series*); counts of clusters are
    divided by the design effect first.

    Args:
        events, exposure: of one side, such as clicks and impressions.
        other, other_exposure: of the other one.
        design: as `spread` gives it.
    """
    if exposure <= 0 or other_exposure <= 0:
        return 1.0
    count, total = events / design, (events + other) / design
    share = exposure / (exposure + other_exposure)
    return min(1.0, 2 * min(_at_most(count, total, share), _at_least(count, total, share)))


def chance_of_excess(events: float, trials: float, share: float) -> float:
    """Probability of at least `events` of `trials` at a probability of `share`."""
    return _at_least(events, trials, share) if trials > 0 else 1.0


def _at_most(count: float, total: float, share: float) -> float:
    return 1.0 if count >= total else float(betainc(total - count, count + 1, 1 - share))


def _at_least(count: float, total: float, share: float) -> float:
    return 1.0 if count <= 0 else float(betainc(count, total - count + 1, share))


def divergence(counts: Sequence[float], other: Sequence[float]) -> float:
    """Jensen–Shannon divergence in bits, in [0, 1] (Lin 1991, *Divergence measures based on
    the Shannon entropy*); 0 where either has no mass."""
    p, q = _shares(counts), _shares(other)
    if not p.any() or not q.any():
        return 0.0
    middle = (p + q) / 2
    return max(0.0, (_relative(p, middle) + _relative(q, middle)) / 2)


def _shares(counts: Sequence[float]) -> Array:
    values = np.asarray(counts, float)
    return values / values.sum() if values.sum() else values


def _relative(p: Array, q: Array) -> float:
    there = p > 0
    return float(p[there] @ np.log2(p[there] / q[there]))


def chance_of_shares(counts: Sequence[float], other: Sequence[float], design: float = 1.0) -> float:
    """Probability of distributions at least so different if they are one: Pearson's χ² of
    the (2, categories) table, counts divided by the design effect."""
    table = np.stack([np.asarray(counts, float), np.asarray(other, float)]) / design
    table = table[:, table.sum(axis=0) > 0]
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    if table.shape[1] < 2 or not rows.all():
        return 1.0
    expected = rows * columns / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, table.shape[1] - 1))
