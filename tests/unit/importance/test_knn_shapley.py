"""KNN-Shapley against the definition, against a plain recursion, and on turned labels."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.base import ImportanceData
from heft.importance.knn_shapley import KnnShapley
from heft.importance.nearest import nearest, row_keys
from heft.importance.proxy import fold_of

from .conftest import make_data


def vote(rows, features, label, reference, k):
    """The utility of a set of rows: mean share of right votes over reference rows."""
    total = 0.0
    for at, right in zip(reference.features, reference.label, strict=True):
        near = sorted(rows, key=lambda i: ((features[i] - at) ** 2).sum())[:k]
        total += sum(label[i] == right for i in near) / k
    return total / len(reference)


def by_definition(features, label, reference, k):
    rows = len(label)
    everyone = range(rows)
    worth = {
        s: vote(s, features.astype(float), label, reference, k)
        for size in range(rows + 1)
        for s in itertools.combinations(everyone, size)
    }
    values = np.zeros(rows)
    for i in everyone:
        for s, value in worth.items():
            if i not in s:
                share = math.factorial(len(s)) * math.factorial(rows - len(s) - 1)
                gain = worth[tuple(sorted((*s, i)))] - value
                values[i] += share / math.factorial(rows) * gain
    return values


def by_recursion(features, label, reference, k):
    """Jia et al. (2019), algorithm 1, as it stands there."""
    rows = len(label)
    values = np.zeros((len(reference), rows))
    for v, at, right in zip(values, reference.features, reference.label, strict=True):
        order = np.argsort(((features.astype(float) - at) ** 2).sum(axis=1), kind="stable")
        match = (label[order] == right).astype(float)
        v[order[-1]] = match[-1] / max(k, rows)
        for i in range(rows - 2, -1, -1):
            v[order[i]] = v[order[i + 1]] + (match[i] - match[i + 1]) / max(k, i + 1)
    return values.mean(axis=0)


def small(seed, rows, references=4, width=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows + references, width)).astype(np.float32)
    label = rng.integers(0, 2, rows + references)
    label[[0, rows]], label[[1, rows + 1]] = 0, 1
    return (
        ImportanceData.of(features[:rows], label[:rows]),
        ImportanceData.of(features[rows:], label[rows:]),
    )


@pytest.mark.parametrize("k", [1, 2, 5, 30])
@pytest.mark.parametrize("rows", [2, 7, 10])
def test_values_are_those_of_the_definition(rows, k):
    data, reference = small(rows * 31 + k, rows)
    expected = by_definition(data.features, data.label, reference, k)
    found = KnnShapley(k=k, reference=reference, standardise=False).fit(data)
    assert np.abs(found.values(data) - expected).max() < 1e-9
    assert found.score(data).dtype == np.float32


@pytest.mark.parametrize("copies", [[0, 0, 0, 1, 2], [0, 1, 1, 1, 3, 3, 2]])
def test_equal_rows_get_the_mean_over_all_their_orders(copies):
    """The definition is asked once for every order in which ties may fall."""
    base, reference = small(5, 4)
    label = np.array([0, 1, 1, 0, 1, 0, 1])[: len(copies)]
    data = ImportanceData.of(base.features[copies], label)
    found = KnnShapley(k=2, reference=reference, standardise=False).fit(data).values(data)
    rng = np.random.default_rng(0)
    expected = np.zeros(len(copies))
    times = 2_000
    for _ in range(times):
        order = rng.permutation(len(copies))
        shuffled = by_recursion(data.features[order], label[order], reference, 2)
        expected[order] += shuffled / times
    assert found == pytest.approx(expected, abs=0.01)
    for i, j in itertools.combinations(range(len(copies)), 2):
        if copies[i] == copies[j] and label[i] == label[j]:
            assert found[i] == found[j]


def test_blocks_and_threads_change_nothing():
    data, reference = small(1, 3_000, references=37, width=5)
    expected = by_recursion(data.features, data.label, reference, 10)
    found = KnnShapley(reference=reference, standardise=False).fit(data).values(data)
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("top", [10, 30, 100, 399])
def test_truncated_values_keep_their_bound_and_their_sum(top):
    data, reference = small(2, 400, references=20)
    exact = KnnShapley(reference=reference).fit(data).values(data)
    found = KnnShapley(reference=reference, top=top).fit(data).values(data)
    assert np.abs(found - exact).max() <= 1 / top
    assert found.sum() == pytest.approx(exact.sum(), abs=1e-12)
    assert np.abs(exact - found).mean() < 0.2 * np.abs(exact).mean() or top < 100


def test_a_list_that_holds_all_is_exact():
    data, reference = small(3, 200)
    exact = KnnShapley(reference=reference).fit(data)
    listed = KnnShapley(reference=reference, top=200).fit(data)
    assert np.array_equal(exact.values(data), listed.values(data))


@given(
    st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 7), st.one_of(st.none(), st.just(7))
)
@settings(max_examples=40, deadline=None)
def test_values_sum_to_the_vote_of_all_rows(seed, rows, k, top):
    data, reference = small(seed, rows)
    data = data.take(np.random.default_rng(seed).integers(0, rows, rows))
    if data.label.min() == data.label.max():
        return
    found = KnnShapley(k=k, reference=reference, top=top).fit(data).values(data)
    assert np.abs(found).max() <= 1 / k + 1e-12
    assert found.sum() <= 1 + 1e-9
    if top is None and len(set(row_keys(data.features))) == rows:
        plain = KnnShapley(k=k, reference=reference, standardise=False).fit(data).values(data)
        everyone = tuple(range(rows))
        assert plain.sum() == pytest.approx(
            vote(everyone, data.features.astype(float), data.label, reference, k), abs=1e-9
        )


@pytest.mark.parametrize("top", [None, 6])
def test_another_row_is_worth_what_it_would_be_had_it_joined(top):
    data, reference = small(8, 40, references=6)
    new, _ = small(9, 12)
    found = KnnShapley(k=3, reference=reference, top=top, standardise=False)
    scores = found.fit(data).values(new)
    for i in range(len(new)):
        together = ImportanceData.of(
            np.vstack([data.features, new.features[i : i + 1]]), np.append(data.label, new.label[i])
        )
        joined = KnnShapley(k=3, reference=reference, standardise=False).fit(together)
        bound = 1e-12 if top is None else 1 / top
        assert abs(joined.values(together)[-1] - scores[i]) <= bound


def test_a_copy_of_a_fitted_row_with_the_other_label_joins_the_tie():
    data, reference = small(8, 20, references=6)
    other = ImportanceData.of(data.features[:1], 1 - data.label[:1])
    found = KnnShapley(k=3, reference=reference, standardise=False).fit(data).values(other)
    together = ImportanceData.of(
        np.vstack([data.features, other.features]), np.append(data.label, other.label)
    )
    joined = KnnShapley(k=3, reference=reference, standardise=False).fit(together)
    assert found[0] == pytest.approx(joined.values(together)[-1], abs=1e-12)


@pytest.mark.parametrize("top", [None, 50])
def test_turned_labels_are_worth_less(top):
    data, wrong = make_data(rows=4_000, seed=3, flipped=0.15)
    clean, _ = make_data(rows=400, seed=3)
    clean = ImportanceData.of(clean.features, clean.label)
    with_reference = KnnShapley(reference=clean, top=top).fit(data).score(data)
    assert roc_auc_score(wrong, -with_reference) > 0.8
    without = KnnShapley(top=top).fit(data).score(data)
    assert roc_auc_score(wrong, -without) > 0.8


def test_no_row_is_judged_by_its_own_group():
    data, _ = make_data(rows=800, seed=4)
    fold = fold_of(data.group, 4, 0)
    found = KnnShapley().fit(data)
    points = found._points(data)[1]
    for k, sample in enumerate(found.values_):
        own = {p.tobytes() for p in points[fold == k]}
        judges = {p.tobytes() for p in sample.queries}
        assert len(judges) == (fold != k).sum()
        assert own.isdisjoint(judges)


def test_rows_in_another_order_and_shards_get_the_same_scores():
    data, _ = make_data(rows=2_000, seed=5)
    order = np.random.default_rng(0).permutation(len(data))
    first = KnnShapley(reference_rows=100).fit(data).score(data)
    second = KnnShapley(reference_rows=100).fit(data.take(order)).score(data.take(order))
    assert second == pytest.approx(first[order], abs=1e-6)
    fitted = KnnShapley(reference_rows=100).fit(data.take(np.arange(1_000)))
    whole = fitted.score(data)
    shards = [fitted.score(data.take(part)) for part in np.array_split(np.arange(2_000), 7)]
    assert np.array_equal(whole, np.concatenate(shards))


def test_another_seed_draws_other_reference_rows():
    data, _ = make_data(rows=2_000, seed=5)
    one, two = (KnnShapley(reference_rows=50, random_state=s).fit(data).score(data) for s in (0, 1))
    assert not np.allclose(one, two)


def test_rare_positives_are_half_of_the_reference():
    data, _ = make_data(rows=8_000, seed=6)
    rare = np.flatnonzero((data.label == 0) | (np.arange(len(data)) % 10 == 0))
    found = KnnShapley(reference_rows=100).fit(data.take(rare))
    assert [int(v.label.sum()) for v in found.values_] == [50] * 4


def test_the_nearest_points_are_those_of_all_distances():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9_000, 4)).astype(np.float32)
    queries = rng.normal(size=(600, 4)).astype(np.float32)
    found = nearest(queries, points, 12)
    for q in range(0, 600, 50):
        distance = ((points.astype(float) - queries[q]) ** 2).sum(axis=1)
        assert np.sort(distance)[:12] == pytest.approx(distance[found.point[q]], abs=1e-5)
        assert found.distance[q] == pytest.approx(np.sort(distance)[:12], abs=1e-5)


def test_equal_rows_have_equal_keys_and_minus_zero_is_zero():
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    keys = row_keys(rows)
    assert keys[0] == keys[1] == keys[3] != keys[2]


def test_bad_input_is_named():
    data, reference = small(0, 20)
    with pytest.raises(ConfigError, match="k=0: expected at least 1"):
        KnnShapley(k=0)
    with pytest.raises(ConfigError, match="top=9: expected at least k=10"):
        KnnShapley(top=9)
    with pytest.raises(ConfigError, match="folds=1: expected at least 2"):
        KnnShapley(folds=1)
    with pytest.raises(NotFittedError, match="KnnShapley is not fitted"):
        KnnShapley().score(data)
    constant = ImportanceData.of(data.features, np.ones(20))
    with pytest.raises(DataError, match="all 20 labels of the training sample are 1: expected"):
        KnnShapley(reference=reference).fit(constant)
    with pytest.raises(DataError, match="all 20 labels of the reference sample are 1"):
        KnnShapley(reference=constant).fit(data)
    none = reference.take(np.arange(0))
    with pytest.raises(DataError, match="the reference sample has 0 rows"):
        KnnShapley(reference=none).fit(data)
    wide = ImportanceData.of(np.zeros((4, 5)), [0, 1, 0, 1])
    with pytest.raises(DataError, match="the reference has features=5: expected 3"):
        KnnShapley(reference=wide).fit(data)
    with pytest.raises(DataError, match="features=5: expected 3, as in fit"):
        KnnShapley(reference=reference).fit(data).score(wide)
    one = ImportanceData.of(data.features, data.label, group=np.zeros(20, np.int64))
    with pytest.raises(DataError, match="all 20 rows are in one fold of groups"):
        KnnShapley().fit(one)
