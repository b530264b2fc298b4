"""Statistics of rates, against SciPy, NumPy by hand, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2_contingency

from heft.gate.rates import (
    chance_of_excess,
    chance_of_rates,
    chance_of_shares,
    divergence,
    spread,
)

COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=6)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 900), st.integers(1, 900))
def test_rates_are_compared_by_the_binomial_of_their_sum(
    events: int, other: int, exposure: int, other_exposure: int
) -> None:
    given_sum = binom(events + other, exposure / (exposure + other_exposure))
    tails = given_sum.cdf(events), given_sum.sf(events - 1)
    found = chance_of_rates(events, exposure, other, other_exposure)
    assert found == pytest.approx(min(1.0, 2 * min(tails)), abs=1e-12)


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_an_excess_is_the_binomial_s_upper_tail(events: int, more: int, share: float) -> None:
    trials = events + more
    assert chance_of_excess(events, trials, share) == pytest.approx(
        binom(trials, share).sf(events - 1), abs=1e-12
    )


@given(COUNTS, st.integers(2, 9))
def test_a_design_effect_is_as_if_there_were_fewer_rows(counts: list[int], design: int) -> None:
    a, b, c = counts[:3]
    whole = chance_of_rates(a * design, 700 * design, (b + c) * design, 900 * design, design)
    assert whole == pytest.approx(chance_of_rates(a, 700, b + c, 900), abs=1e-12)


@given(COUNTS, COUNTS)
def test_divergence_is_that_of_scipy_in_bits(counts: list[int], other: list[int]) -> None:
    size = min(len(counts), len(other))
    p, q = counts[:size], other[:size]
    if not sum(p) or not sum(q):
        assert divergence(p, q) == 0.0
    else:
        assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
        assert 0 <= divergence(p, q) <= 1 + 1e-12


@given(COUNTS, COUNTS)
def test_shares_are_compared_by_chi_square(counts: list[int], other: list[int]) -> None:
    size = min(len(counts), len(other))
    table = np.array([counts[:size], other[:size]])
    table = table[:, table.sum(axis=0) > 0]
    found = chance_of_shares(counts[:size], other[:size])
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        assert found == 1.0
    else:
        expected = chi2_contingency(table, correction=False).pvalue
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_the_spread_of_clusters_is_their_size_and_of_rows_is_one() -> None:
    rng = np.random.default_rng(0)
    rows, size = 40_000, 8
    group = np.repeat(rng.integers(0, 256, rows // size), size)
    exposure = np.bincount(group, minlength=256)
    alone = np.bincount(group, rng.random(rows) < 0.1, 256)
    assert spread(alone, exposure) == pytest.approx(1.0, abs=0.25)
    together = np.bincount(group, np.repeat(rng.random(rows // size) < 0.1, size), 256)
    # Whole clusters are clicked or not: the design effect is their size.
    assert spread(together, exposure) == pytest.approx(size, rel=0.3)


def test_chance_is_even_where_nothing_has_changed() -> None:
    """Of 2,000 pairs of clustered spans few fall below a chance, and about as many as it says."""
    rng = np.random.default_rng(1)
    users, shown, groups = 600, 5, 256
    low = 0
    for _ in range(2_000):
        sides = []
        for _ in range(2):
            liking = rng.beta(1, 9, users)  # people differ
            clicks = rng.binomial(shown, liking)
            group = rng.integers(0, groups, users)
            sides.append((np.bincount(group, clicks, groups), np.bincount(group, minlength=groups)))
        (a, n), (b, m) = [(clicks, rows * shown) for clicks, rows in sides]
        design = max(spread(a, n), spread(b, m))
        low += chance_of_rates(a.sum(), n.sum(), b.sum(), m.sum(), design) < 0.05
    assert 0.01 * 2_000 < low < 0.06 * 2_000
