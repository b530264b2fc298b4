"""Epsilon against published values, closed forms and the exact answer where there is one."""

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

from heft.model.accountant import ORDERS, divergence, epsilon


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "order", "said"),
    [
        # The tests of TensorFlow Privacy's accountant.
        (0.1, 2.0, 10, 5, 0.07737),
        (0.01, 2.5, 50, 1.5, 0.00065),
        (0.01, 2.5, 50, 2.5, 0.001085),
        (0.01, 2.5, 50, 5, 0.00218075),
        (0.01, 2.5, 50, 50, 0.023846),
        (0.01, 2.5, 50, 100, 167.416307),
    ],
)
def test_divergence_is_that_of_the_published_accountant(
    rate: float, noise: float, steps: int, order: float, said: float
) -> None:
    assert steps * divergence(rate, noise, order) == pytest.approx(said, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("noise", "epochs", "said"), [(1.3, 15, 1.19), (1.1, 60, 3.01), (0.7, 45, 7.10)]
)
def test_epsilon_of_mnist_is_that_of_the_tutorial(noise: float, epochs: int, said: float) -> None:
    rate, delta, steps = 256 / 60_000, 1e-5, int(np.ceil(epochs * 60_000 / 256))
    orders = np.array(ORDERS)
    spent = steps * np.array([divergence(rate, noise, float(a)) for a in orders])
    # The tutorial's conversion (Mironov 2017, proposition 3); ours is never worse.
    assert (spent - np.log(delta) / (orders - 1)).min() == pytest.approx(said, abs=0.006)
    found, order = epsilon(rate, noise, steps, delta)
    assert 0.8 * said < found < said
    assert ORDERS[0] < order < ORDERS[-1]


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("order", [2, 5, 32, 256])
def test_whole_orders_have_a_closed_form(rate: float, noise: float, order: int) -> None:
    """Σ C(α, k) (1 − q)^(α − k) q^k exp(k(k − 1) / 2σ²), Mironov, Talwar & Zhang, section 3.3."""
    k = np.arange(order + 1)
    binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms = binomial + k * np.log(rate) + (order - k) * np.log1p(-rate)
    want = logsumexp(terms + k * (k - 1) / (2 * noise**2)) / (order - 1)
    assert divergence(rate, noise, float(order)) == pytest.approx(want, rel=1e-9, abs=1e-12)


def _exact(noise: float, steps: int, delta: float) -> float:
    """ε of a Gaussian mechanism without sampling (Balle & Wang 2018, theorem 8), by bisection."""
    mu, low, high = np.sqrt(steps) / noise, 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        shift = middle / mu
        told = norm.cdf(mu / 2 - shift) - np.exp(middle + norm.logcdf(-mu / 2 - shift))
        low, high = (middle, high) if told > delta else (low, middle)
    return high


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (4.0, 10), (20.0, 100), (0.5, 3)])
def test_without_sampling_it_is_a_bound_of_the_exact_answer_and_a_near_one(
    noise: float, steps: int
) -> None:
    assert divergence(1.0, noise, 3.0) == 3 / (2 * noise**2)
    found, _ = epsilon(1.0, noise, steps, 1e-5)
    exact = _exact(noise, steps, 1e-5)
    assert exact < found < 1.15 * exact


def test_more_steps_more_rows_and_less_noise_cost_more() -> None:
    base = epsilon(0.01, 1.0, 1_000, 1e-5)[0]
    assert epsilon(0.01, 1.0, 0, 1e-5)[0] == 0
    assert epsilon(0.01, 1.0, 2_000, 1e-5)[0] > base
    assert epsilon(0.02, 1.0, 1_000, 1e-5)[0] > base
    assert epsilon(0.01, 0.9, 1_000, 1e-5)[0] > base
    assert epsilon(0.01, 1.0, 1_000, 1e-6)[0] > base
    assert epsilon(0.01, 0.0, 1, 1e-5)[0] == np.inf
