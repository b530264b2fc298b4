"""Networks side by side learn what each would learn alone, and judge rows they have not seen."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_info

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.stacked import Scaling, Stacked, Targets, _Adam, losses, residuals, train

from .conftest import make_data


def tensors(net):
    """A network's parameters as variables, and its logits as a function of inputs."""
    values = [net.w1, net.b1, net.w2, np.float32(net.b2)]
    w1, b1, w2, b2 = variables = [tf.Variable(v, dtype=tf.float64) for v in values]

    def logits(inputs):
        last = tf.nn.relu(inputs @ w1 + b1) if net.w1.shape[1] else inputs
        return tf.linalg.matvec(last, w2) + b2

    return variables, logits


def written_loss(logit, targets):
    """The docstring's loss, word by word."""
    attractive = tf.sigmoid(logit)
    positive, negative, observed = (
        tf.constant(t, tf.float64) for t in (targets.positive, targets.negative, targets.observed)
    )
    return -positive * tf.math.log(attractive) - negative * tf.math.log1p(-observed * attractive)


def some_targets(rows, rng):
    return Targets(
        *(rng.uniform(low, 1.0, rows).astype(np.float32) for low in (0.0, -0.5, 0.1))
    )  # w⁺, w⁻ (negative too), θ


@pytest.mark.parametrize("hidden", [0, 5])
def test_gradients_are_those_of_the_written_loss_and_skip_the_own_fold(hidden):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 3)).astype(np.float32)
    fold, targets = rng.integers(0, 3, 40), some_targets(40, rng)
    stacked = Stacked(3, hidden, np.array([0.1, -0.3, 0.2]), seed=1)
    stacked.w2 += rng.normal(size=stacked.w2.shape).astype(np.float32)
    seen = np.array([(fold != k).sum() for k in range(3)])
    found = stacked.gradients(inputs, fold, targets, (1 / seen).astype(np.float32))
    for k in range(3):
        variables, logits = tensors(stacked.network(k))
        with tf.GradientTape() as tape:
            losses_ = written_loss(logits(tf.constant(inputs, tf.float64)), targets)
            mean = tf.reduce_mean(losses_[fold != k])
        w1, b1, w2, b2 = tape.gradient(mean, variables)
        columns = slice(k * hidden, (k + 1) * hidden)
        if hidden:
            assert found[0][:, columns] == pytest.approx(w1.numpy(), abs=1e-5)
            assert found[1][columns] == pytest.approx(b1.numpy(), abs=1e-5)
        assert found[2][k] == pytest.approx(w2.numpy(), abs=1e-5)
        assert found[3][k] == pytest.approx(b2.numpy(), abs=1e-5)


def test_steps_are_those_of_adam():
    rng = np.random.default_rng(0)
    ours, theirs = np.ones((2, 3), np.float32), tf.Variable(np.ones((2, 3), np.float32))
    adam, keras_adam = _Adam([ours]), keras.optimizers.Adam(0.01, epsilon=1e-7)
    for _ in range(20):
        gradient = rng.normal(size=(2, 3)).astype(np.float32)
        adam.step([gradient], 0.01)
        keras_adam.apply_gradients([(tf.constant(gradient), theirs)])
    assert ours == pytest.approx(theirs.numpy(), abs=1e-5)


def test_a_network_learns_beside_others_what_it_learns_alone():
    data, _ = make_data(rows=900)
    features = data.features
    fold = np.arange(900) % 3
    y = data.label.astype(np.float32)
    targets = Targets(y, 1 - y, np.ones(900, np.float32))

    def last(active):
        start = Stacked(6, 8, np.zeros(3), seed=4)
        for network in start.w2[~active]:
            network[:] = 0
        scaling, order = Scaling.of(features), np.arange(900)
        epochs = train(features, scaling, fold, targets, start, active, order, 100, 2, 2, 7)
        return list(epochs)[-1][0][1]

    together, alone = last(np.ones(3, bool)), last(np.array([False, True, False]))
    assert np.array_equal(together.w1, alone.w1)
    assert np.array_equal(together.w2, alone.w2)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-60, 60),
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
    st.floats(2**-10, 1, width=32),
)
def test_losses_and_residuals_stay_finite_and_belong_together(z, positive, negative, observed):
    targets = Targets(*(np.array([v], np.float32) for v in (positive, negative, observed)))
    step = 1e-4
    around = np.array([z - step, z + step])
    low, high = (losses(np.array([a]), targets)[0] for a in around)
    found = residuals(np.array([z], np.float32), targets)[0]
    assert np.isfinite(found)
    assert found == pytest.approx((high - low) / (2 * step), abs=2e-4)


def test_logistic_folds_agree_with_scikit_learn():
    data, _ = make_data(rows=6_000)
    proxy = OutOfFoldProxy(folds=2, epochs=8, hidden=0)
    found = proxy.trace(data).final
    fold = proxy.fold(data)
    for k in range(2):
        model = LogisticRegression(C=1e6).fit(data.features[fold != k], data.label[fold != k])
        theirs = model.predict_proba(data.features[fold == k])[:, 1]
        assert found[fold == k] == pytest.approx(theirs, abs=0.06)


def test_the_hidden_layer_finds_what_a_line_cannot():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8_000, 5)).astype(np.float32)
    logit = 3 * features[:, 0] * features[:, 1]
    data = ImportanceData.of(features, rng.random(8_000) < 1 / (1 + np.exp(-logit)))
    best = roc_auc_score(data.label, logit)
    line, network = (OutOfFoldProxy(hidden=h).trace(data).final for h in (0, 32))
    assert roc_auc_score(data.label, line) < 0.55
    assert roc_auc_score(data.label, network) > best - 0.02


def test_any_rows_are_judged_and_their_order_does_not_matter(data):
    proxy = OutOfFoldProxy(random_state=2)
    whole = proxy.trace(data)
    some = np.random.default_rng(1).permutation(len(data))[:700]
    part = proxy.trace(data.take(some))
    assert part.logits == pytest.approx(whole.logits[some], abs=1e-4)
    shuffled = OutOfFoldProxy(random_state=2).fit(data.take(np.argsort(-data.position)))
    assert shuffled.trace(data).final == pytest.approx(whole.final, abs=1e-3)
    assert proxy.trace(data.take(np.arange(0))).logits.shape == (0, 3)


def test_pairs_teach_as_labels_do(data):
    label = data.label.astype(float)
    plain = OutOfFoldProxy().fit(data).trace(data).logits
    pairs = OutOfFoldProxy().fit(data, np.stack([label, 1 - label], axis=1)).trace(data).logits
    assert np.array_equal(plain, pairs)


def test_unbiased_pairs_and_observation_both_find_attractiveness():
    """(c/θ, 1 − c/θ), with its negative weights, and y ~ Bernoulli(θ·a)."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(40_000, 3)).astype(np.float32)
    true = 1 / (1 + np.exp(1 - 1.5 * features[:, 0]))
    theta = rng.choice([1.0, 0.5, 0.25], 40_000)
    click = rng.random(40_000) < theta * true
    data = ImportanceData.of(features, click)
    inverse = click / theta
    paired = OutOfFoldProxy().fit(data, np.stack([inverse, 1 - inverse], axis=1)).trace(data).final
    observed = OutOfFoldProxy().trace(data.with_observed(theta)).final
    for found in (paired, observed):
        assert np.abs(found - true).mean() < 0.03
        assert found.mean() == pytest.approx(true.mean(), abs=0.015)
    assert OutOfFoldProxy().trace(data).final.mean() < 0.65 * true.mean()


def test_hidden_blocks_hold_every_row_once_as_the_last_layer_sees_it(data):
    theta = np.linspace(0.2, 1.0, len(data))
    seen = data.with_observed(theta)
    for hidden in (0, 7):
        proxy = OutOfFoldProxy(hidden=hidden).fit(seen)
        trace, visited = proxy.trace(seen), []
        for block in proxy.hidden(seen):
            visited.append(block.rows)
            network = proxy.networks_[-1][block.fold]
            assert (proxy.fold(seen)[block.rows] == block.fold).all()
            assert block.hidden.shape == (len(block.rows), hidden or 6)
            assert block.hidden @ network.w2 + network.b2 == pytest.approx(block.logit, abs=1e-4)
            assert block.logit == pytest.approx(trace.logits[block.rows, -1], abs=1e-4)
            p, y, t = trace.final[block.rows], seen.label[block.rows], theta[block.rows]
            wanted = np.where(y == 1, p - 1, t * p * (1 - p) / (1 - t * p))
            assert block.residual == pytest.approx(wanted, abs=1e-4)
        assert np.array_equal(np.sort(np.concatenate(visited)), np.arange(len(seen)))


def test_a_fold_of_hardly_any_positives_stays_at_the_base_rate():
    """Positives in three groups: the folds that do not train on them have none to learn from."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2_000, 4)).astype(np.float32)
    group = np.arange(2_000) // 20
    label = np.isin(group, [3]).astype(int)  # twenty positives, all in one fold
    data = replace(ImportanceData.of(features, label), group=group)
    proxy = OutOfFoldProxy().fit(data)
    home = proxy.fold(data)[label == 1][0]
    assert proxy.constant_.tolist() == [k == home for k in range(4)]
    final = proxy.trace(data).final
    outside = (proxy.fold(data) != home).sum()
    assert final[proxy.fold(data) == home] == pytest.approx(1 / (outside + 2), rel=1e-4)
    assert final[proxy.fold(data) != home].std() > 0
    one_group = replace(data, group=np.zeros(2_000, int))
    assert OutOfFoldProxy().trace(one_group).final == pytest.approx(0.5)


def test_scaling_is_that_of_numpy_and_spares_constant_columns():
    features = np.random.default_rng(0).normal(1e4, [1.0, 5.0, 0.0], (5_000, 3)).astype(np.float32)
    scaled = Scaling.of(features).rows(features, np.arange(5_000))
    wanted = (features[:, :2] - features[:, :2].mean(0, float)) / features[:, :2].std(0, float)
    assert scaled[:, :2] == pytest.approx(wanted, abs=2e-3)
    assert (scaled[:, 2] == 0).all()


def test_a_trained_proxy_travels_without_its_data(data):
    proxy = OutOfFoldProxy().fit(data)
    before = proxy.trace(data).logits
    packed = pickle.dumps(proxy)
    assert len(packed) < data.features.nbytes
    assert np.array_equal(pickle.loads(packed).trace(data).logits, before)


def test_many_threads_may_train_and_blas_gets_its_threads_back(data):
    before = [pool["num_threads"] for pool in threadpool_info()]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: OutOfFoldProxy(epochs=1).trace(data).final, range(6)))
    assert all(np.array_equal(each, found[0]) for each in found)
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_what_the_proxy_refuses(data):
    proxy = OutOfFoldProxy()
    with pytest.raises(DataError, match="received 0 rows"):
        proxy.fit(data.take(np.arange(0)))
    with pytest.raises(DataError, match=r"observed=0.0 in 4000 rows: expected a prob"):
        proxy.fit(data.with_observed(np.zeros(len(data))))
    with pytest.raises(DataError, match=r"pairs has the shape \(3, 2\): expected \(4000, 2\)"):
        proxy.fit(data, np.ones((3, 2)))
    with pytest.raises(DataError, match="pairs=.*nan.*in row 0"):
        proxy.fit(data, np.full((len(data), 2), np.nan))
    with pytest.raises(DataError, match="features has 2 columns: expected 6 as in fit"):
        proxy.fit(data).trace(replace(data, features=data.features[:, :2]))
    with pytest.raises(ConfigError, match="folds=1"):
        OutOfFoldProxy(folds=1)
    with pytest.raises(ConfigError, match="hidden=-1: expected at least 0"):
        OutOfFoldProxy(hidden=-1)
