"""Data-OOB against a plain bagging loop, on turned labels, and shard by shard."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.bags import bag
from heft.importance.base import ImportanceData
from heft.importance.data_oob import DataOob

from .conftest import make_data

BASES = ["tree", "logistic"]


def plain(found, data):
    """The definition, with scikit-learn's own predictions and sets of groups."""
    agreed, judged = np.zeros(len(data)), np.zeros(len(data))
    bags = found.bags_
    mean, scale = found.shift_, found.scale_
    for t, salt in enumerate(bags.salts):
        rows, count = bag(data.group, bags.seed, salt, bags.rate)
        rows, count = np.repeat(rows, count), np.ones(count.sum())
        if found.base == "logistic":
            model, features = LogisticRegression(tol=1e-8, max_iter=500), data.features - mean
            features = features / scale
        else:
            seed = (found.random_state * 1_000_003 + t) % 2**32
            model, features = _tree(found, seed), data.features
            rows, count = bag(data.group, bags.seed, salt, bags.rate)
        model.fit(features[rows], data.label[rows], sample_weight=count)
        inside = set(data.group[rows])
        out = np.array([g not in inside for g in data.group])
        right = model.predict_proba(features[out])[np.arange(out.sum()), data.label[out]]
        agreed[out] += right > 0.5 if found.agreement == "vote" else right
        judged[out] += 1
    return agreed / judged


def _tree(found, seed):
    return DecisionTreeClassifier(
        max_features="sqrt", min_samples_leaf=found.min_leaf, random_state=seed
    )


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("agreement", ["probability", "vote"])
def test_scores_are_those_of_plain_bagging(base, agreement):
    data, _ = make_data(rows=400, seed=1)
    found = DataOob(base, models=30, agreement=agreement, random_state=5).fit(data)
    if base == "tree":
        # A tree may depend on the order of its rows where two cuts are equally good.
        difference = np.abs(found.score(data) - plain(found, data))
        assert np.mean(difference) < 2e-3
    else:
        assert found.score(data) == pytest.approx(plain(found, data), abs=2e-3)


@pytest.mark.parametrize("base", BASES)
def test_turned_labels_score_low(base):
    data, wrong = make_data(rows=2_000, seed=2, flipped=0.2)
    score = DataOob(base).fit(data).score(data)
    assert score.dtype == np.float32
    assert ((score >= 0) & (score <= 1)).all()
    assert roc_auc_score(wrong, -score) > 0.85


@pytest.mark.parametrize("base", BASES)
def test_no_row_is_judged_by_a_model_that_has_seen_its_group(base):
    """Turning one group's labels over leaves what is said of its rows as it was."""
    data, _ = make_data(rows=400, seed=3)
    rows = data.group == data.group[8]
    turned = ImportanceData.of(
        data.features, np.where(rows, 1 - data.label, data.label), group=data.group
    )
    before = DataOob(base, models=10).fit(data).score(data)
    after = DataOob(base, models=10).fit(turned).score(turned)
    assert after[rows] == pytest.approx(1 - before[rows], abs=1e-6)
    assert np.abs(after[~rows] - before[~rows]).max() > 1e-4


def test_groups_are_in_bags_as_often_as_poisson_says():
    group = np.repeat(np.arange(20_000) * 7919, 2)
    rows, count = bag(group, 3, 11, 0.6)
    times = np.zeros(len(group), int)
    times[rows] = count
    assert np.array_equal(times[::2], times[1::2])
    expected = np.exp(-0.6) * np.array([1, 0.6, 0.18, 0.036])
    assert np.bincount(times)[:4] / len(group) == pytest.approx(expected, abs=0.01)
    other, _ = bag(group, 3, 12, 0.6)
    both = len(np.intersect1d(rows, other)) / len(group)
    assert both == pytest.approx((1 - np.exp(-0.6)) ** 2, abs=0.01)


def test_bags_stay_small_and_shards_and_order_change_nothing():
    data, _ = make_data(rows=8_000, seed=4)
    found = DataOob(models=8, max_samples=500).fit(data)
    assert found.bags_.rate == 500 / 8_000
    whole = found.score(data)
    shards = [found.score(data.take(part)) for part in np.array_split(np.arange(8_000), 5)]
    assert np.array_equal(whole, np.concatenate(shards))
    order = np.random.default_rng(0).permutation(8_000)
    shuffled = data.take(order)
    assert np.array_equal(
        DataOob(models=8, max_samples=500).fit(shuffled).score(shuffled), whole[order]
    )
    assert not np.array_equal(
        DataOob(models=8, max_samples=500, random_state=1).fit(data).score(data), whole
    )


def test_other_rows_are_scored_as_well():
    data, _ = make_data(rows=2_000, seed=5)
    rest, wrong = make_data(rows=2_000, seed=5, flipped=0.2)
    score = (
        DataOob()
        .fit(data)
        .score(ImportanceData.of(rest.features, rest.label, group=rest.group + 10**9))
    )
    assert roc_auc_score(wrong, -score) > 0.85


def test_a_row_in_every_bag_gets_the_share_of_its_label():
    data, _ = make_data(rows=400, seed=6)
    found = DataOob(models=1).fit(data)
    inside, _ = bag(data.group, *found.bags_[:1], int(found.bags_.salts[0]), found.bags_.rate)
    share = np.array([1 - data.label.mean(), data.label.mean()])
    assert found.score(data)[inside] == pytest.approx(share[data.label[inside]], abs=1e-6)


def test_rare_labels_get_bags_with_both():
    data, _ = make_data(rows=2_000, seed=7)
    rare = ImportanceData.of(data.features, np.arange(2_000) < 4)
    assert np.isfinite(DataOob(models=20).fit(rare).score(rare)).all()
    alone = ImportanceData.of(data.features, np.arange(2_000) < 1)
    with pytest.raises(DataError, match="20 bags of about 2 rows had one label only, of 1 pos"):
        DataOob(models=50, max_samples=2).fit(alone)


def test_bad_input_is_named():
    data, _ = make_data(rows=80)
    with pytest.raises(ConfigError, match="Expected one of .*'logistic'.*received: base='svm'"):
        DataOob("svm")
    with pytest.raises(ConfigError, match="received: agreement='rank'"):
        DataOob(agreement="rank")
    with pytest.raises(ConfigError, match="models=0: expected at least 1"):
        DataOob(models=0)
    with pytest.raises(ConfigError, match="max_samples=1: expected at least 2"):
        DataOob(max_samples=1)
    with pytest.raises(NotFittedError, match="DataOob is not fitted"):
        DataOob().score(data)
    with pytest.raises(DataError, match="all 80 labels of the training sample are 0"):
        DataOob().fit(ImportanceData.of(data.features, np.zeros(80)))
    one = ImportanceData.of(data.features, data.label, group=np.zeros(80, np.int64))
    with pytest.raises(DataError, match="all 80 rows are of one group"):
        DataOob().fit(one)
    with pytest.raises(DataError, match="features=2: expected 6, as in fit"):
        DataOob(models=2).fit(data).score(ImportanceData.of(data.features[:, :2], data.label))
