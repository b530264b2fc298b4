"""Under the weights a label says nothing of the group it comes from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.base import ImportanceData, Reweigher
from heft.importance.fairness_reweighing import FairnessReweighing
from heft.importance.registry import create


def _data(protected: np.ndarray, label: np.ndarray) -> ImportanceData:
    return ImportanceData.of(np.zeros((len(label), 1)), label, protected=protected)


def _table(data: ImportanceData, weight: np.ndarray) -> np.ndarray:
    """(groups, 2) weighted counts."""
    groups = np.unique(data.protected)
    return np.array(
        [[weight[(data.protected == g) & (data.label == y)].sum() for y in (0, 1)] for g in groups]
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6))
def test_group_and_label_are_independent_and_no_total_changes(counts):
    protected = np.concatenate([[7 * g] * (a + b) for g, (a, b) in enumerate(counts)])
    label = np.concatenate([[0] * a + [1] * b for a, b in counts])
    data = _data(protected, label)
    weight = FairnessReweighing().fit(data).weight(data).astype(float)
    table, plain = _table(data, weight), _table(data, np.ones(len(label)))
    share = table / table.sum()
    assert share == pytest.approx(np.outer(share.sum(axis=1), share.sum(axis=0)), abs=1e-6)
    assert table.sum(axis=0) == pytest.approx(plain.sum(axis=0), rel=1e-5)
    assert table.sum(axis=1) == pytest.approx(plain.sum(axis=1), rel=1e-5)
    assert weight.mean() == pytest.approx(1.0, rel=1e-5)
    assert (weight > 0).all()


def test_the_example_of_kamiran_and_calders():
    """Table 1 of the 2012 paper: ten applicants, sex and hired (4 of 5 men, 2 of 5 women)."""
    sex = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    hired = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0])
    weight = FairnessReweighing().fit(_data(sex, hired)).weight(_data(sex, hired))
    assert weight[sex == 0] == pytest.approx([0.75] * 4 + [2.0])
    assert weight[sex == 1] == pytest.approx([1.5] * 2 + [0.67] * 3, abs=0.005)


def test_other_rows_get_the_weights_of_fit():
    rng = np.random.default_rng(0)
    protected = rng.integers(-3, 3, 5_000)
    label = (rng.random(5_000) < 0.2 + 0.1 * protected.clip(0)).astype(int)
    data = _data(protected, label)
    estimator = create("fairness_reweighing").fit(data)
    assert isinstance(estimator, Reweigher)
    order = rng.permutation(5_000)[:100]
    shard = data.take(order)
    assert estimator.weight(shard).tolist() == estimator.weight(data)[order].tolist()
    assert estimator.score(shard).dtype == np.float32


def test_a_group_with_one_label_is_refused_or_left_as_it_is():
    protected = np.array([1, 1, 2, 2, 2, 3, 3, 3, 3])
    label = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1])
    data = _data(protected, label)
    with pytest.raises(DataError, match="all 2 rows of protected=1 have label 0, as in 1 of 3"):
        FairnessReweighing().fit(data)
    weight = FairnessReweighing("leave").fit(data).weight(data)
    assert weight[protected == 1].tolist() == [1, 1]
    rest = data.take(protected != 1)
    assert weight[protected != 1] == pytest.approx(FairnessReweighing().fit(rest).weight(rest))


def test_constant_labels_leave_every_weight_at_one():
    data = _data(np.array([1, 2, 3]), np.ones(3, int))
    assert FairnessReweighing("leave").fit(data).weight(data).tolist() == [1, 1, 1]


def test_a_group_that_fit_has_not_seen():
    data = _data(np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1]))
    other = _data(np.array([1, 9]), np.array([0, 1]))
    with pytest.raises(DataError, match="protected=9 in 1 rows: expected one of the 2 groups"):
        FairnessReweighing().fit(data).weight(other)
    assert FairnessReweighing("leave").fit(data).weight(other).tolist() == [1, 1]


def test_bad_input_is_named():
    data = ImportanceData.of(np.zeros((2, 1)), np.array([0, 1]))
    with pytest.raises(DataError, match="fairness_reweighing needs the column 'protected'"):
        FairnessReweighing().fit(data)
    with pytest.raises(DataError, match="got 0 rows"):
        FairnessReweighing().fit(_data(np.zeros(0, int), np.zeros(0, int)))
    with pytest.raises(ConfigError, match=r"Expected one of \['raise', 'leave'\], received"):
        FairnessReweighing("drop")
    with pytest.raises(NotFittedError, match=r"call FairnessReweighing.fit\(data\)"):
        FairnessReweighing().weight(_data(np.array([1]), np.array([1])))
