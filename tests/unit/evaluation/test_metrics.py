"""Every metric against scikit-learn, or against the slow and obvious way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from heft.errors import DataError
from heft.evaluation import auc, auc_pr, calibration, ece, err_gain, gauc, log_loss, ndcg_at_k
from heft.evaluation.metrics import reliability

ROWS = 4_000


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    probability = np.round(rng.beta(1, 4, ROWS), 2)  # many ties, and exact zeros
    return {
        "label": (rng.random(ROWS) < probability).astype(float),
        "soft": rng.choice([0.0, 1 / 7, 3 / 7, 1.0], ROWS),
        "probability": probability,
        "weight": rng.gamma(0.5, 2, ROWS),
        "group": rng.integers(0, 300, ROWS),
    }


def test_equals_scikit_learn_on_weighted_tied_rows(rows: dict[str, np.ndarray]) -> None:
    y, p, w = rows["label"], rows["probability"], rows["weight"]
    assert auc(y, p, w) == pytest.approx(sk.roc_auc_score(y, p, sample_weight=w), abs=1e-9)
    assert auc_pr(y, p, w) == pytest.approx(
        sk.average_precision_score(y, p, sample_weight=w), abs=1e-9
    )
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    assert log_loss(y, inside, w) == pytest.approx(
        sk.log_loss(y, inside, sample_weight=w), abs=1e-9
    )


def test_equals_scikit_learn_in_every_slice(rows: dict[str, np.ndarray]) -> None:
    for value in range(5):
        part = rows["group"] % 5 == value
        y, p = rows["label"][part], rows["probability"][part]
        assert auc(y, p) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-9)
        assert auc_pr(y, p) == pytest.approx(sk.average_precision_score(y, p), abs=1e-9)


def test_a_soft_label_is_a_positive_and_a_negative_row(rows: dict[str, np.ndarray]) -> None:
    y, p, w = rows["soft"], rows["probability"], rows["weight"]
    twice, scores = np.repeat([1.0, 0.0], ROWS), np.concatenate([p, p])
    weights = np.concatenate([w * y, w * (1 - y)])
    expected = sk.roc_auc_score(twice, scores, sample_weight=weights)
    assert auc(y, p, w) == pytest.approx(expected, abs=1e-9)
    expected = sk.average_precision_score(twice, scores, sample_weight=weights)
    assert auc_pr(y, p, w) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1))
@settings(max_examples=150, deadline=None)
def test_an_integer_weight_is_a_repeated_row(rows: list[tuple[int, bool, int]]) -> None:
    score, label, times = (np.array(column, float) for column in zip(*rows, strict=True))
    score /= 4
    repeat = times.astype(int)
    for metric in (auc, auc_pr, log_loss, calibration, ece):
        weighted = metric(label, score, times)
        repeated = metric(np.repeat(label, repeat), np.repeat(score, repeat))
        np.testing.assert_allclose(weighted, repeated, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_auc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    score, label = (np.array(column, float) for column in zip(*rows, strict=True))
    positive, negative = score[label == 1], score[label == 0]
    value = auc(label, score)
    if not positive.size or not negative.size:
        assert np.isnan(value)
        return
    won = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    assert value == pytest.approx(won.mean(), abs=1e-9)


def test_calibration_and_ece_by_hand() -> None:
    label = np.array([0, 1, 0, 1, 1, 1])
    probability = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    assert calibration(label, probability) == pytest.approx(2.7 / 4, abs=1e-12)
    # Three bins of two rows: means .15/.6/.4 apart from .5/.5/1.
    expected = (abs(0.15 - 0.5) + abs(0.4 - 0.5) + abs(0.8 - 1.0)) / 3
    assert ece(label, probability, bins=3) == pytest.approx(expected, abs=1e-12)


def test_ece_does_not_depend_on_the_order_of_tied_rows(rows: dict[str, np.ndarray]) -> None:
    shuffled = np.random.default_rng(1).permutation(ROWS)
    y, p = rows["label"], rows["probability"]
    assert ece(y, p) == pytest.approx(ece(y[shuffled], p[shuffled]), abs=1e-12)
    bins = reliability(y, p)
    assert bins.weight.sum() == ROWS
    assert (np.diff(bins.predicted) > 0).all()


def test_gauc_is_the_mean_of_group_aucs(rows: dict[str, np.ndarray]) -> None:
    y, p, group = rows["label"], rows["probability"], rows["group"]
    values, sizes, one_class = [], [], 0
    for key in np.unique(group):
        part = group == key
        if y[part].min() == y[part].max():
            one_class += 1
            continue
        values.append(sk.roc_auc_score(y[part], p[part]))
        sizes.append(part.sum())
    result = gauc(y, p, np.array([f"q{g}" for g in group], object))
    assert one_class > 0
    assert result.left_out == one_class
    assert result.mean == pytest.approx(np.average(values, weights=sizes), abs=1e-9)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_equals_scikit_learn_with_ties(k: int) -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(0, 60, 1_200)
    grade, score = rng.integers(0, 4, 1_200), rng.integers(0, 6, 1_200) / 6
    grade[group == 5] = 0
    values = []
    for key in np.unique(group[group != 5]):
        part = group == key
        gain = 2.0 ** grade[part] - 1
        values.append(sk.ndcg_score([gain], [score[part]], k=k))
    result = ndcg_at_k(grade, score, group, k)
    assert result.left_out == 1
    np.testing.assert_allclose(result.values, values, atol=1e-9)
    assert result.mean == pytest.approx(np.mean(values), abs=1e-9)


def test_a_group_mean_repeats_whole_groups(rows: dict[str, np.ndarray]) -> None:
    y, p, group = rows["label"], rows["probability"], rows["group"]
    times = np.random.default_rng(2).integers(0, 3, 300)
    copies = [np.flatnonzero(group == g) for g in range(300) for _ in range(times[g])]
    index = np.concatenate(copies)
    fresh = np.concatenate([np.full(len(rows_), i) for i, rows_ in enumerate(copies)])
    for metric in (gauc, ndcg_at_k):
        repeated = metric(y[index], p[index], fresh).mean
        weighted = metric(y, p, group).value(times[group].astype(float))
        assert weighted == pytest.approx(repeated, abs=1e-9)


def test_err_gain() -> None:
    np.testing.assert_allclose(err_gain(np.arange(4), 3), [0, 1 / 7, 3 / 7, 1])
    with pytest.raises(DataError, match=r"grade=4.0: expected 0 to 3"):
        err_gain(np.array([0, 4]), 3)


def test_undefined_is_nan_not_a_number() -> None:
    one, empty = np.ones(3), np.empty(0)
    assert np.isnan(auc(one, one))
    assert np.isnan(gauc(one, one, one).mean)
    assert np.isnan(ndcg_at_k(one * 0, one, one).mean)
    for metric in (auc, auc_pr, log_loss, calibration, ece):
        assert np.isnan(metric(empty, empty))


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([0, 1], [0.5], r"\(2,\) and scores \(1,\)"),
        ([0, 2], [0.5, 0.5], r"label in \[0.0, 2.0\]"),
        ([0, 1], [0.5, float("nan")], "score=nan in row 1"),
        ([0, 1], [0.5, 1.5], r"expected \[0, 1\]"),
    ],
)
def test_bad_input_is_named(label: list[float], score: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        log_loss(np.array(label), np.array(score))
