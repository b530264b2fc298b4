"""Logistic regression by Newton's method, with the Hessian kept."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import expit

from heft.errors import ConfigError, DataError
from heft.importance.stacked import threads

__all__ = ["LogisticLayer", "fit_layer", "in_blocks"]

Array = np.ndarray
_T = TypeVar("_T")

_BLOCK = 8_192  # rows: a block in float64 stays in the cache for widths to about 100
_STRIPES = 16  # of blocks, summed in order
_WARM_ROWS = 50_000
_DECREMENT = 1e-10
_ITERATIONS = 200  # it takes six to ten but for far-fetched examination


@dataclass(frozen=True)
class LogisticLayer:
    """y ~ Bernoulli(observed · σ(h · coefficients)), h = (standardised x, 1).

    Attributes:
        mean: (d,) of the rows it was fitted on.
        scale: (d,) standard deviation; 1 for a constant column.
        coefficients: (d + 1,) float64, the bias last.
        factor: (d + 1, d + 1) lower Cholesky factor of H = Σ v h hᵀ + l2 · I, the
            Hessian of the penalised loss over the rows of the fit. v is the second
            derivative by the logit, p (1 − p) where observed is 1.
    """

    mean: Array
    scale: Array
    coefficients: Array
    factor: Array
    _inverse: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        identity = np.eye(len(self.factor))
        inverse = solve_triangular(self.factor, identity, lower=True)
        object.__setattr__(self, "_inverse", np.ascontiguousarray(inverse.T))

    def inputs(self, x: Array) -> Array:
        """(b, d + 1) float64: the standardised rows of x (b, d) and a one."""
        return _inputs(x, self.mean, self.scale)

    def whiten(self, inputs: Array) -> Array:
        """(b, d + 1): rows whose dot products are h H⁻¹ h'."""
        whitened: Array = inputs @ self._inverse
        return whitened

    def solve(self, gradients: Array) -> Array:
        """(b, d + 1): H⁻¹ times each row."""
        solved: Array = gradients @ self._inverse @ self._inverse.T
        return solved

    def slopes(self, inputs: Array, label: Array, observed: Array) -> tuple[Array, Array]:
        """First and second derivative of each row's loss by its logit, each (b,).

        p − y and p (1 − p) where `observed` is 1; the second may be negative below.
        """
        return _derivatives(inputs @ self.coefficients, label, observed)[1:]


def fit_layer(
    x: Array, label: Array, observed: Array | None = None, l2: float = 1.0, random_state: int = 0
) -> LogisticLayer:
    """Minimises Σ loss + l2/2 · ‖coefficients − c‖² by Newton's method.

    c is 0 but for the bias, which is drawn to the base rate, the logit of
    (positives + 1) / (Σ observed + 2): so there is a minimum whatever the labels.
    Steps are halved until they descend, and go by absolute curvature where the loss
    curves down, as it may where observed is below 1. A sample of 50,000 rows finds
    the start, so that large data takes two or three passes. Cost: O(n d²) time a
    pass, in float64 blocks; memory O(d² + block · d) beyond x.

    Args:
        x: (n, d) any float, left as it is.
        label: (n,) {0, 1}.
        observed: (n,) in (0, 1]; ones where left out.
        l2: above 0, on the scale of a sum over rows, not of their mean.
        random_state: seed of the sample that finds the start.

    Raises:
        ConfigError: l2 is not above 0.
        DataError: Newton's method did not converge.
    """
    if not l2 > 0:
        raise ConfigError(f"l2={l2}: expected a number above 0, so that the Hessian has an inverse")
    observed = np.ones(len(label), np.float32) if observed is None else observed
    centre = np.zeros(x.shape[1] + 1)
    centre[-1] = _base_rate(label, observed)
    with threads() as pool:
        mean, scale = _moments(x, pool)
        problem = _Problem(x, label, observed, mean, scale, centre, l2, pool)
        coefficients, factor = _minimum(problem, random_state)
    return LogisticLayer(mean, scale, coefficients, factor)


def in_blocks(
    task: Callable[[Iterator[slice]], _T], rows: int, pool: ThreadPoolExecutor
) -> list[_T]:
    """Results of `task` for each of at most 16 stripes of the row numbers, in order.

    A task gets the blocks of its stripe as slices. The stripes do not depend on how
    many threads `pool` has, so that sums over them are the same on any machine.
    """
    every = [slice(at, min(at + _BLOCK, rows)) for at in range(0, rows, _BLOCK)]
    length = max(1, -(-len(every) // _STRIPES))
    stripes = [every[at : at + length] for at in range(0, len(every), length)]
    return list(pool.map(lambda stripe: task(iter(stripe)), stripes))


@dataclass(frozen=True)
class _Problem:
    """Penalised loss of rows, its gradient and its Hessian."""

    x: Array
    label: Array
    observed: Array
    mean: Array
    scale: Array
    centre: Array
    l2: float
    pool: ThreadPoolExecutor

    def take(self, rows: Array) -> "_Problem":
        columns = self.x[rows], self.label[rows], self.observed[rows]
        return _Problem(*columns, self.mean, self.scale, self.centre, self.l2, self.pool)

    def at(self, coefficients: Array) -> tuple[float, Array, Array]:
        """Loss, gradient and Hessian."""
        found = in_blocks(lambda parts: self._sums(coefficients, parts), len(self.label), self.pool)
        away = coefficients - self.centre
        loss = sum(x[0] for x in found) + 0.5 * self.l2 * float(away @ away)
        gradient = np.sum([x[1] for x in found], axis=0) + self.l2 * away
        hessian = np.sum([x[2] for x in found], axis=0) + self.l2 * np.eye(len(away))
        return loss, gradient, hessian

    def _sums(self, coefficients: Array, parts: Iterator[slice]) -> tuple[float, Array, Array]:
        width = len(coefficients)
        loss, gradient, hessian = 0.0, np.zeros(width), np.zeros((width, width))
        for part in parts:
            h = _inputs(self.x[part], self.mean, self.scale)
            columns = h @ coefficients, self.label[part], self.observed[part]
            losses, residual, curvature = _derivatives(*columns)
            loss += float(losses.sum())
            gradient += residual @ h
            if curvature.min() < 0:
                hessian += h.T @ (h * curvature[:, None])
            else:  # half the multiplications
                h *= np.sqrt(curvature)[:, None]
                hessian += h.T @ h
        return loss, gradient, hessian


def _base_rate(label: Array, observed: Array) -> float:
    """Logit of (positives + 1) / (rows that could have shown one + 2)."""
    positives = float(np.sum(label))
    shown = max(float(observed.sum(dtype=np.float64)), positives)
    return float(np.log((positives + 1) / (shown - positives + 1)))


def _minimum(problem: _Problem, random_state: int) -> tuple[Array, Array]:
    """Coefficients at the minimum and the factor of the Hessian there."""
    rows, start = len(problem.label), problem.centre
    if rows > 2 * _WARM_ROWS:
        some = np.random.default_rng(random_state).choice(rows, _WARM_ROWS, replace=False)
        start, _ = _newton(problem.take(np.sort(some)), start)
    return _newton(problem, start)


def _newton(problem: _Problem, start: Array) -> tuple[Array, Array]:
    at, step = start, np.zeros_like(start)
    best, known = np.inf, start
    for _ in range(_ITERATIONS):
        loss, gradient, hessian = problem.at(at)
        if loss > best + 1e-9 * abs(best):
            step *= 0.5
            at = known - step
            continue
        best, known = loss, at
        factor = _factor(hessian, 1e-3 * problem.l2)
        step = cho_solve((factor, True), gradient)
        if gradient @ step < _DECREMENT:
            return at, factor
        at = at - step
    raise DataError(
        f"the last layer did not converge in {_ITERATIONS} steps with l2={problem.l2}: "
        "expected a minimum; raise l2, or scale the features"
    )


def _factor(hessian: Array, least: float) -> Array:
    """Lower Cholesky factor, with eigenvalues below `least` turned to their absolute value.

    Where examination is below 1 the loss curves down in places. A step by absolute
    curvature runs away from a saddle, as one of Newton's runs into it (Dauphin et al.
    2014).
    """
    try:
        return np.linalg.cholesky(hessian)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(hessian)
        upward = vectors * np.maximum(np.abs(values), least)
        return np.linalg.cholesky(upward @ vectors.T)


def _derivatives(logit: Array, label: Array, observed: Array) -> tuple[Array, Array, Array]:
    """Loss, its first and its second derivative by the logit; each (b,) float64.

    With p = σ(logit), θ = observed and s = θ p (1 − p)/(1 − θ p): a positive has the
    slope −(1 − p) and the curvature p (1 − p); the rest the slope s and the curvature
    s (1 − 2p + θp²)/(1 − θ p).
    """
    p, rest = expit(logit), expit(-logit)
    unseen = np.maximum(rest + (1.0 - observed) * p, 1e-300)  # 1 − θ p without cancellation
    positive = label == 1
    slope = observed * p * rest / unseen
    losses = np.where(positive, np.logaddexp(0.0, -logit) - np.log(observed), -np.log(unseen))
    curvature = np.where(positive, p * rest, slope * (rest - p + observed * p**2) / unseen)
    return losses, np.where(positive, -rest, slope), curvature


def _inputs(x: Array, mean: Array, scale: Array) -> Array:
    h = np.empty((len(x), len(mean) + 1))
    np.subtract(x, mean, out=h[:, :-1])
    h[:, :-1] /= scale
    h[:, -1] = 1.0
    return h


def _moments(x: Array, pool: ThreadPoolExecutor) -> tuple[Array, Array]:
    """Mean and standard deviation by column, in two passes, so that nothing cancels."""
    count, none = max(len(x), 1), np.zeros(x.shape[1])
    sums = in_blocks(lambda parts: _power_sums(x, none, parts)[0], len(x), pool)
    mean = np.sum(sums, axis=0) / count
    sums = in_blocks(lambda parts: _power_sums(x, mean, parts)[1], len(x), pool)
    scale = np.sqrt(np.sum(sums, axis=0) / count)
    return mean, np.where(scale > 1e-6 * (1 + np.abs(mean)), scale, 1.0)


def _power_sums(x: Array, origin: Array, parts: Iterator[slice]) -> tuple[Array, Array]:
    first, second = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for part in parts:
        centred = x[part] - origin
        first += centred.sum(axis=0)
        second += np.einsum("ij,ij->j", centred, centred)
    return first, second
