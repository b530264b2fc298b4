"""Scores and a debias pair become the weight pair a model trains with."""

from dataclasses import dataclass

import numpy as np

from heft.errors import ConfigError, DataError

__all__ = ["Weights", "attention", "combine", "effective_sample_size", "plain_pairs"]

Array = np.ndarray


@dataclass(frozen=True)
class Weights:
    """The weight pairs of one task.

    Attributes:
        pairs: (n, 2) float32, columns w⁺ and w⁻.
        factor: (n,) float32, the part that quality and value contributed.
        ess: effective sample size, in (0, n].
        clip: the clip in force; lower than asked if the bound on ess required it.
    """

    pairs: Array
    factor: Array
    ess: float
    clip: float


def plain_pairs(label: Array) -> Array:
    """(n, 2): (y, 1 − y), which is training without weights."""
    return np.stack([label, 1 - label], axis=1).astype(np.float64)


def effective_sample_size(weights: Array) -> float:
    """(Σw)²/Σw² (Kish 1965) of the mass |w⁺| + |w⁻| of each row; 0 if all are 0."""
    mass = np.abs(weights).sum(axis=1) if weights.ndim == 2 else np.abs(weights)
    squares = float((mass**2).sum())
    return float(mass.sum()) ** 2 / squares if squares > 0 else 0.0


def attention(scores: Array, label: Array, exponent: float) -> Array:
    """(n,) in (0, 1]: the mid-rank of each score within its label, to the power `exponent`.

    Ranks make scores of any scale comparable; within the label, so that
    attention moves between samples and not between classes.
    """
    result = np.ones(len(scores))
    if exponent == 0:
        return result
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} scores are NaN or infinite")
    for value in (0, 1):
        rows = np.flatnonzero(label == value)
        if len(rows):
            result[rows] = _mid_rank(scores[rows]) ** exponent
    return result


def combine(
    debias: Array,
    label: Array,
    factors: list[Array],
    *,
    clip: float = 5.0,
    minimum_ess: float = 0.1,
) -> Weights:
    """debias · normalise(clip(Π factors)).

    The factor has mean 1 within each label, so that it moves attention and not
    the base rate. Where the effective sample size falls below
    `minimum_ess` · n, the clip halves its distance to 1 until it does not.

    Args:
        debias: (n, 2), what is estimated; never normalised away.
        label: (n,) {0, 1}.
        factors: each (n,) and non-negative.
        clip: the factor is kept in [1/clip, clip] around its mean; at least 1.
        minimum_ess: share of n in [0, 1]. The debias pair alone may lie below it.

    Raises:
        ConfigError: clip < 1 or minimum_ess outside [0, 1].
    """
    if clip < 1:
        raise ConfigError(f"clip={clip} must be at least 1, which means no effect of scores")
    if not 0 <= minimum_ess <= 1:
        raise ConfigError(f"minimum_ess={minimum_ess} must be in [0, 1]")
    product = np.prod(np.stack(factors), axis=0) if factors else np.ones(len(label))
    while True:
        factor = _normalise(product, label, clip)
        pairs = debias * factor[:, None]
        ess = effective_sample_size(pairs)
        if ess >= minimum_ess * len(label) or clip <= 1.01:
            return Weights(pairs.astype(np.float32), factor.astype(np.float32), ess, clip)
        clip = 1 + (clip - 1) / 2


def _normalise(product: Array, label: Array, clip: float) -> Array:
    factor = np.ones(len(product))
    for value in (0, 1):
        rows = label == value
        if rows.any() and product[rows].mean() > 0:
            around_one = product[rows] / product[rows].mean()
            clipped = np.clip(around_one, 1 / clip, clip)
            factor[rows] = clipped / clipped.mean()
    return factor


def _mid_rank(values: Array) -> Array:
    """(n,) in (0, 1): average rank of ties, minus a half, over n."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - (counts - 1) / 2 - 0.5) / len(values))[inverse]
