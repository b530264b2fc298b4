"""Each measure against scipy or scikit-learn, on rows written out one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mutual_info_score

from heft.errors import DataError
from heft.selection.measures import Masses, category_relations, number_relations

RNG = np.random.default_rng(5)


def once(label: np.ndarray) -> Masses:
    return Masses.of(label, 1 - label)


def units(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values with ties, and how many positive and negative rows each unit stands for."""
    values = np.stack([RNG.normal(size=n), RNG.integers(0, 4, n), RNG.normal(size=n) ** 3], axis=1)
    positive = RNG.integers(0, 4, n)
    return values, positive, RNG.integers(0, 5, n)


def written_out(values: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> tuple:
    """One row for each positive and each negative."""
    rows = np.concatenate(
        [np.repeat(values, positive, axis=0), np.repeat(values, negative, axis=0)]
    )
    return rows, np.concatenate([np.ones(positive.sum()), np.zeros(negative.sum())])


def test_masses_count_as_rows_would() -> None:
    values, positive, negative = units(60)
    rows, label = written_out(values, positive, negative)
    masses = Masses(positive.astype(float), negative.astype(float), float(len(rows)))
    found = number_relations(values, masses, bins=6)
    for column in range(values.shape[1]):
        pearson = stats.pointbiserialr(label, rows[:, column]).statistic
        spearman = stats.spearmanr(rows[:, column], label).statistic
        np.testing.assert_allclose(found.correlation[column], pearson, atol=1e-12)
        np.testing.assert_allclose(found.rank_correlation[column], spearman, atol=1e-12)
    whole = number_relations(rows, once(label), bins=6)
    for name, values_of in vars(found).items():
        np.testing.assert_allclose(values_of, getattr(whole, name), atol=1e-12, err_msg=name)


def test_mutual_information_is_that_of_bins_less_its_bias() -> None:
    values = RNG.permutation(400.0 * np.arange(400))
    label = (RNG.random(400) < np.where(values < 80_000, 0.2, 0.7)).astype(float)
    place = np.argsort(np.argsort(values)) // 50
    want = mutual_info_score(place, label) - 7 / 800
    found = number_relations(values[:, None], once(label), bins=8).mutual_information[0]
    np.testing.assert_allclose(found, want, atol=1e-12)
    category = category_relations(place, once(label))
    np.testing.assert_allclose(category.mutual_information[0], want, atol=1e-12)


def test_equal_values_share_a_bin() -> None:
    values = np.repeat([1.0, 2.0], [70, 30])
    label = (RNG.random(100) < 0.4).astype(float)
    want = max(mutual_info_score(values, label) - 1 / 200, 0)
    found = number_relations(values[:, None], once(label), bins=10).mutual_information[0]
    np.testing.assert_allclose(found, want, atol=1e-12)


def test_cramers_v_of_a_large_table_is_scipys() -> None:
    category = RNG.integers(0, 5, 200_000)
    label = (RNG.random(200_000) < 0.1 + 0.1 * category).astype(float)
    table = np.stack([np.bincount(category[label == k], minlength=5) for k in (0, 1)], axis=1)
    want = stats.contingency.association(table.astype(int), method="cramer")
    found = category_relations(category, once(label))
    np.testing.assert_allclose(found.correlation[0], want, rtol=1e-3)
    assert np.isnan(found.rank_correlation[0])


def test_what_has_nothing_to_do_with_the_label_has_no_information_on_average() -> None:
    """The plug-in estimate would say (bins − 1) / 2n = 0.016 nats of every column."""
    label = (RNG.random(1_000) < 0.3).astype(float)
    numbers = number_relations(RNG.normal(size=(1_000, 200)), once(label), bins=32)
    assert numbers.mutual_information.mean() < 0.004
    many = [category_relations(RNG.integers(0, 40, 1_000), once(label)) for _ in range(100)]
    assert np.mean([x.mutual_information[0] for x in many]) < 0.004
    assert np.mean([x.correlation[0] for x in many]) < 0.08


def test_weights_have_the_information_of_their_effective_rows() -> None:
    light = Masses.of(np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 1.0, 1.0]))
    heavy = Masses.of(np.array([9.0, 0, 0, 0]), np.array([0, 0.1, 0.1, 0.1]))
    assert light.effective == 4
    np.testing.assert_allclose(heavy.effective, 9.3**2 / (81 + 0.03))


def test_negative_weights_count_as_nothing() -> None:
    masses = Masses.of(np.array([3.0, 0.0]), np.array([-2.0, 1.0]))
    assert masses.negative.tolist() == [0, 1]


@pytest.mark.parametrize("label", [np.zeros(8), np.ones(8)])
def test_labels_of_one_class_relate_to_nothing(label: np.ndarray) -> None:
    found = number_relations(RNG.normal(size=(8, 2)), once(label))
    for values in vars(found).values():
        assert values.tolist() == [0, 0]
    assert category_relations(np.arange(8), once(label)).correlation[0] == 0


def test_a_constant_and_no_rows_are_no_trouble() -> None:
    label = (np.arange(10) % 2).astype(float)
    found = number_relations(np.full((10, 1), 0.1), once(label))
    assert [values[0] for values in vars(found).values()] == [0, 0, 0]
    empty = number_relations(np.zeros((0, 3)), Masses(np.zeros(0), np.zeros(0), 0.0))
    assert empty.mutual_information.tolist() == [0, 0, 0]
    assert (
        category_relations(np.zeros(0, int), Masses(np.zeros(0), np.zeros(0), 0.0)).correlation[0]
        == 0
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30
    )
)
def test_measures_stay_in_their_bounds(rows: list[tuple[int, int, int]]) -> None:
    values, positive, negative = (np.array(x, float) for x in zip(*rows, strict=True))
    masses = Masses(positive, negative, float((positive + negative).sum()))
    found = number_relations(values[:, None], masses, bins=4)
    assert abs(found.correlation[0]) <= 1 + 1e-9
    assert abs(found.rank_correlation[0]) <= 1 + 1e-9
    assert 0 <= found.mutual_information[0] <= np.log(2) + 1e-9
    # A monotone map changes no rank and no bin.
    mapped = number_relations(np.exp(values)[:, None], masses, bins=4)
    np.testing.assert_allclose(mapped.rank_correlation, found.rank_correlation, atol=1e-9)
    np.testing.assert_allclose(mapped.mutual_information, found.mutual_information, atol=1e-12)


def test_a_value_that_is_no_number_is_named() -> None:
    with pytest.raises(DataError, match="not a finite number"):
        number_relations(np.array([[np.nan]]), once(np.ones(1)))
