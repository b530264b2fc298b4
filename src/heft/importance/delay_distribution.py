"""How long conversions take, estimated from those that were seen in time.

A log ends, so that of the late conversions only those of early clicks are in
it. The mean of the delays seen is too short; the likelihood of a delay given
that it was seen, f(d) / F(elapsed), is free of that (right truncation).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize

from heft.errors import ConfigError, DataError

__all__ = ["DelayDistribution", "Family", "fit_delays"]

Array = np.ndarray
Family = Literal["exponential", "weibull"]

# Logs count milliseconds: a delay of 0 lies somewhere below one.
_RESOLUTION = 1e-3
# float32 seconds of a week are exact to 0.06.
_TOLERANCE = 1e-5
# A scale this many times the longest observation cannot be told from infinity.
_FLAT = 1_000.0
_SHAPES = (0.1, 20.0)


@dataclass(frozen=True)
class DelayDistribution:
    """Weibull distribution of the delay: F(t) = 1 − exp(−(t/scale)^shape).

    Attributes:
        scale: seconds, above 0; the mean if `shape` is 1.
        shape: above 0; 1 is the exponential. Below 1 most conversions come at
            once and a few very late.
        rows: conversions the estimate rests on; 0 if it was given.
        flat: delays do not thin out while they can be seen, so that `scale` is
            a bound and not an estimate. F(t) alone means nothing then; a ratio
            F(t) / F(window) still does: (t / window)^shape.
    """

    scale: float
    shape: float = 1.0
    rows: int = 0
    flat: bool = False

    def __post_init__(self) -> None:
        for name in ("scale", "shape"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name}={value} of a delay must be above 0 and finite")

    def cdf(self, seconds: Array) -> Array:
        """(n,) float64 in [0, 1]: the share of conversions that took at most `seconds`."""
        waited = np.maximum(np.asarray(seconds, np.float64), 0.0) / self.scale
        return -np.expm1(-(waited**self.shape))

    def quantile(self, share: float) -> float:
        """Seconds within which `share`, in [0, 1), of the conversions came."""
        return self.scale * float(-np.log1p(-share)) ** (1 / self.shape)


def fit_delays(
    delay: Array, elapsed: Array, family: Family = "exponential", minimum_conversions: int = 20
) -> DelayDistribution:
    """Maximum likelihood of delays that were seen only if delay <= elapsed.

    Maximises Σ log f(dᵢ) − log F(eᵢ) over scale (and shape). Clicks without a
    conversion are not needed: given the delay, whether one comes at all plays no
    part. Chapelle (2014), Modeling Delayed Feedback in Display Advertising, fits
    the same delays together with a conversion model. One distribution for all
    rows; time O(conversions) per step of L-BFGS, some tens of them.

    Args:
        delay: (n,) seconds from click to conversion, of converted rows.
        elapsed: (n,) seconds in which it could have been seen.
        family: `exponential` or `weibull`.
        minimum_conversions: with fewer the estimate is refused.

    Raises:
        ConfigError: unknown family.
        DataError: too few conversions, a negative delay, one above its elapsed time.
    """
    if family not in get_args(Family):
        raise ConfigError(f"Expected one of {list(get_args(Family))}, received: family={family!r}")
    delay, elapsed = np.asarray(delay, np.float64), np.asarray(elapsed, np.float64)
    _check(delay, elapsed, minimum_conversions)
    delay = np.maximum(delay, _RESOLUTION)
    elapsed = np.maximum(elapsed, delay)
    # In units of the longest observation the bounds do not depend on the log.
    unit = float(elapsed.max())
    log_delay, log_elapsed = np.log(delay / unit), np.log(elapsed / unit)
    shapes = _SHAPES if family == "weibull" else (1.0, 1.0)
    found = minimize(
        _negative_log_likelihood,
        x0=np.array([log_delay.mean(), 0.0]),
        args=(log_delay, log_elapsed),
        jac=True,
        method="L-BFGS-B",
        bounds=[(np.log(_RESOLUTION / unit), np.log(_FLAT)), tuple(np.log(shapes))],
    )
    scale, shape = np.exp(found.x)
    return DelayDistribution(
        float(scale * unit), float(shape), len(delay), bool(scale > 0.99 * _FLAT)
    )


def _negative_log_likelihood(
    parameters: Array, log_delay: Array, log_elapsed: Array
) -> tuple[float, Array]:
    """Mean over rows, and its gradient by log scale and log shape."""
    log_scale, shape = parameters[0], float(np.exp(parameters[1]))
    log_u = shape * (log_delay - log_scale)
    log_v = shape * (log_elapsed - log_scale)
    u, v = np.exp(np.minimum(log_u, 700.0)), np.exp(np.minimum(log_v, 700.0))
    # v / (e^v − 1): the derivative of log F by log v; 1 at v = 0.
    ratio = np.where(v > 1e-12, v / np.expm1(np.clip(v, 1e-12, 700.0)), 1.0)
    log_density = np.log(shape) + log_u - log_delay - u
    log_seen = np.where(v > 1e-12, np.log(-np.expm1(-np.maximum(v, 1e-12))), log_v)
    by_scale = shape * (u - 1 + ratio)
    by_shape = 1 + (1 - u) * log_u - ratio * log_v
    value = float((log_density - log_seen).mean())
    return -value, -np.array([by_scale.mean(), by_shape.mean()])


def _check(delay: Array, elapsed: Array, minimum: int) -> None:
    if len(delay) < minimum:
        raise DataError(
            f"{len(delay)} conversions with a delay: expected at least {minimum} to estimate how "
            "long they take; use more data, or give the distribution"
        )
    if not (np.isfinite(delay).all() and np.isfinite(elapsed).all()):
        raise DataError("a conversion's delay or elapsed time is NaN or infinite: expected seconds")
    if delay.min() < 0:
        raise DataError(
            f"delay={delay.min()}: expected seconds from click to conversion, at least 0"
        )
    late = delay > elapsed * (1 + _TOLERANCE) + _RESOLUTION
    if late.any():
        first = int(np.argmax(late))
        raise DataError(
            f"delay={delay[first]:g} exceeds elapsed={elapsed[first]:g} in {int(late.sum())} rows: "
            "a conversion cannot be seen after the end of its observation; check both columns"
        )
