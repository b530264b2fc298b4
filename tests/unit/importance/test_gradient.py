"""Integrated gradients: the axioms, and many small steps with automatic differentiation."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from heft.errors import DataError, NotFittedError
from heft.importance import Estimator, ImportanceData, OutOfFoldProxy
from heft.importance.integrated_gradients import IntegratedGradients
from heft.importance.stacked import Network

from .conftest import make_data


def _by_steps(network: Network, inputs: np.ndarray, steps: int) -> np.ndarray:
    """The path integral by the midpoint rule; TensorFlow differentiates each point."""
    alpha = (np.arange(steps) + 0.5) / steps
    path = tf.constant((alpha[:, None, None] * inputs).reshape(-1, inputs.shape[1]))
    with tf.GradientTape() as tape:
        tape.watch(path)
        hidden = tf.nn.relu(path @ network.w1.astype(float) + network.b1.astype(float))
        logit = tf.linalg.matvec(hidden, network.w2.astype(float))
    slope = tape.gradient(logit, path).numpy().reshape(steps, *inputs.shape)
    return inputs * slope.mean(axis=0)


@pytest.fixture(scope="module")
def samples() -> ImportanceData:
    return make_data(rows=2_000, seed=3)[0]


@pytest.fixture(scope="module")
def proxy(samples: ImportanceData) -> OutOfFoldProxy:
    return OutOfFoldProxy(folds=2, epochs=2, hidden=16).fit(samples)


def test_the_closed_form_equals_many_steps(samples: ImportanceData, proxy: OutOfFoldProxy) -> None:
    got = IntegratedGradients(proxy).fit(samples).attributions(samples)
    assert got.dtype == np.float32
    for fold, rows, inputs in proxy.blocks(samples):
        want = _by_steps(proxy.networks_[-1][fold], inputs[:20].astype(float), 2_000)
        assert got[rows[:20]] == pytest.approx(want, abs=5e-3)


@pytest.mark.parametrize("hidden", [0, 16])
def test_attributions_add_up_to_the_distance_from_the_baseline(
    samples: ImportanceData, hidden: int
) -> None:
    model = OutOfFoldProxy(folds=3, epochs=1, hidden=hidden).fit(samples)
    estimator = IntegratedGradients(model).fit(samples)
    got = estimator.attributions(samples)
    for fold, rows, inputs in model.blocks(samples):
        network = model.networks_[-1][fold]
        gap = network.logits(inputs) - network.logits(np.zeros_like(inputs))
        assert got[rows].sum(axis=1) == pytest.approx(gap, abs=1e-4)
    assert estimator.score(samples) == pytest.approx(np.abs(got).sum(axis=1), rel=1e-5)
    average = ImportanceData.of(samples.features.mean(axis=0, keepdims=True), np.ones(1))
    assert estimator.score(average) == pytest.approx(0, abs=1e-5)


def test_the_network_has_not_seen_the_sample(samples: ImportanceData) -> None:
    own = IntegratedGradients(OutOfFoldProxy(folds=2, epochs=1)).fit(samples)
    fold = own.proxy_.fold(samples)
    columns = {"group": samples.group, "pair": samples.pair, "position": samples.position}
    turned = (samples.features[:, 5] > 0).astype(int)
    other = ImportanceData.of(
        samples.features, np.where(fold == 1, turned, samples.label), **columns
    )
    after = IntegratedGradients(OutOfFoldProxy(folds=2, epochs=1)).fit(other).score(other)
    before = own.score(samples)
    # The first biases come from the labels outside each fold as well.
    assert before[fold == 1] == pytest.approx(after[fold == 1], abs=1e-6)
    assert np.abs(before[fold == 0] - after[fold == 0]).max() > 0.1


def test_mass_finds_the_features_that_matter(samples: ImportanceData) -> None:
    estimator = IntegratedGradients(random_state=1).fit(samples)
    by_feature = np.abs(estimator.attributions(samples)).mean(axis=0)
    assert by_feature[:2].min() > 3 * by_feature[2:].max()
    truth = 2.5 * np.abs(samples.features[:, 0]) + 1.5 * np.abs(samples.features[:, 1])
    assert spearmanr(estimator.score(samples), truth).statistic > 0.9


def test_any_rows_in_any_order(samples: ImportanceData, proxy: OutOfFoldProxy) -> None:
    estimator = IntegratedGradients(proxy).fit(samples)
    order = np.random.default_rng(0).permutation(len(samples))[:300]
    there = estimator.score(samples.take(order))
    assert there == pytest.approx(estimator.score(samples)[order], rel=1e-5)
    assert estimator.score(samples.take(order[:0])).shape == (0,)


def test_bad_input(samples: ImportanceData, proxy: OutOfFoldProxy) -> None:
    assert isinstance(IntegratedGradients(), Estimator)
    with pytest.raises(NotFittedError, match="IntegratedGradients is not fitted"):
        IntegratedGradients(proxy).score(samples)
    with pytest.raises(DataError, match="features has 2 columns: expected 6 as in fit"):
        narrow = ImportanceData.of(samples.features[:, :2], samples.label)
        IntegratedGradients(proxy).fit(samples).attributions(narrow)
    with pytest.raises(DataError, match="all 2000 labels are 0: expected both 0 and 1"):
        IntegratedGradients().fit(ImportanceData.of(samples.features, np.zeros(2_000)))
