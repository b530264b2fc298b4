"""The inner loops of the stacked networks, compiled.

One thread each and without the interpreter's lock: who calls them divides the rows.
"""

import numpy as np
from numba import njit

__all__ = [
    "FAST",
    "backward",
    "dot_gradients",
    "gather",
    "look",
    "moments",
    "pull_rows",
    "residual_rows",
]

Array = np.ndarray

_ZERO, _ONE = np.float32(0), np.float32(1)
# Lets sums be vectorised; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=FAST)
def moments(features: Array) -> tuple[Array, Array]:
    """Mean and variance by column, about the first row."""
    n, d = features.shape
    total, square = np.zeros(d), np.zeros(d)
    origin = features[0].astype(np.float64)
    for i in range(n):
        row = features[i]
        for j in range(d):
            away = row[j] - origin[j]
            total[j] += away
            square[j] += away * away
    mean = total / n
    variance = np.maximum(square / n - mean * mean, 0.0)
    return mean + origin, variance


@njit(cache=True, nogil=True, fastmath=FAST)
def gather(features: Array, rows: Array, mean: Array, inverse: Array, out: Array) -> None:
    """Standardised rows into `out`."""
    for b in range(len(rows)):
        row, scaled = features[rows[b]], out[b]
        for j in range(len(row)):
            scaled[j] = (row[j] - mean[j]) * inverse[j]


@njit(cache=True, nogil=True, inline="always")
def _residual(logit: float, positive: float, negative: float, observed: float) -> float:
    # From the smaller of e^z and e^−z, so that 1 − σ keeps its digits.
    small = np.exp(-np.abs(logit))
    low, high = small / (1 + small), 1 / (1 + small)
    yes, no = (high, low) if logit > 0 else (low, high)
    missed = no + (1 - observed) * yes
    return negative * observed * yes * (no / missed if missed > 0 else 1.0) - positive * no


@njit(cache=True, nogil=True)
def residual_rows(
    logit: Array, positive: Array, negative: Array, observed: Array, out: Array
) -> None:
    """`stacked.residuals` of every logit of a row, into `out`."""
    for i in range(logit.shape[0]):
        for m in range(logit.shape[1]):
            out[i, m] = _residual(logit[i, m], positive[i], negative[i], observed[i])


@njit(cache=True, nogil=True, fastmath=FAST)
def pull_rows(
    logit: Array, b2: Array, fold: Array, positive: Array, negative: Array, observed: Array,
    scale: Array,
) -> None:  # fmt: skip
    """Logits without bias become scaled residuals; 0 where the network may not see the row."""
    for i in range(logit.shape[0]):
        for k in range(logit.shape[1]):
            pull = _residual(logit[i, k] + b2[k], positive[i], negative[i], observed[i])
            logit[i, k] = 0.0 if fold[i] == k else scale[k] * pull


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(
    inner: Array, b1: Array, w2: Array, b2: Array, fold: Array, positive: Array, negative: Array,
    observed: Array, scale: Array, g1: Array, g2: Array, gb: Array,
) -> None:  # fmt: skip
    """First-layer products become their gradients, in place; the others are added up."""
    folds, hidden = w2.shape
    for i in range(inner.shape[0]):
        for k in range(folds):
            # Views of one network's units: without them the loops are not vectorised.
            units = inner[i, k * hidden : (k + 1) * hidden]
            if fold[i] == k:
                units[:] = 0
                continue
            bias, weights = b1[k * hidden : (k + 1) * hidden], w2[k]
            logit = b2[k]
            for j in range(hidden):
                value = units[j] + bias[j]
                units[j] = value if value > _ZERO else _ZERO
                logit += units[j] * weights[j]
            pull = np.float32(scale[k] * _residual(logit, positive[i], negative[i], observed[i]))
            gb[k] += pull
            first, last = g1[k * hidden : (k + 1) * hidden], g2[k]
            for j in range(hidden):
                value = units[j]
                back = pull * weights[j] if value > _ZERO else _ZERO
                last[j] += pull * value
                first[j] += back
                units[j] = back


@njit(cache=True, nogil=True, fastmath=FAST)
def look(
    inner: Array, b1: Array, w2: Array, b2: Array, square: Array, logits: Array, sensitivity: Array
) -> None:
    """∂z/∂w1 = x(w2 ∘ on)ᵀ, ∂z/∂b1 = w2 ∘ on, ∂z/∂w2 = relu, ∂z/∂b2 = 1."""
    checkpoints, hidden = w2.shape
    for i in range(inner.shape[0]):
        for e in range(checkpoints):
            units = inner[i, e * hidden : (e + 1) * hidden]
            bias, weights = b1[e * hidden : (e + 1) * hidden], w2[e]
            logit, first, last = b2[e], _ZERO, _ONE
            for j in range(hidden):
                value = units[j] + bias[j]
                value = value if value > _ZERO else _ZERO
                weight = weights[j] if value > _ZERO else _ZERO
                logit += value * weight
                first += weight * weight
                last += value * value
            logits[i, e] = logit
            sensitivity[i, e] = np.sqrt(first * square[i] + last)


@njit(cache=True, nogil=True, fastmath=FAST)
def dot_gradients(
    inner: Array, through: Array, b1: Array, w2: Array, b2: Array, positive: Array,
    negative: Array, observed: Array, m1: Array, m2: Array, mb: Array, rates: Array, out: Array,
) -> None:  # fmt: skip
    """Σₑ rate · ⟨gradient, mean⟩; `through` is x·(mean of ∂w1), (b, E·h)."""
    checkpoints, hidden = w2.shape
    for i in range(inner.shape[0]):
        total = _ZERO
        for e in range(checkpoints):
            units = inner[i, e * hidden : (e + 1) * hidden]
            means = through[i, e * hidden : (e + 1) * hidden]
            bias, first = b1[e * hidden : (e + 1) * hidden], m1[e * hidden : (e + 1) * hidden]
            weights, last = w2[e], m2[e]
            logit, dot = b2[e], mb[e]
            for j in range(hidden):
                value = units[j] + bias[j]
                value = value if value > _ZERO else _ZERO
                weight = weights[j] if value > _ZERO else _ZERO
                logit += value * weight
                dot += value * last[j] + weight * (means[j] + first[j])
            total += rates[e] * _residual(logit, positive[i], negative[i], observed[i]) * dot
        out[i] = total
