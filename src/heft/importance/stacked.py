"""K small networks trained side by side: one pass over the rows serves every fold.

The first layers lie beside each other in one matrix (d, K·h), so that a batch costs
one product of matrices forward and one backward, whatever K is. A row sends no
gradient into the network that is to judge it.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from threading import Lock

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heft.importance.stacked_kernels import backward, gather, moments, pull_rows, residual_rows

__all__ = ["Network", "Scaling", "Stacked", "Targets", "losses", "residuals", "threads", "train"]

Array = np.ndarray

LEARNING_RATE = 5e-3  # up to a batch of 1,024; then it grows with the root of the batch
_DECAY = 0.9  # share of the learning rate that is gone by the last step
_LINEAR = 8  # a line has no second layer to help a coefficient grow
_PART = 2048  # rows a thread takes at once
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, np.float32(1e-7)


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
        mean, variance = moments(np.ascontiguousarray(features, np.float32))
        scale = np.sqrt(variance)
        inverse = 1.0 / np.where(scale > 1e-6, scale, 1.0)
        return cls(mean.astype(np.float32), inverse.astype(np.float32))

    def rows(self, features: Array, rows: Array) -> Array:
        """(b, d) float32: `features[rows]`, standardised."""
        out = np.empty((len(rows), features.shape[1]), np.float32)
        gather(features, rows, self.mean, self.inverse, out)
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

    def gradients(self, inputs: Array, fold: Array, targets: Targets, scale: Array) -> list[Array]:
        """Gradients summed over the rows that a network may see, times `scale`; as `parameters`.

        Args:
            inputs: (b, d) float32, standardised.
            fold: (b,), the network that is not to learn from the row.
            targets: (b,) each.
            scale: (K,) float32; 0 for a network that does not learn.
        """
        columns = (fold, targets.positive, targets.negative, targets.observed, scale)
        if not self.hidden:
            pull = inputs @ self.w2.T
            pull_rows(pull, self.b2, *columns)
            return [self.w1, self.b1, pull.T @ inputs, pull.sum(axis=0)]
        inner = inputs @ self.w1
        g1, g2, gb = np.zeros_like(self.b1), np.zeros_like(self.w2), np.zeros_like(self.b2)
        backward(inner, self.b1, self.w2, self.b2, *columns, g1, g2, gb)
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
    steps = -(-len(order) // batch)
    total = steps * passes * epochs
    top = LEARNING_RATE * max(1.0, np.sqrt(batch / 1024))
    if not start.hidden:
        top *= _LINEAR
    adam = _Adam(start.parameters())

    def gradients(rows: Array, scale: Array) -> list[Array]:
        inputs = scaling.rows(features, rows)
        return start.gradients(inputs, fold[rows], targets.take(rows), scale)

    for epoch in range(epochs):
        rates = []
        with threads() as pool:
            for turn in range(passes):
                shuffle = np.random.default_rng([seed, epoch, turn]).permutation(len(order))
                for rows in np.array_split(order[shuffle], steps):
                    seen = len(rows) - np.bincount(fold[rows], minlength=len(active))
                    scale = np.where(active, 1 / np.maximum(seen, 1), 0).astype(np.float32)
                    parts = np.array_split(rows, -(-len(rows) // _PART))
                    alone = len(parts) == 1
                    found = (map if alone else pool.map)(gradients, parts, [scale] * len(parts))
                    rates.append(top * (1 - _DECAY * adam.steps / total))
                    adam.step(
                        [reduce(np.add, same) for same in zip(*found, strict=True)], rates[-1]
                    )
        yield [start.network(k) for k in range(len(active))], float(np.mean(rates))


def residuals(logit: Array, targets: Targets) -> Array:
    """∂loss/∂logit, shape of `logit` (n,) or (n, m), float32.

    −w⁺·(1 − σ) + w⁻·θσ(1 − σ)/(1 − θσ); σ − y for the pair (y, 1 − y) and θ = 1.
    """
    flat = np.ascontiguousarray(logit, np.float32).reshape(
        len(logit), int(np.prod(np.shape(logit)[1:]))
    )
    out = np.empty_like(flat)
    residual_rows(flat, targets.positive, targets.negative, targets.observed, out)
    return out.reshape(np.shape(logit))


def losses(logit: Array, targets: Targets) -> Array:
    """−w⁺·log σ(z) − w⁻·log(1 − θσ(z)) of logits (n,), float64, in nats."""
    z = logit.astype(np.float64)
    theta = targets.observed.astype(np.float64)
    seen = np.log1p((1 - theta) * np.exp(np.minimum(z, 500))) - np.logaddexp(0, z)
    return targets.positive * np.logaddexp(0, -z) - targets.negative * seen


class _Adam:
    """Kingma & Ba 2015, in place."""

    def __init__(self, parameters: list[Array]) -> None:
        self.parameters = parameters
        self.means = [np.zeros_like(p) for p in parameters]
        self.squares = [np.zeros_like(p) for p in parameters]
        self.steps = 0

    def step(self, gradients: list[Array], rate: float) -> None:
        self.steps += 1
        correction = np.sqrt(1 - _BETA2**self.steps) / (1 - _BETA1**self.steps)
        of_each = zip(self.parameters, gradients, self.means, self.squares, strict=True)
        for value, gradient, mean, square in of_each:
            mean += np.float32(1 - _BETA1) * (gradient - mean)
            square += np.float32(1 - _BETA2) * (gradient * gradient - square)
            value -= np.float32(rate * correction) * mean / (np.sqrt(square) + _EPSILON)


class _OneThreadEach:
    """Holds BLAS and OpenMP at one thread while anybody is inside.

    The limit is one for the whole process: were each of several threads to set
    and restore it by itself, the last one could leave it set.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limits = threadpool_limits(1)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limits.restore_original_limits()


_ONE_THREAD_EACH = _OneThreadEach()


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, with one thread for each product of matrices.

    BLAS threads wait for each other by spinning, which a busy machine turns into
    milliseconds a product. Parts that are always the same, beside each other, give
    the same sums on any number of cores.
    """
    with _ONE_THREAD_EACH, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield pool
