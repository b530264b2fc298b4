"""Audit values against enumeration of every subset, and the fast values against the audit."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.audit import (
    ExactBanzhaf,
    ExactShapley,
    classifier_utility,
    enumerated_banzhaf,
    enumerated_shapley,
)
from heft.importance.base import ImportanceData
from heft.importance.knn_shapley import KnnShapley
from heft.importance.registry import create

from .conftest import make_data
from .test_knn_shapley import by_definition, small, vote

ENUMERATED = {ExactShapley: enumerated_shapley, ExactBanzhaf: enumerated_banzhaf}


@pytest.mark.parametrize("kind", ENUMERATED)
@pytest.mark.parametrize("k", [1, 3, 20])
def test_closed_forms_are_those_of_every_subset(kind, k):
    data, reference = small(11 + k, 9)

    def utility(rows):
        return vote(tuple(rows), data.features.astype(float), data.label, reference, k)

    expected = ENUMERATED[kind](utility, 9)
    found = kind(k=k, reference=reference, standardise=False).fit(data).values(data)
    assert np.abs(found - expected).max() < 1e-9


def test_enumeration_is_the_definition():
    data, reference = small(4, 6)

    def utility(rows):
        return vote(tuple(rows), data.features.astype(float), data.label, reference, 2)

    expected = by_definition(data.features, data.label, reference, 2)
    assert enumerated_shapley(utility, 6) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_fast_values_are_the_audited(ties):
    data, reference = small(7, 300, references=15)
    if ties:
        data = ImportanceData.of(data.features[np.arange(300) % 70], data.label)
    audited = ExactShapley(k=4, reference=reference).fit(data)
    fast = KnnShapley(k=4, reference=reference).fit(data)
    assert np.abs(audited.values(data) - fast.values(data)).max() < 1e-7
    new, _ = small(8, 20)
    assert np.abs(audited.values(new) - fast.values(new)).max() < 1e-7


@pytest.mark.parametrize("kind", ENUMERATED)
def test_another_row_is_worth_what_it_would_be_had_it_joined(kind):
    data, reference = small(8, 30, references=6)
    new, _ = small(9, 5)
    scores = kind(k=3, reference=reference, standardise=False).fit(data).score(new)
    for i in range(len(new)):
        together = ImportanceData.of(
            np.vstack([data.features, new.features[i : i + 1]]), np.append(data.label, new.label[i])
        )
        joined = kind(k=3, reference=reference, standardise=False).fit(together)
        assert joined.score(together)[-1] == pytest.approx(scores[i], abs=1e-7)


@pytest.mark.parametrize("kind", ENUMERATED)
def test_without_a_reference_other_groups_are_it(kind):
    data, wrong = make_data(rows=200, seed=1, flipped=0.15)
    found = kind(k=5).fit(data)
    score = found.score(data)
    assert score[~wrong].mean() > score[wrong].mean() + 2 * score.std() / np.sqrt(wrong.sum())
    group = data.group == data.group[0]
    reference = data.take(~group)
    others = kind(k=5, reference=reference, standardise=False)
    scaled = ImportanceData.of(data.features / found.scale_, data.label)
    alone = np.mean(
        [
            others._by_one(
                others.fit(scaled).data_,
                r,
                data.group != data.group[r],
                scaled,
                np.arange(len(data)) == 0,
                np.arange(len(data)),
            )[0]
            for r in np.flatnonzero(~group)
        ]
    )
    assert score[0] == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("kind", ENUMERATED)
def test_any_classifier_is_audited_by_enumeration(kind):
    rng = np.random.default_rng(0)
    label = np.arange(50) % 2
    features = rng.normal(size=(50, 2)) + 3 * label[:, None]
    reference = ImportanceData.of(features[8:], label[8:])
    turned = np.where(np.arange(8) == 3, 1 - label[:8], label[:8])
    sample = ImportanceData.of(features[:8], turned)
    model = GaussianNB(var_smoothing=0.1)
    found = kind(classifier=model, reference=reference).fit(sample)
    values = found.score(sample)
    assert values.argmin() == 3
    assert np.array_equal(found.score(sample.take(np.arange(8)[::-1])), values[::-1])
    if kind is ExactShapley:
        utility = classifier_utility(model, sample, reference)
        assert values.sum() == pytest.approx(utility(np.arange(8)) - 0.5, abs=1e-6)
    with pytest.raises(DataError, match="1 rows are not of the fitted sample"):
        found.score(reference.take(np.arange(1)))


def test_bad_input_is_named():
    data, reference = small(0, 20)
    many = ImportanceData.of(np.zeros((1_001, 3)), np.arange(1_001) % 2)
    with pytest.raises(DataError, match="rows=1001: expected at most 1000 for exact values"):
        ExactShapley().fit(many)
    with pytest.raises(DataError, match="rows=20: expected at most 14"):
        ExactShapley(classifier=LogisticRegression(), reference=reference).fit(data)
    with pytest.raises(
        ConfigError, match=r"classifier=LogisticRegression\(\) needs reference rows"
    ):
        ExactBanzhaf(classifier=LogisticRegression())
    with pytest.raises(ConfigError, match="k=0: expected at least 1"):
        create("exact_banzhaf", k=0)
    with pytest.raises(NotFittedError, match="ExactShapley is not fitted"):
        create("exact_shapley").score(data)
    with pytest.raises(DataError, match="all 20 labels of the training sample are 0"):
        ExactShapley().fit(ImportanceData.of(data.features, np.zeros(20)))
    one = ImportanceData.of(data.features, data.label, group=np.zeros(20, np.int64))
    with pytest.raises(DataError, match="all 20 rows are of one group"):
        ExactShapley().fit(one)
    with pytest.raises(ConfigError, match="players=15: expected at most 14"):
        enumerated_shapley(len, 15)
