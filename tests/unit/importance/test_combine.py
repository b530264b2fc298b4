"""Weights move attention and not the base rate, and never leave too few samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from heft.errors import ConfigError, DataError
from heft.importance import attention, combine, effective_sample_size, plain_pairs

finite = st.floats(-1e6, 1e6, width=32)


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
