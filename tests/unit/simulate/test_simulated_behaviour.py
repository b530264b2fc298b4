"""The formulas of shoppers, against values worked out by hand and their limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heft.simulate import behaviour

RANKS = np.arange(10)


def test_attractiveness_of_each_grade() -> None:
    by_hand = [0.1, 0.1 + 0.9 / 7, 0.1 + 0.9 * 3 / 7, 1.0]
    assert behaviour.attractiveness(np.arange(4)) == pytest.approx(by_hand)


def test_conversion_probability_of_each_grade() -> None:
    by_hand = [0.02, 0.02 + 0.28 / 9, 0.02 + 0.28 * 4 / 9, 0.3]
    assert behaviour.conversion_probability(np.arange(4)) == pytest.approx(by_hand)


def test_trust_at_the_top_and_the_bottom() -> None:
    clicks = behaviour.click_given_examination(np.array([0.1, 0.1]), np.array([0, 9]), 0.35)
    top = 0.2275 + (1 - 0.2275) * 0.1
    bottom = 0.02275 + (1 / 1.045 - 0.02275) * 0.1
    assert clicks == pytest.approx([top, bottom])


@given(
    low=st.floats(0.1, 1), high=st.floats(0.1, 1), trust=st.one_of(st.just("none"), st.floats(0, 1))
)
def test_clicks_are_probabilities_that_grow_with_attraction(low, high, trust) -> None:
    low, high = sorted((low, high))
    less = behaviour.click_given_examination(np.full(10, low), RANKS, trust)
    more = behaviour.click_given_examination(np.full(10, high), RANKS, trust)
    assert np.all((less >= 0) & (more <= 1) & (less <= more + 1e-12))


@given(eta=st.floats(0.01, 4))
def test_deeper_ranks_are_seen_less(eta: float) -> None:
    seen = behaviour.examination(RANKS, eta)
    assert np.all(np.diff(seen) < 0) and seen[0] < 1 and seen[-1] > 0


def test_eta_zero_shows_every_rank() -> None:
    assert np.all(behaviour.examination(RANKS, 0.0) == 1)


@pytest.mark.parametrize(("kind", "below"), [("exponential", 1 - np.exp(-0.25)), ("weibull", None)])
def test_delays_have_the_mean_asked_for(kind: str, below: float | None) -> None:
    rng = np.random.default_rng(3)
    hours = behaviour.delays_ms(rng, 400_000, kind, 24.0, 0.6) / 3_600_000
    assert hours.mean() == pytest.approx(24.0, rel=0.02)
    assert hours.min() > 0
    # Within six hours: a quarter of the mean; Weibull of shape .6 from its own distribution.
    scale = 24.0 / 1.5045755  # gamma(1 + 1 / .6)
    expected = below if below is not None else 1 - np.exp(-((6 / scale) ** 0.6))
    assert (hours < 6).mean() == pytest.approx(expected, abs=0.005)
