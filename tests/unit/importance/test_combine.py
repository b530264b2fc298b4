"""Weights move attention and not the base rate, and never leave too few samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData
from heft.importance.combine import attention, combine, effective_sample_size, plain_pairs
from heft.importance.fairness_reweighing import FairnessReweighing
from heft.importance.inverse_propensity import InversePropensity

finite = st.floats(-1e6, 1e6, width=32)
MODES = ["pair", "plain", "formula_4_2"]


def test_without_scores_the_debias_pair_is_the_weight():
    label = np.array([1, 0, 0, 1])
    debias = np.array([[2.0, -1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    weights = combine(debias, label, [], minimum_ess=0)
    assert weights.pairs.tolist() == debias.tolist()


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float64, st.integers(2, 60), elements=finite),
    st.integers(0, 2**32 - 1),
    st.floats(0, 3),
    st.floats(1, 10),
)
def test_the_factor_has_mean_one_within_each_label_and_stays_in_bounds(scores, seed, power, clip):
    label = np.random.default_rng(seed).integers(0, 2, len(scores))
    result = combine(
        plain_pairs(label), label, [attention(scores, label, power)], clip=clip, minimum_ess=0
    )
    for value in set(label):
        factor = result.factor[label == value]
        assert factor.mean() == pytest.approx(1.0, abs=1e-5)
        assert factor.max() / factor.min() <= clip**2 * 1.0001
    assert (result.pairs >= 0).all()
    # What the base rate rests on is unchanged: the mass of positives and of negatives.
    assert result.pairs[:, 0].sum() == pytest.approx(label.sum(), rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float64, st.integers(1, 50), elements=finite), st.integers(0, 2**32 - 1))
def test_attention_is_the_mid_rank_within_the_label(scores, seed):
    label = np.random.default_rng(seed).integers(0, 2, len(scores))
    found = attention(scores, label, 1.0)
    for value in set(label):
        rows = label == value
        expected = (rankdata(scores[rows]) - 0.5) / rows.sum()
        assert found[rows] == pytest.approx(expected)


def test_a_higher_score_weighs_more_and_an_exponent_of_zero_nothing():
    label = np.ones(4, int)
    rising = attention(np.array([1.0, 2.0, 3.0, 4.0]), label, 0.5)
    assert (np.diff(rising) > 0).all()
    assert attention(np.array([1.0, 2.0, 3.0, 4.0]), label, 0.0).tolist() == [1.0] * 4


def test_the_clip_tightens_until_enough_samples_count():
    label = np.zeros(1_000, int)
    heavy = np.r_[np.full(5, 1e6), np.full(995, 1e-6)]
    loose = combine(plain_pairs(label), label, [heavy], clip=100, minimum_ess=0)
    bounded = combine(plain_pairs(label), label, [heavy], clip=100, minimum_ess=0.5)
    assert loose.ess < 500 <= bounded.ess
    assert bounded.clip < loose.clip == 100


def test_weights_that_all_clip_become_even_and_do_not_loop():
    label = np.array([1, 0, 1, 0])
    debias = np.array([[100.0, -99.0], [0, 1], [1, 0], [0, 1]])
    result = combine(debias, label, [np.array([1e9, 1, 1, 1e9])], clip=1, minimum_ess=1)
    assert result.factor.tolist() == [1.0] * 4
    assert np.isfinite(result.pairs).all()


def _drawn(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both kinds, scores with ties, and row weights, some of them 0."""
    rng = np.random.default_rng(seed)
    label = np.r_[0, 1, rng.integers(0, 2, rows)]
    row = rng.gamma(0.5, size=rows + 2) * (rng.random(rows + 2) < 0.8)
    row[:2] += 0.1
    return label, rng.integers(0, 8, rows + 2).astype(float), row


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from(MODES), st.floats(1, 20),
    st.floats(0, 1),
)  # fmt: skip
def test_row_weights_have_mean_one_and_keep_their_ratio_between_the_labels(
    seed, rows, mode, clip, bound
):
    label, scores, row = _drawn(seed, rows)
    result = combine(
        plain_pairs(label), label, [attention(scores, label, 1.0)],
        row_weights=[row], mode=mode, clip=clip, minimum_ess=bound,
    )  # fmt: skip
    assert result.row.mean() == pytest.approx(1.0, rel=1e-5)
    assert (result.pairs >= 0).all() and np.isfinite(result.pairs).all()
    assert (result.pairs[row == 0] == 0).all()
    # What quality and value add moves nothing between the labels.
    mass = 0.5 if mode == "formula_4_2" else 1.0
    for value in (0, 1):
        expected = mass * row[label == value].sum() / row.mean()
        assert result.pairs[label == value].sum() == pytest.approx(expected, rel=1e-3)
    without = combine(plain_pairs(label), label, [], row_weights=[row], mode=mode, minimum_ess=0)
    assert without.pairs.sum(axis=1) == pytest.approx(mass * row / row.mean(), rel=1e-5)


def test_several_row_weights_multiply_and_their_scale_does_not_matter():
    label = np.array([0, 1, 1, 0])
    fraud, domain = np.array([1.0, 0, 1, 1]), np.array([2.0, 2, 1, 3])
    result = combine(plain_pairs(label), label, [], row_weights=[fraud, domain], minimum_ess=0)
    assert result.row == pytest.approx(np.array([2, 0, 1, 3]) / 1.5)
    scaled = combine(
        plain_pairs(label), label, [], row_weights=[1e-200 * fraud, 1e200 * domain], minimum_ess=0
    )
    assert scaled.pairs == pytest.approx(result.pairs)
    assert combine(plain_pairs(label), label, []).row is None


def test_row_weights_apply_to_both_parts_of_an_unbiased_pair():
    label = np.array([1, 0])
    debias = np.array([[4.0, -3.0], [0.0, 1.0]])
    result = combine(debias, label, [], row_weights=[np.array([3.0, 1.0])], minimum_ess=0)
    assert result.pairs == pytest.approx(np.array([[6.0, -4.5], [0.0, 0.5]]))


def test_row_weights_may_move_the_base_rate_and_fairness_survives_attention():
    rng = np.random.default_rng(0)
    protected = rng.integers(0, 3, 3_000)
    label = (rng.random(3_000) < 0.2 + 0.2 * protected).astype(int)
    data = ImportanceData.of(np.zeros((3_000, 1)), label, protected=protected)
    fair = FairnessReweighing().fit(data).weight(data)
    result = combine(plain_pairs(label), label, [], row_weights=[fair])
    rates = [
        result.pairs[protected == g, 0].sum() / result.pairs[protected == g].sum() for g in range(3)
    ]
    assert rates == pytest.approx([label.mean()] * 3, rel=1e-4)
    sampled = combine(plain_pairs(label), label, [], row_weights=[np.where(label, 1.0, 10.0)])
    odds = sampled.pairs[:, 0].sum() / sampled.pairs[:, 1].sum()
    assert odds == pytest.approx(label.mean() / (1 - label.mean()) / 10, rel=1e-4)


def test_rows_taken_out_do_not_say_where_the_mean_of_attention_is():
    """Bots with scores of 0 among the positives must not make people's clicks heavier."""
    label = np.repeat([0, 1], 100)
    scores = np.linspace(0.5, 1.5, 200)
    row = np.ones(200)
    scores[100:150], row[100:150] = 0.0, 0.0
    result = combine(plain_pairs(label), label, [scores], row_weights=[row], minimum_ess=0)
    assert result.pairs[:, 0].sum() / result.pairs.sum() == pytest.approx(1 / 3, rel=1e-5)


def test_plain_weights_are_one_number_for_each_row():
    label = np.array([1, 1, 0, 0])
    scores = np.array([1.0, 3.0, 1.0, 1.0])
    result = combine(plain_pairs(label), label, [scores], mode="plain", minimum_ess=0)
    assert result.pairs.tolist() == [[0.5, 0], [1.5, 0], [0, 1], [0, 1]]
    assert result.pairs == pytest.approx(result.factor[:, None] * plain_pairs(label))


def test_plain_inverse_propensity_is_the_usual_weight_of_clicks():
    data = ImportanceData.of(
        np.zeros((3, 1)), np.array([1, 0, 1]), propensity=np.array([0.25, 0.5, 1.0])
    )
    debias = InversePropensity(variance_power=0).fit(data).pairs(data)
    result = combine(debias, data.label, [], mode="plain", minimum_ess=0)
    assert result.pairs.tolist() == [[4, 0], [0, 1], [1, 0]]


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 80), st.floats(1, 1e9), st.booleans(), st.floats(0, 1)
)
def test_formula_4_2_keeps_w_strictly_between_0_and_1(seed, rows, clip, weighted, bound):
    label, scores, row = _drawn(seed, rows)
    result = combine(
        plain_pairs(label), label, [scores], row_weights=[row] if weighted else [],
        mode="formula_4_2", clip=clip, minimum_ess=bound,
    )  # fmt: skip
    w = result.factor.astype(float)
    assert ((w > 0) & (w < 1)).all()
    if not weighted:
        expected = np.stack([w * label, (1 - w) * (1 - label)], axis=1)
        assert result.pairs == pytest.approx(expected, rel=1e-5, abs=1e-7)
        # In either label a row worth more weighs more, and half the mass stays.
        for value in (0, 1):
            mine = result.pairs[label == value].sum(axis=1)
            order = np.argsort(scores[label == value], kind="stable")
            assert (np.diff(mine[order]) > -1e-6).all()
            assert mine.mean() == pytest.approx(0.5, rel=1e-4)


def test_formula_4_2_is_the_loss_as_it_is_written():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 50)
    p = rng.uniform(0.05, 0.95, 50)
    result = combine(plain_pairs(label), label, [rng.random(50)], mode="formula_4_2")
    w = result.factor
    written = -(label * w * np.log(p) + (1 - label) * (1 - w) * np.log(1 - p)).sum()
    logit = np.log(p / (1 - p))
    softplus = np.logaddexp(0, -logit), np.logaddexp(0, logit)
    trained = (result.pairs[:, 0] * softplus[0] + result.pairs[:, 1] * softplus[1]).sum()
    assert trained == pytest.approx(written, rel=1e-5)


def test_formula_4_2_with_the_scores_of_two_million_rows_stays_inside():
    """float32 knows no number between 1 − 6e-8 and 1."""
    label = np.ones(2_000_000, int)
    result = combine(
        plain_pairs(label), label, [np.arange(2e6)], mode="formula_4_2", clip=1e12, minimum_ess=0
    )
    assert result.factor.min() > 0 and result.factor.max() < 1
    assert (result.pairs[:, 0] > 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_factors_of_zero_or_all_clipped_fall_back_to_even_weights(mode):
    label = np.array([1, 0, 1, 0])
    even = combine(plain_pairs(label), label, [], mode=mode).pairs
    zero = combine(plain_pairs(label), label, [np.zeros(4)], mode=mode)
    assert zero.pairs == pytest.approx(even)
    clipped = combine(plain_pairs(label), label, [np.array([1e9, 1, 1, 1e9])], mode=mode, clip=1)
    assert clipped.pairs == pytest.approx(even)
    assert combine(plain_pairs(label[:0]), label[:0], [], mode=mode).pairs.shape == (0, 2)


def test_the_bound_on_samples_counts_row_weights_and_ends_where_they_alone_are_below_it():
    label = np.zeros(1_000, int)
    row = np.r_[np.full(10, 1.0), np.full(990, 1e-9)]
    result = combine(
        plain_pairs(label), label, [np.arange(1, 1_001.0)], row_weights=[row], minimum_ess=0.5
    )
    assert result.ess == pytest.approx(10, rel=0.01)
    assert result.clip <= 1.01


def test_effective_sample_size_by_hand():
    assert effective_sample_size(np.array([1.0, 1.0, 1.0, 1.0])) == 4
    assert effective_sample_size(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert effective_sample_size(np.array([[2.0, -1.0], [0.0, 1.0]])) == pytest.approx(16 / 10)
    assert effective_sample_size(np.zeros(3)) == 0


def test_bad_settings_and_scores():
    label = np.array([0, 1])
    with pytest.raises(ConfigError, match=r"clip=0.5 must be at least 1"):
        combine(plain_pairs(label), label, [], clip=0.5)
    with pytest.raises(ConfigError, match="minimum_ess=2 "):
        combine(plain_pairs(label), label, [], minimum_ess=2)
    with pytest.raises(DataError, match="1 scores are NaN"):
        attention(np.array([np.nan, 1.0]), label, 1.0)
    with pytest.raises(ConfigError, match=r"Expected one of \['pair'.*received: mode='sum'"):
        combine(plain_pairs(label), label, [], mode="sum")
    with pytest.raises(ConfigError, match="clip=nan must be at least 1"):
        combine(plain_pairs(label), label, [], clip=float("nan"))
    with pytest.raises(DataError, match="factors: nan in 1 rows, expected finite"):
        combine(plain_pairs(label), label, [np.array([1.0, np.nan])])
    with pytest.raises(DataError, match=r"row weights: -1.0 in 1 rows, expected finite"):
        combine(plain_pairs(label), label, [], row_weights=[np.array([-1.0, 1.0])])
    with pytest.raises(DataError, match="row weights of all 2 rows multiply to 0"):
        disjoint = [np.array([0.0, 1.0]), np.array([1.0, 0.0])]
        combine(plain_pairs(label), label, [], row_weights=disjoint)
