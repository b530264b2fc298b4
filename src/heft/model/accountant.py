"""What noise and sampling are worth: epsilon of DP-SGD, by Rényi differential privacy.

Each step takes every row with probability q on its own and adds Gaussian noise of σ clip norms
to the sum. Two logs that differ by one row, there or not there, then differ by a
Rényi divergence per step of

    D_α = log E_{z ~ N(0, σ²)} [(1 − q + q · exp((2z − 1) / 2σ²))^α] / (α − 1)

(Mironov, Talwar & Zhang 2019, *Rényi Differential Privacy of the Sampled Gaussian Mechanism*,
theorem 4 and section 3.3). Steps add up; an order α gives (ε, δ) by theorem 21 of Balle et al.
2020, *Hypothesis Testing Interpretations and Rényi Differential Privacy*.
"""

from functools import cache

import numpy as np
from scipy.special import logsumexp

__all__ = ["ORDERS", "divergence", "epsilon"]

ORDERS = tuple(np.r_[1 + np.arange(1, 100) / 10, np.arange(11, 64), 2.0 ** np.arange(6, 12)])
_REACH, _POINTS = 12.0, 200  # of the integral: standard deviations, and points for each


@cache
def divergence(rate: float, noise: float, order: float) -> float:
    """D_α of one step, in nats.

    The integrand is smooth and falls like a Gaussian, so that the trapezoid rule
    converges exponentially.

    Args:
        rate: q, how likely a row is in a step, in (0, 1].
        noise: σ, standard deviation of the noise over the clip norm; 0 is no privacy.
        order: α above 1.
    """
    if noise == 0:
        return float("inf")
    if rate == 1:
        return order / (2 * noise**2)
    step = noise / _POINTS
    z = np.arange(-_REACH * noise, order + _REACH * noise, step)
    with np.errstate(divide="ignore"):
        ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * z - 1) / (2 * noise**2))
    logs = order * ratio - z**2 / (2 * noise**2)
    moment = logsumexp(logs) + np.log(step) - np.log(noise * np.sqrt(2 * np.pi))
    return max(float(moment), 0.0) / (order - 1)


def epsilon(rate: float, noise: float, steps: int, delta: float) -> tuple[float, float]:
    """ε at `delta` after `steps`, and the order that gives it.

    Args:
        rate, noise: as of `divergence`.
        steps: at least 0.
        delta: in (0, 1).
    """
    if steps == 0:
        return 0.0, ORDERS[0]
    orders = np.array(ORDERS)
    spent = steps * np.array([divergence(rate, noise, float(order)) for order in orders])
    found = spent + np.log1p(-1 / orders) - (np.log(delta) + np.log(orders)) / (orders - 1)
    best = int(np.argmin(found))
    return max(float(found[best]), 0.0), float(orders[best])
