"""DP-SGD: each row's part is bounded, the noise is what it says, and epsilon is counted."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy.stats import spearmanr

from heft.errors import ConfigError
from heft.model import private
from heft.model.accountant import epsilon
from heft.model.inputs import evaluation_batches
from heft.model.ledger import Ledger, freeze_scales, together
from heft.model.losses import PairLoss
from heft.model.network import build_core, build_training_model
from heft.model.options import PrivacySettings
from heft.model.poisson import PoissonRows
from heft.model.private import PrivateModel, clipped_sum
from heft.model.settings import ModelSettings
from heft.model.training import Trained
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, core_inputs, fit, packed

CLICKS = ((0.9, 0.1), (0.6, 0.05))
VARIANTS = [
    {},
    {"architecture": "mmoe", "body": "dcn_v2", "experts": 2, "position": "additive"},
    {"architecture": "ple", "experts": 1, "cvr_loss": "escm2_dr"},
    {"categorical_width": 0, "hidden": []},
]
Batch = tuple[dict[str, tf.Tensor], tf.Tensor]


@pytest.fixture(scope="module")
def log(write_log: Any) -> ClickLog:
    return write_log(600, seed=3)


@pytest.fixture(scope="module")
def rows(log: ClickLog, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return packed(log.shards, tmp_path_factory.mktemp("rows"))


def _batches(rows: Any, size: int, positions: bool = False) -> list[Batch]:
    return list(
        evaluation_batches(rows, SIZES, batch_size=size, weighted=True, positions=positions)
    )


def _model(table: TextTable, settings: ModelSettings, seed: int = 1) -> keras.Model:
    """A training model whose scale is frozen and whose weights are larger than at first."""
    keras.utils.set_random_seed(seed)
    core = build_core(table, SIZES, settings)
    core.get_layer("scale").trainable = False
    model = build_training_model(table, core, settings)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign_add(0.1 * rng.normal(size=weight.shape))
    return model


def _slow(
    model: keras.Model, loss: PairLoss, batch: Batch, clip: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """The same one row after another, and each row's norm."""
    inputs, targets = batch
    sums = [np.zeros(v.shape) for v in model.trainable_variables]
    norms = []
    for k in range(len(targets)):
        with tf.GradientTape() as tape:
            row = {name: x[k : k + 1] for name, x in inputs.items()}
            value = loss.call(targets[k : k + 1], model(row, training=False))[0]
        found = tape.gradient(value, [v.value for v in model.trainable_variables])
        whole = [
            np.zeros(v.shape) if g is None else tf.convert_to_tensor(g).numpy().astype(float)
            for g, v in zip(found, model.trainable_variables, strict=True)
        ]
        norms.append(np.sqrt(sum((g**2).sum() for g in whole)))
        sums = [s + g * min(1, clip / norms[-1]) for s, g in zip(sums, whole, strict=True)]
    return sums, np.array(norms)


@pytest.mark.parametrize("given", VARIANTS, ids=["esmm", "mmoe", "ple", "linear"])
def test_the_clipped_sum_is_that_of_one_row_after_another(
    table: TextTable, rows: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ModelSettings.model_validate({"hidden": [8], "dropout": 0.3} | given)
    model, loss = _model(table, settings), PairLoss.of(settings, CLICKS)
    batch = _batches(rows, 24, settings.position == "additive")[0]
    clip = float(np.median(_slow(model, loss, batch, 1.0)[1]))
    want, norms = _slow(model, loss, batch, clip)
    assert (norms > 1.01 * clip).any()
    assert (norms < 0.99 * clip).any()
    # Some seven rows at a time, so that there are several parts and a last one that is smaller.
    whole = [v for v in model.trainable_variables if "embedding" not in v.path]
    size = 4 * sum(int(np.prod(v.shape)) for v in whole)
    monkeypatch.setattr(private, "_CHUNK_BYTES", 7 * size)
    found, losses = tf.function(clipped_sum)(model, loss, *batch, clip)
    for one, other, variable in zip(found, want, model.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=variable.path)
    by_row = loss.call(batch[1], model(batch[0], training=False))
    np.testing.assert_allclose(losses, by_row, rtol=1e-5, atol=1e-6)


def test_no_row_moves_the_sum_by_more_than_the_clip_norm(table: TextTable, rows: Any) -> None:
    settings = ModelSettings(hidden=(8,))
    model, loss = _model(table, settings), PairLoss.of(settings, CLICKS)
    inputs, targets = _batches(rows, 12)[0]
    heavy = tf.concat([targets[:, :4] * 1e6, targets[:, 4:]], axis=1)
    summed = tf.function(lambda x, y: clipped_sum(model, loss, x, y, 0.5)[0])
    whole = summed(inputs, heavy)
    moved = []
    for k in range(12):
        kept = np.delete(np.arange(12), k)
        part = summed({n: tf.gather(x, kept) for n, x in inputs.items()}, tf.gather(heavy, kept))
        squares = [float(tf.reduce_sum((a - b) ** 2)) for a, b in zip(whole, part, strict=True)]
        moved.append(np.sqrt(sum(squares)))
    assert max(moved) == pytest.approx(0.5, rel=1e-4)


def _private(model: keras.Model, settings: ModelSettings, expected: int, **given: float) -> Any:
    asked = PrivacySettings.model_construct(**({"noise_multiplier": 1.0, "clip_norm": 1.0} | given))
    loss = PairLoss.of(settings, CLICKS)
    return PrivateModel.over(model, loss, asked, expected, seed=5)


def test_without_noise_and_clipping_it_is_ordinary_training(table: TextTable, rows: Any) -> None:
    settings = ModelSettings(hidden=(8,), dropout=0.0)
    batches = _batches(rows, 60)
    weights, losses = [], []
    for private_steps in (True, False):
        model = _model(table, settings)
        if private_steps:
            model = _private(model, settings, 60, noise_multiplier=0.0, clip_norm=float("inf"))
        optimizer = keras.optimizers.Adam(1e-2, clipnorm=5.0)
        model.compile(optimizer, loss=PairLoss.of(settings, CLICKS))
        history = model.fit(
            tf.data.Dataset.from_generator(
                lambda: iter(batches), output_signature=_signature(batches)
            ),
            verbose=0,
        )
        weights.append(model.get_weights())
        losses.append(history.history["loss"][0])
    before = _model(table, settings).get_weights()
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    moved = max(np.abs(a - b).max() for a, b in zip(before, weights[0], strict=True))
    assert moved > 0.05
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def _signature(batches: list[Batch]) -> Any:
    return tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), batches[0])


def test_noise_has_its_variance_in_every_entry_and_every_step(table: TextTable, rows: Any) -> None:
    settings = ModelSettings(hidden=(64, 32), l2=0.0)
    model = _private(_model(table, settings), settings, 50, noise_multiplier=3.0, clip_norm=0.5)
    model.compile(keras.optimizers.SGD(1.0))
    step = tf.function(model.train_step)
    # A Poisson sample may be empty: what is left is the noise.
    inputs, targets = tf.nest.map_structure(lambda x: x[:0], _batches(rows, 10)[0])
    moves = []
    for _ in range(4):
        before = [v.numpy().copy() for v in model.trainable_variables]
        step((inputs, targets))
        after = [v.numpy() for v in model.trainable_variables]
        moves.append([a - b for a, b in zip(after, before, strict=True)])
    entries = np.array([np.concatenate([m.ravel() for m in move]) for move in moves])
    want = 3.0 * 0.5 / 50
    count = entries.size
    assert count > 20_000
    assert entries.std() == pytest.approx(want, rel=4 / np.sqrt(2 * count))
    assert abs(entries.mean()) < 4 * want / np.sqrt(count)
    correlation = np.corrcoef(entries) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(count / 4)
    embedding = next(m for m, v in zip(moves[0], model.trainable_variables, strict=True)
                     if "embedding" in v.path)  # fmt: skip
    assert (embedding != 0).all()  # a value that nobody has is noised like the others


def test_every_row_is_drawn_by_itself(rows: Any, log: ClickLog) -> None:
    poisson = PoissonRows(rows, 60, seed=3)
    assert poisson.rate == 0.1
    np.testing.assert_array_equal(poisson.draw(1, 2), poisson.draw(1, 2))
    price = poisson.packed.layout.integers, poisson.packed.layout.floats.index("price_z")
    column = len(price[0]) + price[1]
    place = {x: k for k, x in enumerate(log.columns["price_z"].tolist())}
    drawn = np.zeros((2_000, 600), bool)
    for step in range(2_000):
        found = poisson.draw(step // 100, step % 100).view(np.float32)[:, column]
        drawn[step, [place[x] for x in found.tolist()]] = True
        assert len(found) == drawn[step].sum()
    per_row = drawn.mean(axis=0)
    assert np.abs(per_row - 0.1).max() < 5 * np.sqrt(0.09 / 2_000)
    sizes = drawn.sum(axis=1)
    assert sizes.var() == pytest.approx(600 * 0.09, rel=0.15)  # of independent rows
    assert np.corrcoef(sizes[1:], sizes[:-1])[0, 1] == pytest.approx(0, abs=0.1)


PRIVATE = ModelSettings(
    hidden=(8,), epochs=3, patience=3, batch_size=64, learning_rate=1e-2,
    privacy={"noise_multiplier": 0.8, "clip_norm": 1.0, "delta": 1e-4},
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(log: ClickLog, table: TextTable, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return fit(log.shards, log.shards, table, tmp_path_factory.mktemp("private"), PRIVATE)


def test_the_same_seed_gives_the_same_weights_and_epsilon_is_in_the_history(
    trained: Trained, log: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    first, again = trained, fit(log.shards, log.shards, table, tmp_path, PRIVATE)
    assert first.history == again.history
    for one, other in zip(first.core.get_weights(), again.core.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    want = [epsilon(64 / 600, 0.8, 10 * k, 1e-4)[0] for k in (1, 2, 3)]
    assert first.history["epsilon"] == pytest.approx(want)
    assert first.privacy["epsilon"] == pytest.approx(want[-1])
    both = together({"weighted": first.privacy, "control": again.privacy})
    assert both["all_models"]["epsilon"] == pytest.approx(epsilon(64 / 600, 0.8, 60, 1e-4)[0])
    assert both["weighted"]["sampling_rate"] == 64 / 600


def test_a_private_model_still_learns(write_log: Any, table: TextTable, tmp_path: Path) -> None:
    log, tune = write_log(2_000, seed=1), write_log(500, seed=2)
    trained = fit(log.shards, tune.shards, table, tmp_path, PRIVATE)
    logit = trained.core(core_inputs(table, tune), training=False).numpy()[:, 0]
    assert spearmanr(logit, tune.attractiveness).statistic > 0.8


def test_scales_are_those_of_tune_and_stay(
    trained: Trained, log: ClickLog, rows: Any, table: TextTable
) -> None:
    settings = ModelSettings(hidden=(8,))
    core = build_core(table, SIZES, settings)
    model = build_training_model(table, core, settings)
    freeze_scales(core, model, rows, SIZES, positions=False)
    gamma, beta, mean, variance = core.get_layer("scale").get_weights()
    dense = np.stack([log.columns[name] for name in SIZES.dense], axis=1)
    np.testing.assert_allclose(mean[-len(SIZES.dense) :], dense.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(variance[-len(SIZES.dense) :], dense.var(axis=0), rtol=1e-3)
    assert not any("scale" in v.path for v in model.trainable_variables)
    kept = trained.core.get_layer("scale").get_weights()
    for one, other in zip(kept, (gamma, beta, mean, variance), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": "learned"}, "privacy and weights=learned do not go together"),
        ({"weights": "sampling"}, "privacy and weights=sampling .*: expected weights: loss"),
        ({"student": {"hidden": [4]}}, "privacy and student .* learn without noise"),
        ({"precision": "mixed"}, "privacy and precision=mixed"),
        ({"jit": True}, "privacy and jit=true"),
        ({"strategy": "multi_worker"}, "privacy and strategy=multi_worker"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelSettings.model_validate({"privacy": {}, **given})


def test_a_delta_that_promises_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Ledger.of(PrivacySettings(delta=1e-5), 1_000, 10, 100)
    assert not caplog.records
    Ledger.of(PrivacySettings(delta=1e-2), 1_000, 10, 100)
    assert "privacy.delta=0.01 is not below 1/1000" in caplog.text


def test_several_devices_are_refused(log: ClickLog, table: TextTable, tmp_path: Path) -> None:
    class Two(tf.distribute.Strategy):
        def __init__(self) -> None:
            pass

        num_replicas_in_sync = 2

    with pytest.raises(ConfigError, match="privacy on 2 devices: expected one"):
        fit(log.shards, log.shards, table, tmp_path, PRIVATE, strategy=Two())
