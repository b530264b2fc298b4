"""Learned weights: the meta gradient against differentiation through the step, planted truth."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import Estimator, ImportanceData
from heft.importance.learned import Learned
from heft.importance.meta_weight_net import (
    BUCKETS,
    MetaWeightNet,
    even_by_label,
    meta_gradients,
    squeeze,
)

from .conftest import make_data


def test_the_meta_gradient_is_that_through_the_virtual_step() -> None:
    """One tape over everything, second derivatives and all, is the obvious twin."""
    rng = np.random.default_rng(0)
    x, clean = (tf.constant(rng.normal(size=(n, 5)), tf.float32) for n in (40, 30))
    y, right = (tf.constant(rng.integers(0, 2, n), tf.float32) for n in (40, 30))
    columns = tf.constant(rng.random((40, 3)), tf.float32)
    bucket = tf.constant(rng.integers(0, BUCKETS, 40))
    w1, w2 = (tf.Variable(rng.normal(size=s), dtype=tf.float32) for s in ((5, 4), (4, 1)))
    unused = tf.Variable(tf.zeros(3))
    net = MetaWeightNet(seed=3)
    net(columns, bucket)
    net.outer.kernel.assign(rng.normal(size=(16, 1)))

    def losses(first: tf.Tensor, second: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        logit = (tf.tanh(x @ first) @ second)[:, 0]
        return tf.nn.sigmoid_cross_entropy_with_logits(y, logit)

    def weigh() -> tf.Tensor:
        return even_by_label(net(columns, bucket), y)

    theta = [v.value for v in net.trainable_variables]
    rate = 0.7
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = tf.reduce_mean(weigh() * losses(w1, w2, x, y))
        d1, d2 = inner.gradient(value, [w1, w2])
        after = tf.reduce_mean(losses(w1 - rate * d1, w2 - rate * d2, clean, right))
    want = outer.gradient(after, theta, unconnected_gradients="zero")
    before = [w1.numpy(), w2.numpy()]
    got = meta_gradients(
        weigh,
        lambda: losses(w1, w2, x, y),
        lambda: tf.reduce_mean(losses(w1, w2, clean, right)),
        [w1, w2, unused],
        theta,
        rate,
    )
    for left, right_hand in zip(got, want, strict=True):
        np.testing.assert_allclose(left, tf.convert_to_tensor(right_hand), atol=1e-6)
    assert max(np.abs(g).max() for g in got) > 1e-3
    np.testing.assert_array_equal(w1, before[0])
    np.testing.assert_array_equal(w2, before[1])


@given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), min_size=1, max_size=30))
def test_weights_are_even_within_each_label(rows: list[tuple[float, bool]]) -> None:
    weight, positive = (np.array(x, np.float32) for x in zip(*rows, strict=True))
    even = even_by_label(tf.constant(weight), tf.constant(positive)).numpy()
    for label in set(positive):
        mine = positive == label
        assert even[mine].mean() == pytest.approx(1, rel=1e-4)
        assert even[mine] / even[mine].sum() == pytest.approx(
            weight[mine] / weight[mine].sum(), rel=1e-4
        )


def test_a_net_before_training_weighs_all_alike() -> None:
    net = MetaWeightNet(max_weight=5)
    rng = np.random.default_rng(0)
    columns = tf.constant(rng.normal(size=(20, 3)), tf.float32)
    assert net(columns, tf.zeros(20, tf.int64)).numpy() == pytest.approx(1, abs=1e-6)
    assert squeeze(tf.constant([-3.0, 0.0, 3.0])).numpy() == pytest.approx(
        [-np.log(4), 0, np.log(4)]
    )


@pytest.fixture(scope="module")
def clean() -> ImportanceData:
    return make_data(rows=400, seed=2)[0]


@pytest.fixture(scope="module")
def planted() -> tuple[ImportanceData, np.ndarray]:
    return make_data(rows=4_000, seed=1, flipped=0.2)


@pytest.fixture(scope="module")
def fitted(clean: ImportanceData, planted: tuple[ImportanceData, np.ndarray]) -> Learned:
    return Learned(clean, steps=400).fit(planted[0])


def test_labels_that_were_turned_over_weigh_less(
    fitted: Learned, planted: tuple[ImportanceData, np.ndarray]
) -> None:
    data, wrong = planted
    score = fitted.score(data)
    assert score.dtype == np.float32
    assert ((score > 0) & (score < 2)).all()
    assert roc_auc_score(wrong, -score) > 0.9
    assert score[~wrong].mean() > 3 * score[wrong].mean()
    assert 0.6 < score.mean() < 1.4


def test_other_rows_in_any_order_get_the_same_weights(
    fitted: Learned, clean: ImportanceData, planted: tuple[ImportanceData, np.ndarray]
) -> None:
    data, _ = planted
    order = np.random.default_rng(0).permutation(len(data))
    score = fitted.score(data)
    assert fitted.score(data.take(order[:70])) == pytest.approx(score[order[:70]], abs=1e-5)
    assert fitted.score(data.take(order[:0])).shape == (0,)
    short = {"steps": 60, "batch_size": 128}
    first, again, other = (
        Learned(clean, **short, random_state=seed).fit(x).score(data)
        for x, seed in ((data, 0), (data.take(order), 0), (data, 1))
    )
    assert again == pytest.approx(first, abs=1e-4)
    assert np.abs(other - first).max() > 1e-3


def test_clean_labels_weigh_much_the_same(clean: ImportanceData) -> None:
    data, _ = make_data(rows=4_000, seed=5)
    score = Learned(clean, steps=200).fit(data).score(data)
    assert np.quantile(score, 0.1) > 0.3 * np.quantile(score, 0.9)


def test_a_part_of_the_log_that_is_wrong_is_found_by_its_slice_and_its_age(
    clean: ImportanceData,
) -> None:
    """Labels of the oldest rows and of one slice are coin tosses."""
    data, _ = make_data(rows=6_000, seed=7)
    rng = np.random.default_rng(0)
    age, place = rng.random(6_000), rng.integers(0, 4, 6_000)
    noise = (age > 0.7) | (place == 2)
    label = np.where(noise, rng.integers(0, 2, 6_000), data.label)
    told = replace(data, label=label, slice=place, timestamp=(1e12 * (1 - age)).astype(np.int64))
    score = Learned(clean, steps=400, random_state=1).fit(told).score(told)
    # The rows that happen to fit, so that the loss does not tell.
    fits = label == data.label
    assert score[noise & fits].mean() < 0.8 * score[~noise & fits].mean()
    assert spearmanr(score[fits & (place != 2)], age[fits & (place != 2)]).statistic < -0.2


def test_a_click_low_on_the_page_is_no_worse_a_click(clean: ImportanceData) -> None:
    data, _ = make_data(rows=4_000, seed=2)
    observed = np.array([1.0, 0.6, 0.3, 0.1])[data.position - 1]
    rng = np.random.default_rng(0)
    seen = (data.label * (rng.random(len(data)) < observed)).astype(int)
    biased = replace(data, label=seen, observed=observed)
    score = Learned(clean, steps=300).fit(biased).score(biased)
    missed = (data.label == 1) & (seen == 0)
    # Attractive and not clicked says less the lower it stood.
    low, high = (score[missed & (data.position == p)].mean() for p in (4, 2))
    assert low > high
    clicked = seen == 1
    by_position = [score[clicked & (data.position == p)].mean() for p in (1, 3)]
    assert by_position[1] > 0.5 * by_position[0]


def test_without_a_reference_it_says_so(planted: tuple[ImportanceData, np.ndarray]) -> None:
    data, _ = planted
    with pytest.raises(DataError, match="learned received reference=None: expected samples with"):
        Learned().fit(data)
    with pytest.raises(DataError, match="learned received a reference of 0 rows"):
        Learned(data.take(np.arange(0))).fit(data)


def test_bad_input(clean: ImportanceData, planted: tuple[ImportanceData, np.ndarray]) -> None:
    data, _ = planted
    assert isinstance(Learned(), Estimator)
    with pytest.raises(NotFittedError, match="Learned is not fitted"):
        Learned(clean).score(data)
    constant = ImportanceData.of(data.features, np.zeros(len(data)))
    with pytest.raises(DataError, match="all 4000 labels of the data are 0: expected both"):
        Learned(clean).fit(constant)
    with pytest.raises(DataError, match="all 400 labels of the reference are 1"):
        Learned(ImportanceData.of(clean.features, np.ones(400))).fit(data)
    narrow = ImportanceData.of(clean.features[:, :2], clean.label)
    with pytest.raises(DataError, match="the reference has 2 features and the data 6"):
        Learned(narrow).fit(data)
    with pytest.raises(DataError, match="features has 2 columns: expected 6 as in fit"):
        Learned(clean, steps=1).fit(data).score(narrow)
    with pytest.raises(ConfigError, match=r"max_weight=1\.0: expected above 1"):
        Learned(clean, max_weight=1.0)
    with pytest.raises(ConfigError, match="steps=0: expected at least 1"):
        Learned(clean, steps=0)
