"""Slopes and offsets against planted ones, and what rests on them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heft.errors import ConfigError, DataError
from heft.importance.affine import AffineCorrection
from heft.importance.base import ImportanceData
from heft.importance.click_model import ClickCells, ClickModel, click_model_from_pairs
from heft.importance.examination import Examination
from heft.importance.pair_posterior import PairPosterior
from heft.importance.repetition import Repetition

SLOPE = np.array([0.60, 0.52, 0.40, 0.28, 0.20])
OFFSET = np.array([0.15, 0.06, 0.03, 0.01, 0.0])


def make_log(rows: int = 60_000, pairs: int = 600, seed: int = 0) -> tuple[ImportanceData, ...]:
    """A ranker that knows something of attractiveness, clicks with trust bias; and the truth."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(pairs, 4)).astype(np.float32)
    attractive = 1 / (1 + np.exp(-(1.5 * features[:, 0] + rng.normal(size=pairs) - 0.5)))
    pair = rng.integers(pairs, size=rows)
    rank = -(2 * attractive[pair] + rng.normal(size=rows))
    position = 1 + np.floor(5 * np.argsort(np.argsort(rank)) / rows).astype(np.int64)
    chance = OFFSET[position - 1] + SLOPE[position - 1] * attractive[pair]
    label = (rng.random(rows) < chance).astype(np.int64)
    data = ImportanceData.of(
        features[pair], label, pair=pair.astype(np.int64), position=position, group=pair // 2
    )
    return data, attractive


def test_slopes_and_offsets_are_found_without_a_shuffled_page() -> None:
    data, attractive = make_log()
    model = click_model_from_pairs(data.position, data.label, data.pair)
    # Up to the scale and the shift that no log can tell: compare the click rates.
    for level in np.quantile(attractive, [0.1, 0.5, 0.9]):
        first = (OFFSET[0] + SLOPE[0] * level - model.offset[0]) / model.slope[0]
        np.testing.assert_allclose(
            model.offset + model.slope * first, OFFSET + SLOPE * level, atol=0.04
        )
    assert model.offset[0] > 0.05  # trust is seen
    assert (model.offset >= 0).all()


def test_without_trust_bias_the_slopes_are_relative_examination() -> None:
    rng = np.random.default_rng(1)
    pair = rng.integers(400, size=50_000)
    position = rng.integers(1, 5, size=50_000)
    theta = np.array([1.0, 0.6, 0.3, 0.1])
    label = (rng.random(50_000) < theta[position - 1] * (0.1 + 0.5 * (pair / 400))).astype(int)
    plain = click_model_from_pairs(position, label, pair, trust_bias=False)
    np.testing.assert_allclose(plain.slope, theta, atol=0.04)
    assert not plain.offset.any()


def test_too_few_clicks_are_refused_and_say_what_to_do() -> None:
    ones = np.ones(100, np.int64)
    with pytest.raises(DataError, match="0 clicks on query-item pairs seen at several positions"):
        click_model_from_pairs(ones, ones, np.arange(100))


def test_cells_sum_rows_by_pair_and_position_and_leave_out_unknown_positions() -> None:
    cells = ClickCells.of(
        np.array([1, 1, 2, 0, 9_999]),
        np.array([1, 0, 1, 1, 0]),
        np.array([7, 7, 7, 7, 5]),
        np.array([1.0, 0.5, 1.0, 1.0, 1.0]),
    )
    found = {
        (int(cells.keys[p]), int(k) + 1): (s, c)
        for p, k, s, c in zip(cells.pair, cells.position, cells.shown, cells.clicked, strict=True)
    }
    assert found == {(7, 1): (1.5, 1.0), (7, 2): (1.0, 1.0), (5, 500): (1.0, 0.0)}


def test_likelihood_of_cells_is_that_of_their_rows() -> None:
    data, _ = make_log(rows=400, pairs=20)
    cells = ClickCells.of(data.position, data.label, data.pair)
    levels = np.array([0.2, 0.7])
    chance = OFFSET[data.position - 1, None] + SLOPE[data.position - 1, None] * levels
    each = np.where(data.label[:, None] == 1, np.log(chance), np.log1p(-chance))
    slow = np.stack([each[data.pair == key].sum(axis=0) for key in cells.keys])
    np.testing.assert_allclose(cells.log_likelihood(SLOPE, OFFSET, levels), slow, rtol=1e-9)


def test_affine_pairs_have_the_attractiveness_as_expectation() -> None:
    data, attractive = make_log(rows=200_000)
    model = ClickModel(SLOPE, OFFSET)
    pairs = AffineCorrection(model, variance_power=0.0).fit(data).pairs(data)
    np.testing.assert_allclose(pairs.sum(axis=1), 1.0)
    for place in range(1, 6):
        rows = data.position == place
        np.testing.assert_allclose(
            pairs[rows, 0].mean(), attractive[data.pair[rows]].mean(), atol=0.03
        )


def test_plain_examination_is_a_model_without_offsets() -> None:
    model = ClickModel.of(Examination(np.array([1.0, 0.5]), 3, "given"))
    slope, offset = model.at(np.array([1, 2, 99, 0]))
    np.testing.assert_allclose(slope, [1.0, 0.5, 0.5, 1.0])
    assert not offset.any()
    with pytest.raises(ConfigError, match="expected slopes above 0"):
        ClickModel(np.array([1.0, 0.0]), np.zeros(2))


def test_the_posterior_knows_attractiveness_better_than_clicks_or_proxy_alone() -> None:
    data, attractive = make_log(rows=12_000)
    model = ClickModel(SLOPE, OFFSET)
    posterior = PairPosterior(model=model, caution=1.0, members=2, random_state=3).fit(data)
    pairs = posterior.pairs(data)
    truth = attractive[data.pair]

    def error(guess: np.ndarray) -> float:
        return float(np.mean((guess - truth) ** 2))

    aggregated = AffineCorrection(model).fit(data).pairs(data)
    total = np.bincount(data.pair, weights=aggregated[:, 0])
    alone = np.clip(total / np.bincount(data.pair, weights=aggregated.sum(axis=1)), 0, 1)
    expected = np.mean([proxy.trace(data).final for proxy in posterior.proxies_], axis=0)
    assert error(pairs[:, 0]) < 0.8 * min(error(alone[data.pair]), error(expected))
    assert ((pairs >= 0) & (pairs <= 1)).all()
    np.testing.assert_allclose(pairs.sum(axis=1), 1.0)
    # As many impressions of weight as the spread around the proxy asks for, and no more.
    assert 2 <= posterior.strength_ <= 32


def test_caution_moves_pairs_towards_the_prior_and_members_steady_it() -> None:
    data, _ = make_log(rows=12_000)
    model = ClickModel(SLOPE, OFFSET)

    def fitted(seed: int, **settings: float) -> PairPosterior:
        return PairPosterior(model=model, random_state=seed, **settings).fit(data)

    plain, cautious = (fitted(0, caution=caution, members=1, rounds=1) for caution in (1.0, 4.0))
    assert cautious.strength_ == 4 * plain.strength_
    prior = plain.proxies_[0].trace(replace(data, group=data.pair)).final
    apart = [np.abs(found.pairs(data)[:, 0] - prior).mean() for found in (plain, cautious)]
    assert apart[1] < 0.7 * apart[0]
    spread = [
        np.std(
            [fitted(seed, members=members, rounds=1).score(data) for seed in range(4)], axis=0
        ).mean()
        for members in (1, 4)
    ]
    assert spread[1] < 0.7 * spread[0]


def test_the_posterior_judges_pairs_that_fit_has_not_met() -> None:
    data, attractive = make_log(rows=30_000)
    posterior = PairPosterior(model=ClickModel(SLOPE, OFFSET)).fit(data.take(data.pair < 400))
    new = data.take(data.pair >= 400)
    correlation = np.corrcoef(posterior.pairs(new)[:, 0], attractive[new.pair])[0, 1]
    assert correlation > 0.8
    again = PairPosterior(model=ClickModel(SLOPE, OFFSET)).fit(data.take(data.pair < 400))
    np.testing.assert_array_equal(again.pairs(new), posterior.pairs(new))


def test_rows_of_bots_are_no_evidence() -> None:
    data, _ = make_log(rows=20_000)
    rng = np.random.default_rng(5)
    bot = rng.random(len(data)) < 0.3
    noisy = ImportanceData.of(
        data.features,
        np.where(bot, 1, data.label),
        pair=data.pair,
        position=data.position,
        group=data.group,
        human=(~bot).astype(np.float32),
    )
    model = ClickModel(SLOPE, OFFSET)
    clean = PairPosterior(model=model).fit(data.take(~bot))
    found = PairPosterior(model=model).fit(noisy)
    difference = found.pairs(noisy)[:, 0] - clean.pairs(noisy)[:, 0]
    assert np.abs(difference).mean() < 0.03


@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.floats(0, 1))
def test_repetition_has_mean_one_and_falls_with_repeats(pairs: list[int], power: float) -> None:
    pair = np.array(pairs, np.int64)
    data = ImportanceData.of(np.zeros((len(pair), 1)), np.zeros(len(pair), int), pair=pair)
    weight = Repetition(power).fit(data).weight(data)
    np.testing.assert_allclose(weight.mean(), 1.0, rtol=1e-5)
    counts = np.bincount(pair)[pair]
    order = np.argsort(counts)
    assert (np.diff(weight[order]) <= 1e-6).all()


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"power=2 must be in \[0, 1\]"):
        Repetition(2)
    with pytest.raises(ConfigError, match="rounds=0: expected at least 1"):
        PairPosterior(rounds=0)
    with pytest.raises(ConfigError, match="members=0: expected at least 1"):
        PairPosterior(members=0)
    with pytest.raises(ConfigError, match="caution=0: expected a factor above 0"):
        PairPosterior(caution=0)
    with pytest.raises(ConfigError, match=r"minimum=0 must be in \(0, 1\]"):
        AffineCorrection(minimum=0)
