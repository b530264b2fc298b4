"""K small networks trained side by side: one pass over the rows serves every fold.

The first layers lie beside each other in one matrix (d, K·h), so that a batch costs
one product of matrices forward and one backward, whatever K is. A row sends no
gradient into the network that is to judge it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

__all__ = ["Network", "Scaling", "Stacked", "Targets", "residuals", "train"]

Array = np.ndarray

LEARNING_RATE = 2e-3  # at a batch of 1,024; grows with the root of the batch
_DECAY = 0.9  # share of the learning rate that is gone by the last step
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7
# Lets sums be vectorised; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@dataclass(frozen=True)
class Scaling:
    """Standardisation of features.

    Attributes:
        mean: (d,) float32.
        inverse: (d,) float32, 1 / standard deviation; 1 for a constant column.
    """

    mean: Array
    inverse: Array

    @classmethod
    def of(cls, features: Array) -> "Scaling":
        """Learned in one pass, in double precision, without a copy of (n, d)."""
        mean, variance = _moments(np.ascontiguousarray(features, np.float32))
        scale = np.sqrt(variance)
        inverse = 1.0 / np.where(scale > 1e-6, scale, 1.0)
        return cls(mean.astype(np.float32), inverse.astype(np.float32))

    def rows(self, features: Array, rows: Array) -> Array:
        """(b, d) float32: `features[rows]`, standardised."""
        out = np.empty((len(rows), features.shape[1]), np.float32)
        _gather(features, rows, self.mean, self.inverse, out)
        return out


@dataclass(frozen=True)
class Targets:
    """What a row pulls towards: w⁺ times a positive, w⁻ times a negative.

    The loss of a logit z is −w⁺·log σ(z) − w⁻·log(1 − θ·σ(z)) (− w⁺·log θ, a constant).

    Attributes:
        positive, negative, observed: (n,) float32: w⁺, w⁻, θ.
    """

    positive: Array
    negative: Array
    observed: Array

    def take(self, rows: Array) -> "Targets":
        """Those of `rows`."""
        return Targets(self.positive[rows], self.negative[rows], self.observed[rows])


@dataclass(frozen=True)
class Network:
    """One network at one checkpoint, over standardised features.

    logit = w2·relu(x·w1 + b1) + b2; with no hidden layer w1 is (d, 0) and
    logit = w2·x + b2.

    Attributes:
        w1: (d, h). b1: (h,). w2: (h,), or (d,) with no hidden layer. b2: a number.
    """

    w1: Array
    b1: Array
    w2: Array
    b2: float

    def last_inputs(self, inputs: Array) -> Array:
        """(b, h) float32, what the last layer sees of standardised `inputs` (b, d)."""
        if not self.w1.shape[1]:
            return inputs
        return np.maximum(inputs @ self.w1 + self.b1, 0)

    def logits(self, inputs: Array) -> Array:
        """(b,) float32."""
        return self.last_inputs(inputs) @ self.w2 + np.float32(self.b2)


class Stacked:
    """The parameters of K networks, each array float32 with the fold first but for w1.

    Args:
        width: d.
        hidden: h; 0 is logistic regression.
        bias: (K,), the logits to begin with.
        seed: of the first layers.
    """

    def __init__(self, width: int, hidden: int, bias: Array, seed: int) -> None:
        folds = len(bias)
        self.hidden = hidden
        last = hidden or width
        self.w1 = np.zeros((width, folds * hidden), np.float32)
        self.b1 = np.zeros(folds * hidden, np.float32)
        self.w2 = np.zeros((folds, last), np.float32)
        self.b2 = bias.astype(np.float32)
        if hidden:
            for k in range(folds):  # Glorot; every fold its own stream
                rng = np.random.default_rng([seed, k])
                bound = np.sqrt(6 / (width + hidden))
                columns = slice(k * hidden, (k + 1) * hidden)
                self.w1[:, columns] = rng.uniform(-bound, bound, (width, hidden))
                bound = np.sqrt(6 / (hidden + 1))
                self.w2[k] = rng.uniform(-bound, bound, hidden)

    def parameters(self) -> list[Array]:
        """The arrays themselves: changing them changes the networks."""
        return [self.w1, self.b1, self.w2, self.b2]

    def network(self, fold: int) -> Network:
        """A copy of one of the K."""
        columns = slice(fold * self.hidden, (fold + 1) * self.hidden)
        w1, b1 = self.w1[:, columns].copy(), self.b1[columns].copy()
        return Network(w1, b1, self.w2[fold].copy(), float(self.b2[fold]))

    def gradients(self, inputs: Array, fold: Array, targets: Targets, active: Array) -> list[Array]:
        """Mean gradients over the rows that a network may see, as `parameters`.

        Args:
            inputs: (b, d) float32, standardised.
            fold: (b,), the network that is not to learn from the row.
            targets: (b,) each.
            active: (K,) bool; the others do not learn.
        """
        folds = len(self.b2)
        seen = len(fold) - np.bincount(fold, minlength=folds)
        scale = np.where(active, 1 / np.maximum(seen, 1), 0).astype(np.float32)
        columns = (fold, targets.positive, targets.negative, targets.observed, scale)
        if not self.hidden:
            pull = inputs @ self.w2.T
            _pull(pull, self.b2, *columns)
            return [self.w1, self.b1, pull.T @ inputs, pull.sum(axis=0)]
        inner = inputs @ self.w1
        g1, g2, gb = np.zeros_like(self.b1), np.zeros_like(self.w2), np.zeros_like(self.b2)
        _backward(inner, self.b1, self.w2, self.b2, *columns, g1, g2, gb)
        return [inputs.T @ inner, g1, g2, gb]


def train(
    features: Array,
    scaling: Scaling,
    fold: Array,
    targets: Targets,
    start: Stacked,
    active: Array,
    order: Array,
    batch: int,
    passes: int,
    epochs: int,
    seed: int,
) -> Iterator[tuple[list[Network], float]]:
    """Trains by Adam and yields all networks and the mean learning rate, epoch by epoch.

    The learning rate falls linearly to a tenth. Cost per epoch: 4·d·K·h
    multiplications a row and pass; memory: two (batch, K·h) blocks.

    Args:
        features: (n, d) float32.
        scaling: of the features.
        fold: (n,) in [0, K).
        targets: (n,) each.
        start: the networks, trained in place.
        active: (K,) bool, the networks that learn.
        order: (n,) permutation; what the shuffles start from, so that the order
            of the rows in memory does not matter.
        batch: rows a step.
        passes: over the rows in an epoch.
        epochs: how many.
        seed: of the shuffles.
    """
    parts = -(-len(order) // batch)
    total = parts * passes * epochs
    top = LEARNING_RATE * max(1.0, np.sqrt(batch / 1024))
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in start.parameters()]
    step = 0
    for epoch in range(epochs):
        rates = []
        for turn in range(passes):
            shuffled = order[np.random.default_rng([seed, epoch, turn]).permutation(len(order))]
            for rows in np.array_split(shuffled, parts):
                rate = top * (1 - _DECAY * step / total)
                inputs, part = scaling.rows(features, rows), targets.take(rows)
                gradients = start.gradients(inputs, fold[rows], part, active)
                step += 1
                _adam(start.parameters(), gradients, moments, rate, step)
                rates.append(rate)
        yield [start.network(k) for k in range(len(active))], float(np.mean(rates))


def residuals(logit: Array, targets: Targets) -> Array:
    """∂loss/∂logit, shape of `logit` (n,) or (n, m), float32.

    −w⁺·(1 − σ) + w⁻·θσ(1 − σ)/(1 − θσ); σ − y for the pair (y, 1 − y) and θ = 1.
    """
    flat = np.ascontiguousarray(logit, np.float32).reshape(len(logit), -1)
    out = np.empty_like(flat)
    _residuals(flat, targets.positive, targets.negative, targets.observed, out)
    return out.reshape(np.shape(logit))


def _adam(
    parameters: list[Array],
    gradients: list[Array],
    moments: list[tuple[Array, Array]],
    rate: float,
    step: int,
) -> None:
    corrected = np.float32(rate * np.sqrt(1 - _BETA2**step) / (1 - _BETA1**step))
    for value, gradient, (mean, square) in zip(parameters, gradients, moments, strict=True):
        mean += (1 - _BETA1) * (gradient - mean)
        square += (1 - _BETA2) * (gradient * gradient - square)
        value -= corrected * mean / (np.sqrt(square) + np.float32(_EPSILON))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _moments(features: Array) -> tuple[Array, Array]:
    """Mean and variance by column, about the first row."""
    n, d = features.shape
    total, square = np.zeros(d), np.zeros(d)
    for i in range(n):
        for j in range(d):
            away = np.float64(features[i, j]) - np.float64(features[0, j])
            total[j] += away
            square[j] += away * away
    mean = total / n
    variance = np.maximum(square / n - mean * mean, 0.0)
    for j in range(d):
        mean[j] += features[0, j]
    return mean, variance


@njit(cache=True, nogil=True, fastmath=_FAST)
def _gather(features: Array, rows: Array, mean: Array, inverse: Array, out: Array) -> None:
    for b in range(len(rows)):
        i = rows[b]
        for j in range(features.shape[1]):
            out[b, j] = (features[i, j] - mean[j]) * inverse[j]


@njit(cache=True, nogil=True, inline="always")
def _residual(logit: float, positive: float, negative: float, observed: float) -> float:
    # From the smaller of e^z and e^−z, so that 1 − σ keeps its digits.
    small = np.exp(-np.abs(logit))
    low, high = small / (1 + small), 1 / (1 + small)
    yes, no = (high, low) if logit > 0 else (low, high)
    missed = no + (1 - observed) * yes
    return negative * observed * yes * (no / missed if missed > 0 else 1.0) - positive * no


@njit(cache=True, nogil=True)
def _residuals(logit: Array, positive: Array, negative: Array, observed: Array, out: Array) -> None:
    for i in range(logit.shape[0]):
        for m in range(logit.shape[1]):
            out[i, m] = _residual(logit[i, m], positive[i], negative[i], observed[i])


@njit(cache=True, nogil=True, fastmath=_FAST)
def _pull(
    logit: Array, b2: Array, fold: Array, positive: Array, negative: Array, observed: Array,
    scale: Array,
) -> None:  # fmt: skip
    """Logits without bias become scaled residuals; 0 where the network may not see the row."""
    for i in range(logit.shape[0]):
        for k in range(logit.shape[1]):
            pull = _residual(logit[i, k] + b2[k], positive[i], negative[i], observed[i])
            logit[i, k] = 0.0 if fold[i] == k else scale[k] * pull


@njit(cache=True, nogil=True, fastmath=_FAST)
def _backward(
    inner: Array, b1: Array, w2: Array, b2: Array, fold: Array, positive: Array, negative: Array,
    observed: Array, scale: Array, g1: Array, g2: Array, gb: Array,
) -> None:  # fmt: skip
    """First-layer products become their gradients, in place; the others are added up."""
    folds, hidden = w2.shape
    for i in range(inner.shape[0]):
        for k in range(folds):
            start = k * hidden
            if fold[i] == k:
                for j in range(hidden):
                    inner[i, start + j] = 0.0
                continue
            logit = b2[k]
            for j in range(hidden):
                value = max(inner[i, start + j] + b1[start + j], np.float32(0))
                inner[i, start + j] = value
                logit += value * w2[k, j]
            pull = np.float32(scale[k] * _residual(logit, positive[i], negative[i], observed[i]))
            gb[k] += pull
            for j in range(hidden):
                value = inner[i, start + j]
                g2[k, j] += pull * value
                back = pull * w2[k, j] if value > 0 else np.float32(0)
                inner[i, start + j] = back
                g1[start + j] += back
