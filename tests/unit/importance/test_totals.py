"""Sums over shards say what one computation over all rows would say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from heft.errors import DataError
from heft.importance import attention, combine
from heft.importance.combine import Mode
from heft.importance.gather import HASHES, hash_of
from heft.importance.ranks import Ranks, RankTable
from heft.importance.sample import choose
from heft.importance.totals import (
    Factors,
    Mixture,
    Moments,
    Spread,
    choose_clip,
    clips,
    normaliser,
)


def by_shards(
    debias: np.ndarray,
    label: np.ndarray,
    scores: dict[str, np.ndarray],
    exponents: dict[str, float],
    row: np.ndarray,
    mode: Mode,
    clip: float,
    minimum: float,
    shards: int,
) -> tuple[np.ndarray, Mixture]:
    """The steps of the weighing passes, a shard at a time."""
    parts = np.array_split(np.arange(len(label)), shards)
    ranks = {name: Ranks.of(score, label) for name, score in scores.items() if exponents[name]}
    factors = Factors(exponents, ranks, mode)
    if mode == "formula_4_2":
        own = Ranks.of(factors.product(scores, label), label, row)
        factors = Factors(exponents, ranks, mode, own)
    products = [factors.product({k: v[p] for k, v in scores.items()}, label[p]) for p in parts]
    moments = [Moments.of(x, row[p], label[p]) for x, p in zip(products, parts, strict=True)]
    total = sum(moments[1:], moments[0])
    mixture, tried = normaliser(total, mode), clips(clip)
    spreads = [
        Spread.of(mixture, tried, debias[p], x, row[p], label[p])
        for x, p in zip(products, parts, strict=True)
    ]
    mixture = choose_clip(mixture, total, sum(spreads[1:], spreads[0]), tried, minimum)
    pairs = [
        mixture.pairs(debias[p], x, row[p], label[p]) for x, p in zip(products, parts, strict=True)
    ]
    return np.concatenate(pairs), mixture


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    mode=st.sampled_from(["pair", "plain", "formula_4_2"]),
    clip=st.floats(1, 8),
    minimum=st.floats(0, 1),
    shards=st.integers(1, 5),
    weighed=st.sampled_from(["ones", "some", "one label out"]),
    power=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_shard_by_shard_is_combine(
    seed: int, rows: int, mode: Mode, clip: float, minimum: float, shards: int, weighed: str,
    power: float,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, rows)
    debias = rng.normal(1.0, 1.0, (rows, 2))
    scores = {"a": rng.integers(0, 6, rows).astype(np.float32), "b": rng.normal(size=rows)}
    exponents = {"a": 1.0, "b": power}
    row = {
        "ones": np.ones(rows),
        "some": rng.choice([0.0, 0.5, 3.0], rows) + (np.arange(rows) == 0),
        "one label out": (label == label[0]).astype(float),
    }[weighed]
    factors = [attention(scores[name], label, exponents[name]) for name in scores]
    want = combine(
        debias, label, factors, row_weights=[row], mode=mode, clip=clip, minimum_ess=minimum
    )
    found, mixture = by_shards(
        debias, label, scores, exponents, row, mode, clip, minimum, min(shards, rows)
    )
    # At the bound itself rounding may decide for the neighbour.
    if abs(want.ess - minimum * rows) > 1e-6 * rows:
        assert mixture.clip == pytest.approx(want.clip)
        np.testing.assert_allclose(found, want.pairs, rtol=1e-5, atol=1e-6)


def test_row_weights_that_take_everything_out_are_refused() -> None:
    moments = Moments.of(np.ones(4), np.zeros(4), np.array([0, 1, 0, 1]))
    with pytest.raises(DataError, match="row weights of all 4 rows multiply to 0"):
        normaliser(moments, "pair")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_a_rank_is_the_mid_rank_and_between_its_neighbours_elsewhere(values: list[int]) -> None:
    own = np.array(values, np.float32)
    table = RankTable.of(own)
    assert table is not None
    np.testing.assert_allclose(table.rank(own), (rankdata(own) - 0.5) / len(own))
    other = np.array([-9.0, *np.arange(-5, 6) + 0.5, 9.0], np.float32)
    found = table.rank(other)
    assert ((found > 0) & (found < 1)).all()
    assert (np.diff(found) >= 0).all()
    inside = [(own < x).mean() for x in other]
    np.testing.assert_allclose(found, np.clip(inside, table.least, 1 - table.least))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 5), st.integers(1, 500))
def test_a_sample_is_of_whole_requests_and_as_large_as_allowed(
    requests: int, size: int, most: int
) -> None:
    keys = np.random.default_rng(requests).integers(0, 2**62, requests)
    rows = np.repeat(keys, size)
    sample = choose(np.bincount(hash_of(rows), minlength=HASHES), most)
    held = sample.holds(rows)
    assert held.sum() == sample.rows >= 1
    assert sample.of == len(rows)
    assert all(len(set(held[rows == key])) == 1 for key in keys[:20])
    if most >= len(rows):
        assert held.all()
    elif sample.rows > most:  # one hash's requests at least
        assert len(np.unique(hash_of(rows[held]))) == 1


def test_hashes_of_requests_are_even_and_not_those_of_folds() -> None:
    from heft.importance.proxy import fold_of

    keys = np.arange(200_000)
    chosen = hash_of(keys) < HASHES // 4
    assert chosen.mean() == pytest.approx(0.25, abs=0.01)
    shares = np.bincount(fold_of(keys[chosen], 4)) / chosen.sum()
    assert shares == pytest.approx([0.25] * 4, abs=0.01)
