"""Negatives that were sampled down count as often as they occurred."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from heft.errors import DataError, NotFittedError
from heft.importance.base import ImportanceData, Reweigher
from heft.importance.negative_sampling import NegativeSampling, logit_offset, undo_sampling
from heft.importance.registry import create


def _full(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and the rate that each row has as a negative."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 2))
    chance = 1 / (1 + np.exp(2.0 - features[:, 0] + 0.5 * features[:, 1]))
    rate = np.where(features[:, 1] > 0, 0.1, 0.4)
    return features, (rng.random(rows) < chance).astype(int), rate


def _sampled(rows: int, seed: int) -> tuple[ImportanceData, np.ndarray]:
    features, label, rate = _full(rows, seed)
    kept = (label == 1) | (np.random.default_rng(seed + 1).random(rows) < rate)
    return ImportanceData.of(features[kept], label[kept], sampling=rate[kept]), kept


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0.1, 1.0), st.floats(-5, 5)), min_size=1, max_size=7
    )
)
def test_every_weighted_sum_has_the_expectation_of_the_full_sum(rows):
    """All subsets that sampling may leave, each with its probability."""
    label, rate, value = (np.array(column, float) for column in zip(*rows, strict=True))
    negatives = np.flatnonzero(label == 0)
    expected = 0.0
    for subset in range(2 ** len(negatives)):
        drawn = negatives[[bool(subset >> bit & 1) for bit in range(len(negatives))]]
        kept = (label == 1) | np.isin(np.arange(len(label)), drawn)
        chance = np.prod(np.where(kept, rate, 1 - rate)[negatives])
        data = ImportanceData.of(np.zeros((kept.sum(), 1)), label[kept], sampling=rate[kept])
        weight = NegativeSampling().fit(data).weight(data)
        expected += chance * (weight * value[kept]).sum()
    assert expected == pytest.approx(value.sum(), abs=1e-4)


def test_weighted_estimates_on_sampled_logs_are_those_of_the_full_one():
    differences = []
    for seed in range(40):
        features, label, _ = _full(4_000, seed)
        data, _ = _sampled(4_000, seed)
        weight = NegativeSampling().fit(data).weight(data).astype(float)
        differences.append(np.average(data.features[:, 1], weights=weight) - features[:, 1].mean())
        assert data.label.mean() > 2 * label.mean()
    error = np.std(differences) / np.sqrt(40)
    assert abs(np.mean(differences)) < 3.5 * error


def test_a_model_trained_with_the_weights_is_calibrated():
    data, _ = _sampled(60_000, 5)
    features, label, _ = _full(60_000, 99)
    weight = NegativeSampling().fit(data).weight(data)
    weighted = LogisticRegression().fit(data.features, data.label, sample_weight=weight)
    plain = LogisticRegression().fit(data.features, data.label)
    rate = label.mean()
    assert weighted.predict_proba(features)[:, 1].mean() == pytest.approx(rate, rel=0.04)
    assert plain.predict_proba(features)[:, 1].mean() > 2 * rate


def test_the_logit_offset_mends_a_model_trained_without_weights():
    data, _ = _sampled(80_000, 7)
    features, label, rate = _full(80_000, 98)
    part = data.features[:, 1] > 0  # one rate
    plain = LogisticRegression().fit(data.features[part], data.label[part])
    held = features[:, 1] > 0
    logit = plain.decision_function(features[held])
    mended = 1 / (1 + np.exp(-(logit + logit_offset(rate[held]))))
    assert mended.mean() == pytest.approx(label[held].mean(), rel=0.04)
    sampled = plain.predict_proba(features[held])[:, 1]
    assert sampled.mean() > 3 * label[held].mean()
    assert undo_sampling(sampled, rate[held]) == pytest.approx(mended)


@given(st.floats(0, 1), st.floats(0.001, 1))
def test_undoing_inverts_what_sampling_does(probability, rate):
    sampled = probability / (probability + (1 - probability) * rate)
    assert undo_sampling(np.array([sampled]), rate)[0] == pytest.approx(probability, abs=1e-9)


def test_a_positive_counts_once_whatever_its_column_says():
    data = ImportanceData.of(
        np.zeros((4, 1)), np.array([1, 1, 0, 0]), sampling=np.array([0.5, np.nan, 0.5, 1.0])
    )
    estimator = create("negative_sampling").fit(data)
    assert isinstance(estimator, Reweigher)
    assert estimator.weight(data).tolist() == [1, 1, 2, 1]
    assert estimator.score(data).dtype == np.float32


@pytest.mark.parametrize("bad", [0.0, -0.2, 1.5, np.nan])
def test_a_rate_that_is_none_is_refused(bad):
    data = ImportanceData.of(np.zeros((2, 1)), np.array([0, 0]), sampling=np.array([0.5, bad]))
    with pytest.raises(DataError, match=rf"sampling={bad} in 1 rows: expected values in \(0, 1\]"):
        NegativeSampling().fit(data)
    with pytest.raises(DataError, match="expected values in"):
        logit_offset(bad)
    with pytest.raises(DataError, match="expected values in"):
        undo_sampling(np.array([0.5]), bad)


def test_without_the_column_or_before_fit():
    data = ImportanceData.of(np.zeros((2, 1)), np.array([0, 1]))
    with pytest.raises(DataError, match="negative_sampling needs the column 'sampling'"):
        NegativeSampling().fit(data)
    with pytest.raises(NotFittedError, match=r"call NegativeSampling.fit\(data\)"):
        NegativeSampling().weight(data)
