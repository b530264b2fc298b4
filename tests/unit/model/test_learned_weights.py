"""`weights: learned`: what it does to training on a log with wrong labels."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from heft import features as f
from heft.examples import write_columns
from heft.importance.meta_weight_net import BUCKETS, MetaWeightNet
from heft.model.inputs import evaluation_batches
from heft.model.losses import PairLoss
from heft.model.packing import WEIGHT_COLUMNS
from heft.model.settings import ModelSettings
from heft.model.training import Trained
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, click_log, core_inputs, fit, packed

SETTINGS = ModelSettings(
    hidden=(16,), epochs=3, batch_size=256, learning_rate=1e-2, dropout=0.0, weights="learned"
)


def _write(log: ClickLog, path: Path) -> ClickLog:
    write_columns(log.columns, path)
    log.shards.append(str(path))
    return log


def _plain(log: ClickLog, wrong: np.ndarray | bool = False) -> ClickLog:
    """The clicks turned over where `wrong`, and pairs (y, 1 − y)."""
    columns = log.columns
    click = np.where(wrong, 1 - columns[f.CLICK], columns[f.CLICK])
    columns[f.CLICK] = click
    columns[f.positive_weight(f.CTR)] = click.astype(np.float32)
    columns[f.negative_weight(f.CTR)] = (1 - click).astype(np.float32)
    return log


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> ClickLog:
    wrong = np.random.default_rng(0).random(6_000) < 0.3
    log = _plain(click_log(6_000, 1, biased=False), wrong)
    return _write(log, tmp_path_factory.mktemp("noisy") / "weighted-00000-of-00001.gz")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> ClickLog:
    log = _plain(click_log(2_000, 4, biased=False))
    return _write(log, tmp_path_factory.mktemp("clean") / "weighted-00000-of-00001.gz")


@pytest.fixture(scope="module")
def learned(noisy: ClickLog, clean: ClickLog, table: TextTable, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("log")
    return fit(noisy.shards, clean.shards, table, folder, SETTINGS)


def _log_loss(trained: Trained, table: TextTable) -> float:
    """Against the attractiveness that fresh rows have in truth."""
    log = click_log(3_000, 3, biased=False)

    logit = trained.core(core_inputs(table, log), training=False).numpy()[:, 0]
    return float(np.mean(np.logaddexp(0, logit) - log.attractiveness * logit))


def test_wrong_clicks_do_less_harm(
    learned: Trained, noisy: ClickLog, clean: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    as_they_are = SETTINGS.model_copy(update={"weights": "loss"})
    plain = fit(noisy.shards, clean.shards, table, tmp_path, as_they_are)
    assert _log_loss(learned, table) < _log_loss(plain, table) - 0.01
    assert plain.weights is None
    assert min(learned.history["val_loss"]) < min(plain.history["val_loss"])


def test_rows_that_disagree_with_the_model_weigh_less(learned: Trained) -> None:
    assert learned.weights is not None
    loss = np.linspace(0, 2, 6)
    columns = tf.constant(np.stack([loss, 0 * loss, 0 * loss], axis=1), tf.float32)
    weight = learned.weights(columns, tf.zeros(6, tf.int64)).numpy()
    assert (np.diff(weight) < 0).all()
    assert weight[0] > 1.5 * weight[-1]


def test_the_same_seed_learns_the_same_weights_and_the_control_none(
    table: TextTable, tmp_path: Path
) -> None:
    once = SETTINGS.model_copy(update={"epochs": 1})
    small = _write(click_log(300, 5), tmp_path / "small.gz").shards
    first, again, control = (
        fit(small, small, table, tmp_path / name, once, weighted=w)
        for name, w in (("a", True), ("b", True), ("c", False))
    )
    assert first.history == again.history
    assert isinstance(first.weights, MetaWeightNet)
    assert control.weights is None
    # The exported network holds no part of the weight net.
    assert len(first.core.get_weights()) == len(control.core.get_weights())


def test_the_context_goes_beside_the_pairs(tmp_path: Path) -> None:
    columns = click_log(50, 8).columns
    columns[f.POSITION] = np.arange(50)
    columns[f.OBSERVATION] = np.linspace(-1, 1e6, 50).astype(np.float32)
    write_columns(columns, tmp_path / "a.gz")
    rows = packed([str(tmp_path / "a.gz")], tmp_path)
    [(inputs, targets)] = evaluation_batches(rows, SIZES, batch_size=50, weighted=True)
    want = [columns[name] for name in (*WEIGHT_COLUMNS, f.CLICK, f.CONVERSION)]
    want += [np.log1p(np.maximum(columns[f.OBSERVATION], 0)) / 16, np.arange(50)]
    want.append(columns["brand_id"] % BUCKETS)
    np.testing.assert_allclose(targets.numpy(), np.stack(want, axis=1), rtol=1e-5)
    logits = tf.constant(np.random.default_rng(0).normal(size=(50, 2)), tf.float32)
    alone = PairLoss()(targets[:, :4], logits)
    assert float(PairLoss()(targets, logits)) == pytest.approx(float(alone))
    assert "position" not in inputs


def test_rows_without_position_or_age_get_a_context_of_zeros(tmp_path: Path) -> None:
    columns = click_log(20, 8).columns
    del columns[f.POSITION]
    write_columns(columns, tmp_path / "a.gz")
    rows = packed([str(tmp_path / "a.gz")], tmp_path)
    [(_, targets)] = evaluation_batches(rows, SIZES, batch_size=20, weighted=True)
    assert (targets.numpy()[:, 6:8] == 0).all()
