"""SHAP values equal Shapley's definition over feature subsets, out of fold."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from scipy.stats import spearmanr

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import Estimator, ImportanceData
from heft.importance.fold_trees import FoldTrees, first_rows, row_key
from heft.importance.shap_mass import ShapMass

from .conftest import make_data

SMALL = {"folds": 2, "trees": 5, "leaves": 4}


def _expectation(nodes: np.ndarray, at: int, x: np.ndarray, known: tuple[int, ...]) -> float:
    """E[tree | the known features of x], each unknown branch by the rows that took it."""
    node = nodes[at]
    if node["is_leaf"]:
        return float(node["value"])
    left, right = int(node["left"]), int(node["right"])
    if node["feature_idx"] in known:
        low = x[node["feature_idx"]] <= node["num_threshold"]
        return _expectation(nodes, left if low else right, x, known)
    parts = [nodes[c]["count"] * _expectation(nodes, c, x, known) for c in (left, right)]
    return sum(parts) / float(node["count"])


def _shapley(trees: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Shapley values by definition: every subset of the features."""
    d = len(x)

    def value(known: tuple[int, ...]) -> float:
        return sum(_expectation(nodes, 0, x, known) for nodes in trees)

    phi = np.zeros(d)
    for j in range(d):
        others = [i for i in range(d) if i != j]
        for size in range(d):
            share = factorial(size) * factorial(d - size - 1) / factorial(d)
            for subset in combinations(others, size):
                phi[j] += share * (value((*subset, j)) - value(subset))
    return phi


@pytest.fixture(scope="module")
def samples() -> ImportanceData:
    return make_data(rows=1_200, seed=4)[0]


@pytest.mark.parametrize("seen", [False, True])
def test_attributions_are_shapley_values(samples: ImportanceData, seen: bool) -> None:
    data = samples.with_observed(np.linspace(0.3, 1, len(samples))) if seen else samples
    estimator = ShapMass(**SMALL).fit(data)
    some = data.take(np.arange(0, len(data), 151))
    got = estimator.attributions(some)
    fold = estimator.trees.fold(some)
    assert set(fold) == {0, 1}
    for row, k, phi in zip(some.features, fold, got, strict=True):
        trees = [p[0].nodes for p in estimator.trees.models_[k]._predictors]
        assert phi == pytest.approx(_shapley(trees, row), abs=1e-6)
    assert estimator.score(some) == pytest.approx(np.abs(got).sum(axis=1), rel=1e-5)
    assert estimator.score(some).dtype == np.float32


def test_attributions_add_up_to_what_the_model_says(samples: ImportanceData) -> None:
    estimator = ShapMass(**SMALL, block_rows=100).fit(samples)
    total = estimator.attributions(samples).sum(axis=1) + estimator.expected(samples)
    fold = estimator.trees.fold(samples)
    raw = np.stack([estimator.trees.raw(samples.features, k) for k in range(2)])
    assert total == pytest.approx(raw[fold, np.arange(len(samples))], abs=1e-5)


def test_no_sample_is_explained_by_trees_that_have_seen_it(samples: ImportanceData) -> None:
    fold = FoldTrees(**SMALL).fold(samples)
    turned = np.where(fold == 1, (samples.features[:, 5] > 0).astype(int), samples.label)
    other = ImportanceData.of(samples.features, turned, group=samples.group)
    plain = ImportanceData.of(samples.features, samples.label, group=samples.group)
    before, after = (ShapMass(**SMALL).fit(x).score(x) for x in (plain, other))
    assert np.array_equal(before[fold == 1], after[fold == 1])
    assert np.abs(before[fold == 0] - after[fold == 0]).max() > 0.01


def test_mass_finds_the_features_that_matter_and_the_samples_far_out() -> None:
    data = make_data(rows=6_000, seed=1)[0]
    estimator = ShapMass(folds=2, trees=40, leaves=8).fit(data)
    by_feature = np.abs(estimator.attributions(data)).mean(axis=0)
    assert set(np.argsort(-by_feature)[:2]) == {0, 1}
    assert by_feature[:2].sum() > 5 * by_feature[2:].sum()
    truth = 2.5 * np.abs(data.features[:, 0]) + 1.5 * np.abs(data.features[:, 1])
    assert spearmanr(estimator.score(data), truth).statistic > 0.9


def test_a_low_position_does_not_look_unattractive() -> None:
    """Position is told by a feature that says nothing else; with `observed` it has no mass."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(8_000, 2)).astype(np.float32)
    observed = np.where(features[:, 1] > 0, 1.0, 0.3)
    attractive = 1 / (1 + np.exp(1 - 2 * features[:, 0]))
    label = (rng.random(8_000) < attractive * observed).astype(int)
    data = ImportanceData.of(features, label)
    share = {}
    for name, x in (("told", data.with_observed(observed)), ("untold", data)):
        mass = np.abs(ShapMass(folds=2, trees=40, leaves=6).fit(x).attributions(x)).mean(axis=0)
        share[name] = mass[1] / mass.sum()
    assert share["told"] < 0.15
    assert share["untold"] > 0.3


def test_other_rows_and_any_order_get_the_same_scores(samples: ImportanceData) -> None:
    order = np.random.default_rng(0).permutation(len(samples))
    first = ShapMass(**SMALL, max_rows=300).fit(samples)
    second = ShapMass(**SMALL, max_rows=300).fit(samples.take(order))
    scores = first.score(samples)
    assert second.score(samples.take(order)) == pytest.approx(scores[order], abs=1e-5)
    assert np.array_equal(first.score(samples.take(order[:50])), scores[order[:50]])
    repeated = samples.take(np.repeat(np.arange(30), 3))
    assert np.array_equal(first.score(repeated), np.repeat(scores[:30], 3))
    assert first.score(samples.take(np.arange(0))).shape == (0,)


def test_the_rows_kept_do_not_depend_on_their_order(samples: ImportanceData) -> None:
    order = np.random.default_rng(1).permutation(len(samples))
    assert len(np.unique(row_key(samples))) == len(samples)
    there = order[first_rows(samples.take(order), 100, 5)]
    assert np.array_equal(there, first_rows(samples, 100, 5))
    assert not np.array_equal(there, first_rows(samples, 100, 6))
    # Groups of four: whole ones.
    assert len(np.unique(samples.group[there])) == 25


def test_bad_input(samples: ImportanceData) -> None:
    assert isinstance(ShapMass(), Estimator)
    with pytest.raises(NotFittedError, match="ShapMass is not fitted"):
        ShapMass().score(samples)
    constant = ImportanceData.of(samples.features, np.zeros(len(samples)))
    with pytest.raises(DataError, match=r"all \d+ labels outside fold 0 are 0: expected both"):
        ShapMass(**SMALL).fit(constant)
    with pytest.raises(DataError, match="all 0 labels outside fold 0 are missing"):
        ShapMass(**SMALL).fit(samples.take(np.arange(0)))
    with pytest.raises(ConfigError, match="folds=1: expected at least 2"):
        ShapMass(folds=1)
    with pytest.raises(ConfigError, match="block_rows=0"):
        ShapMass(block_rows=0)
    narrow = ImportanceData.of(samples.features[:, :2], samples.label)
    with pytest.raises(DataError, match="features have 2 columns and those of fit 6"):
        ShapMass(**SMALL).fit(samples).score(narrow)
