"""What is read for training, and what training makes of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from heft import features as f
from heft.errors import TrainingError
from heft.examples import write_columns
from heft.model.inputs import evaluation_batches, training_batches
from heft.model.losses import PairLoss
from heft.model.network import build_core
from heft.model.packing import WEIGHT_COLUMNS, PackedRows
from heft.model.settings import ModelSettings
from heft.model.training import Trained
from heft.model.weighting import Weighting
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, core_inputs, fit, packed

WriteLog = Callable[..., ClickLog]

SETTINGS = ModelSettings(hidden=(16,), epochs=3, batch_size=256, learning_rate=1e-2, dropout=0.0)


@pytest.fixture(scope="module")
def log(write_log: WriteLog) -> ClickLog:
    return write_log(8_000, seed=1)


@pytest.fixture(scope="module")
def small(write_log: WriteLog) -> ClickLog:
    return write_log(700, seed=2, shards=3)


@pytest.mark.parametrize("weighted", [True, False])
def test_batches_hold_the_rows_in_order_with_the_pairs_asked_for(
    small: ClickLog, weighted: bool, tmp_path: Path
) -> None:
    rows = packed(small.shards, tmp_path)
    batches = list(evaluation_batches(rows, SIZES, batch_size=256, weighted=weighted))
    assert [len(targets) for _, targets in batches] == [256, 256, 188]
    pairs = np.concatenate([x.numpy() for _, x in batches])[:, :4]
    click, conversion = small.columns[f.CLICK], small.columns[f.CONVERSION]
    want = np.stack([click, 1 - click, conversion, 1 - conversion], axis=1)
    if weighted:
        want = np.stack([small.columns[name] for name in WEIGHT_COLUMNS], axis=1)
        assert (want < 0).any()
    np.testing.assert_allclose(pairs, want, rtol=1e-6)
    dense = np.concatenate([inputs["dense"].numpy() for inputs, _ in batches])
    np.testing.assert_array_equal(
        dense, np.stack([small.columns[name] for name in (*f.LEXICAL, "price_z")], axis=1)
    )
    for name in (f.QUERY_ID, f.TITLE_ID, "brand_id"):
        found = np.concatenate([inputs[name].numpy() for inputs, _ in batches])
        assert found.tolist() == small.columns[name].tolist()


def _epochs(rows: PackedRows, seed: int, epochs: range, mode: str = "loss") -> list[np.ndarray]:
    """What each epoch holds, as (rows, 1 + 9): price and targets."""
    batches = training_batches(
        rows, SIZES, Weighting(mode, rows), batch_size=64, seed=seed, epochs=epochs
    )
    steps = -(-rows.rows // 64)
    seen = [np.hstack([x["dense"].numpy()[:, -1:], y.numpy()]) for x, y in batches]
    assert len(seen) == steps * len(epochs)
    return [np.concatenate(seen[k : k + steps]) for k in range(0, len(seen), steps)]


def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(
    small: ClickLog, tmp_path: Path
) -> None:
    rows = packed(small.shards, tmp_path)
    first, second = _epochs(rows, 1, range(2))
    [other] = _epochs(rows, 2, range(1))
    logged = small.columns["price_z"].tolist()
    orders = [x[:, 0].tolist() for x in (first, second, other)] + [logged]
    for k, order in enumerate(orders):
        assert sorted(order) == sorted(logged)
        assert all(order != later for later in orders[k + 1 :])


def test_training_can_go_on_from_any_epoch(small: ClickLog, tmp_path: Path) -> None:
    rows = packed(small.shards, tmp_path)
    for mode in ("loss", "sampling", "curriculum"):
        all_at_once = _epochs(rows, 1, range(4), mode)
        for begin in (1, 3):
            for want, got in zip(
                all_at_once[begin:], _epochs(rows, 1, range(begin, 4), mode), strict=True
            ):
                np.testing.assert_array_equal(got, want)


def test_the_same_seed_trains_the_same_weights(
    small: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    once = SETTINGS.model_copy(update={"epochs": 1})
    first, again = (fit(small.shards, small.shards, table, tmp_path / x, once) for x in "ab")
    for left, right in zip(first.core.get_weights(), again.core.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert first.history == again.history
    reseeded = once.model_copy(update={"seed": 9})
    other = fit(small.shards, small.shards, table, tmp_path / "c", reseeded)
    assert other.history != first.history


def _attractiveness(trained: Trained, table: TextTable, log: ClickLog) -> np.ndarray:
    """The click logit of each row."""
    return trained.core(core_inputs(table, log), training=False).numpy()[:, 0]


def test_weights_undo_position_bias_and_the_control_does_not(
    log: ClickLog, write_log: WriteLog, table: TextTable, tmp_path: Path
) -> None:
    judged = write_log(3_000, seed=3, biased=False)
    tune = write_log(2_000, seed=4)
    agreement, slope = {}, {}
    for weighted in (True, False):
        folder = tmp_path / str(weighted)
        trained = fit(log.shards, tune.shards, table, folder, SETTINGS, weighted=weighted)
        logit = _attractiveness(trained, table, judged)
        agreement[weighted] = spearmanr(logit, judged.attractiveness).statistic
        slope[weighted] = np.polyfit(judged.columns["lexical_title_length"], logit, 1)[0]
        if weighted:
            rate = 1 / (1 + np.exp(-logit))
            assert rate.mean() == pytest.approx(judged.attractiveness.mean(), abs=0.05)
    assert agreement[True] > 0.93
    assert agreement[True] > agreement[False] + 0.05
    assert abs(slope[True]) < 0.25 < slope[False]


def test_every_epoch_is_reported_and_the_best_one_kept(
    small: ClickLog, write_log: WriteLog, table: TextTable, tmp_path: Path
) -> None:
    tune = write_log(500, seed=5, shards=1)
    # Far too fast a learner: it gets worse on the tune split soon.
    settings = SETTINGS.model_copy(update={"epochs": 20, "learning_rate": 0.1, "patience": 2})
    trained = fit(small.shards, tune.shards, table, tmp_path, settings)
    losses = trained.history["val_loss"]
    assert len(losses) == np.argmin(losses) + 1 + settings.patience < settings.epochs
    [(inputs, targets)] = evaluation_batches(
        packed(tune.shards, tmp_path / "again"), SIZES, batch_size=500, weighted=True
    )
    penalty = sum(float(x) for x in trained.model.losses)
    kept = float(PairLoss()(targets, trained.model(inputs, training=False))) + penalty
    assert kept == pytest.approx(min(losses), rel=1e-4)
    assert list(tmp_path.rglob("*tfevents*"))


def _spoilt(
    log: ClickLog, path: Path, column: str, value: float, rows: slice = slice(5, 6)
) -> list[str]:
    """The first shard of `log` with the value of one row, or of `rows`, changed."""
    records = list(tf.data.TFRecordDataset(log.shards[0], "GZIP").as_numpy_iterator())
    for row in range(*rows.indices(len(records))):
        example = tf.train.Example.FromString(records[row])
        example.features.feature[column].float_list.value[:] = [value]
        records[row] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)
    return [str(path)]


@pytest.mark.parametrize("column", [f.positive_weight(f.CTR), "price_z"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_named_before_training(
    small: ClickLog, tmp_path: Path, column: str, bad: float
) -> None:
    spoilt = _spoilt(small, tmp_path / "spoilt.gz", column, bad)
    with pytest.raises(TrainingError, match=rf"^{column}=(nan|inf) in row 6 of .*spoilt.gz"):
        packed(spoilt, tmp_path)


def test_a_loss_that_overflows_names_the_step_the_value_and_what_to_change(
    small: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    spoilt = _spoilt(small, tmp_path / "spoilt.gz", f.positive_weight(f.CTR), 3e38)
    once = SETTINGS.model_copy(update={"epochs": 1})
    with pytest.raises(
        TrainingError,
        match=r"step \d+ of epoch 1, where ctr_positive_weight=3e\+38 is .*no epoch was whole",
    ):
        fit(spoilt, small.shards, table, tmp_path / "train", once)
    # Two rows already sum to more than a float32 holds, however well each is predicted.
    spoilt = _spoilt(small, tmp_path / "tune.gz", f.positive_weight(f.CTR), 3e38, slice(None))
    with pytest.raises(TrainingError, match=r"in tune after epoch 1 .*learning_rate=0.01"):
        fit(small.shards, spoilt, table, tmp_path / "tune", once)


@pytest.mark.parametrize("split", ["train", "tune"])
def test_an_empty_split_stops_training(small: ClickLog, tmp_path: Path, split: str) -> None:
    empty = tmp_path / "weighted-00000-of-00001.gz"
    write_columns({name: values[:0] for name, values in small.columns.items()}, empty)
    with pytest.raises(TrainingError, match=f"{split}.*no rows"):
        packed([str(empty)], tmp_path, split)


def test_an_untrained_network_predicts_the_base_rates(table: TextTable) -> None:
    core = build_core(table, SIZES, ModelSettings(hidden=()))
    for layer in ("click_logit", "conversion_logit"):
        kernel, bias = core.get_layer(layer).get_weights()
        core.get_layer(layer).set_weights([kernel * 0, bias])
    inputs = {x.name: np.zeros((2, *x.shape[1:]), x.dtype) for x in core.inputs}
    rates = 1 / (1 + np.exp(-core(inputs).numpy()))
    assert rates[:, 0] == pytest.approx(SIZES.click_rate, rel=1e-4)
    assert rates[:, 0] * rates[:, 1] == pytest.approx(SIZES.conversion_rate, rel=1e-4)


def test_fewer_bits_and_compiled_steps_train_about_the_same(
    small: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    losses = {}
    for name, change in {
        "plain": {},
        "mixed": {"precision": "mixed"},
        "jit": {"jit": True},
    }.items():
        settings = SETTINGS.model_copy(update=change)
        trained = fit(small.shards, small.shards, table, tmp_path / name, settings)
        losses[name] = trained.history["val_loss"]
        computed = {layer.compute_dtype for layer in trained.core.layers if "click_0" in layer.name}
        assert computed == {"bfloat16" if name == "mixed" else "float32"}
    np.testing.assert_allclose(losses["mixed"], losses["plain"], rtol=0.02)
    np.testing.assert_allclose(losses["jit"], losses["plain"], rtol=1e-4)


def test_an_additive_bias_takes_the_position_out_of_attractiveness(
    log: ClickLog, write_log: WriteLog, table: TextTable, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"position": "additive"})
    tune = write_log(2_000, seed=4)
    trained = fit(log.shards, tune.shards, table, tmp_path, settings, weighted=False)
    bias = trained.model.get_layer("position_bias").get_weights()[0]
    assert (np.diff(bias[1:5]) < -0.2).all()
    assert (bias[5:] == 0).all()
    judged = write_log(3_000, seed=3, biased=False)
    logit = _attractiveness(trained, table, judged)
    plain = fit(log.shards, tune.shards, table, tmp_path / "plain", SETTINGS, weighted=False)
    liked = judged.columns["lexical_title_length"]
    slopes = [np.polyfit(liked, x, 1)[0] for x in (logit, _attractiveness(plain, table, judged))]
    assert abs(slopes[0]) < abs(slopes[1]) / 2
