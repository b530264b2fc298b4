"""Examination is recovered from logs whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError
from heft.importance import from_pairs, from_shuffled_pages

THETA = np.array([1.0, 0.8, 0.6, 0.45, 0.3, 0.2])


def _clicks(rng: np.random.Generator, position: np.ndarray, attractiveness: np.ndarray):
    return (rng.random(len(position)) < THETA[position - 1] * attractiveness).astype(int)


def test_shuffled_pages_recover_examination():
    rng = np.random.default_rng(3)
    position = np.tile(np.arange(1, 7), 20_000)
    click = _clicks(rng, position, rng.choice([0.1, 0.6], len(position)))
    assert from_shuffled_pages(position, click).values == pytest.approx(THETA, abs=0.03)


def test_pairs_recover_examination_although_better_items_stand_higher():
    """The case in which click rates by position are wrong and pairs are right."""
    rng = np.random.default_rng(4)
    pair = rng.integers(0, 300, 120_000)
    attractiveness = np.linspace(0.05, 0.8, 300)[pair]
    # A ranker that knows: attractive items stand high, with some noise.
    position = np.clip(np.round(6.5 - 6 * attractiveness + rng.normal(0, 1.2, len(pair))), 1, 6)
    position = position.astype(int)
    click = _clicks(rng, position, attractiveness)
    rates = np.bincount(position, click)[1:] / np.bincount(position)[1:]
    naive = rates / rates[0]
    fitted = from_pairs(position, click, pair)
    assert fitted.values == pytest.approx(THETA, abs=0.05)
    assert np.abs(naive - THETA).max() > 0.15
    assert fitted.source == "query-item pairs"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=60, max_size=200))
def test_any_log_gives_a_falling_curve_of_probabilities_or_is_refused(rows):
    position = np.array([p for p, _ in rows])
    click = np.array([c for _, c in rows], int)
    try:
        values = from_shuffled_pages(position, click, minimum_clicks=1).values
    except DataError:
        assert click.sum() < 1
        return
    assert values[0] == 1.0
    assert ((values > 0) & (values <= 1)).all()
    assert (np.diff(values) <= 1e-12).all()


def test_beyond_the_last_known_position_the_last_value_holds():
    fitted = from_shuffled_pages(np.tile([1, 2], 200), np.tile([1, 0, 1, 1], 100))
    assert fitted.at(np.array([2, 9])).tolist() == [fitted.values[1]] * 2


@pytest.mark.parametrize("estimate", [from_shuffled_pages, lambda p, c: from_pairs(p, c, p)])
def test_too_few_clicks_are_refused_with_the_number(estimate):
    with pytest.raises(DataError, match="^3 clicks|^0 clicks"):
        estimate(np.array([1, 2, 3, 1]), np.array([1, 1, 1, 0]))


def test_positions_that_nothing_is_known_of_take_their_neighbours_value():
    position = np.r_[np.tile([2, 3, 5], 200), 14, 2_147_483_647]
    click = np.r_[np.tile([1, 1, 0], 200), 0, 0]
    values = from_shuffled_pages(position, click).values
    assert np.isfinite(values).all()
    assert values[0] == values[1] == 1.0
    assert len(values) < 1_000
