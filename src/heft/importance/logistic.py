"""Logistic regression by Newton's method, with the Hessian kept."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from scipy.linalg import solve_triangular
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
_ITERATIONS = 60


@dataclass(frozen=True)
class LogisticLayer:
    """y ~ Bernoulli(observed · σ(h · coefficients)), h = (standardised x, 1).

    Attributes:
        mean: (d,) of the rows it was fitted on.
        scale: (d,) standard deviation; 1 for a constant column.
        coefficients: (d + 1,) float64, the bias last.
        factor: (d + 1, d + 1) lower Cholesky factor of H = Σ v h hᵀ + l2 · I, the
            sum over the rows of the fit. v is the Fisher information of the
            logit, p (1 − p) where observed is 1. The bias is not penalised.
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
        """Residual and curvature by the logit, each (b,): p − y and p (1 − p) if observed is 1."""
        return _derivatives(inputs @ self.coefficients, label, observed)[1:]


def fit_layer(
    x: Array, label: Array, observed: Array | None = None, l2: float = 1.0, random_state: int = 0
) -> LogisticLayer:
    """Minimises Σ loss + l2/2 · ‖coefficients but the bias‖² by Newton's method.

    Fisher scoring with step halving; a sample of 50,000 rows finds the start, so
    that large data takes two or three passes. Rows of one label have no minimum and
    get the base rate, (positives + 1) / (Σ observed + 2). Cost: O(n d²) time a pass,
    in float64 blocks; memory O(d² + block · d) beyond x.

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
    with threads() as pool:
        mean, scale = _moments(x, pool)
        problem = _Problem(x, label, observed, mean, scale, l2, pool)
        coefficients, hessian = _minimum(problem, random_state)
    return LogisticLayer(mean, scale, coefficients, np.linalg.cholesky(hessian))


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
    """Penalised loss of rows, its gradient and its Fisher information."""

    x: Array
    label: Array
    observed: Array
    mean: Array
    scale: Array
    l2: float
    pool: ThreadPoolExecutor

    def take(self, rows: Array) -> "_Problem":
        columns = self.x[rows], self.label[rows], self.observed[rows]
        return _Problem(*columns, self.mean, self.scale, self.l2, self.pool)

    def at(self, coefficients: Array) -> tuple[float, Array, Array]:
        penalty = np.full(len(coefficients), self.l2)
        penalty[-1] = 0.0
        sums = in_blocks(lambda parts: self._sums(coefficients, parts), len(self.label), self.pool)
        loss = sum(x[0] for x in sums) + 0.5 * float(penalty @ coefficients**2)
        gradient = np.sum([x[1] for x in sums], axis=0) + penalty * coefficients
        return loss, gradient, np.sum([x[2] for x in sums], axis=0) + np.diag(penalty)

    def _sums(self, coefficients: Array, parts: Iterator[slice]) -> tuple[float, Array, Array]:
        width = len(coefficients)
        loss, gradient, hessian = 0.0, np.zeros(width), np.zeros((width, width))
        for part in parts:
            h = _inputs(self.x[part], self.mean, self.scale)
            losses, residual, curvature = _derivatives(
                h @ coefficients, self.label[part], self.observed[part]
            )
            loss += float(losses.sum())
            gradient += residual @ h
            h *= np.sqrt(curvature)[:, None]
            hessian += h.T @ h
        return loss, gradient, hessian


def _minimum(problem: _Problem, random_state: int) -> tuple[Array, Array]:
    """Coefficients at the minimum, or at the base rate, and the Hessian there."""
    rows, positives = len(problem.label), int(np.sum(problem.label))
    start = np.zeros(problem.x.shape[1] + 1)
    shown = max(float(problem.observed.sum(dtype=np.float64)), positives)
    start[-1] = np.log((positives + 1) / (shown - positives + 1))
    if positives in (0, rows):
        return start, problem.at(start)[2]
    if rows > 2 * _WARM_ROWS:
        some = np.random.default_rng(random_state).choice(rows, _WARM_ROWS, replace=False)
        few = problem.take(np.sort(some))
        if 0 < few.label.sum() < _WARM_ROWS:
            start, _ = _newton(few, start)
    return _newton(problem, start)


def _newton(problem: _Problem, start: Array) -> tuple[Array, Array]:
    """Coefficients at the minimum, and the Hessian there."""
    at, step = start, np.zeros_like(start)
    best, known = np.inf, start
    for _ in range(_ITERATIONS):
        loss, gradient, hessian = problem.at(at)
        if loss > best + 1e-9 * abs(best):
            step *= 0.5
            at = known - step
            continue
        best, known = loss, at
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < _DECREMENT:
            return at, hessian
        at = at - step
    raise DataError(
        f"the last layer did not converge in {_ITERATIONS} steps with l2={problem.l2}: "
        "expected a minimum; raise l2, or scale the features"
    )


def _derivatives(logit: Array, label: Array, observed: Array) -> tuple[Array, Array, Array]:
    """Loss, its derivative by the logit, and the Fisher information; each (b,) float64.

    With p = σ(logit) and θ = observed: a positive has the derivative −(1 − p), the
    rest θ p (1 − p)/(1 − θ p), and the information is θ p (1 − p)²/(1 − θ p).
    """
    p, rest = expit(logit), expit(-logit)
    unseen = rest + (1.0 - observed) * p  # 1 − θ p without cancellation
    positive = label == 1
    with np.errstate(divide="ignore"):
        losses = np.logaddexp(0.0, -logit) - np.log(observed)
    losses = np.where(positive, losses, -np.log(np.maximum(unseen, 1e-300)))
    share = observed * p * rest / np.maximum(unseen, 1e-300)
    return losses, np.where(positive, -rest, share), np.maximum(share * rest, 1e-12)


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
