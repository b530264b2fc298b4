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
from heft.model.inputs import WEIGHT_COLUMNS, dataset
from heft.model.losses import EsmmPairLoss
from heft.model.network import build_core, build_training_model
from heft.model.settings import ModelSettings
from heft.model.training import Trained, train
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog

WriteLog = Callable[..., ClickLog]

SETTINGS = ModelSettings(hidden=(16,), epochs=3, batch_size=256, learning_rate=1e-2, dropout=0.0)


@pytest.fixture(scope="module")
def log(write_log: WriteLog) -> ClickLog:
    return write_log(8_000, seed=1)


@pytest.fixture(scope="module")
def small(write_log: WriteLog) -> ClickLog:
    return write_log(700, seed=2, shards=3)


def _train(
    log: ClickLog, tune: ClickLog, table: TextTable, folder: Path, *, weighted: bool = True,
    settings: ModelSettings = SETTINGS,
) -> Trained:  # fmt: skip
    return train(log.shards, tune.shards, table, SIZES, settings, weighted=weighted, log_dir=folder)


@pytest.mark.parametrize("weighted", [True, False])
def test_batches_hold_the_rows_in_order_with_the_pairs_asked_for(
    small: ClickLog, weighted: bool
) -> None:
    batches = list(dataset(small.shards, SIZES, batch_size=256, weighted=weighted))
    assert [len(pairs) for _, pairs in batches] == [256, 256, 188]
    pairs = np.concatenate([x.numpy() for _, x in batches])
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


def test_shuffling_keeps_every_row_once_and_follows_the_seed(small: ClickLog) -> None:
    def prices(seed: int) -> np.ndarray:
        rows = dataset(small.shards, SIZES, batch_size=64, weighted=True, shuffle_seed=seed)
        return np.concatenate([inputs["dense"].numpy()[:, -1] for inputs, _ in rows])

    first, again, other = prices(1), prices(1), prices(2)
    assert first.tolist() == again.tolist() != other.tolist()
    assert first.tolist() != small.columns["price_z"].tolist()
    assert sorted(first) == sorted(other) == sorted(small.columns["price_z"])


def test_the_same_seed_trains_the_same_weights(
    small: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    once = SETTINGS.model_copy(update={"epochs": 1})
    first, again = (_train(small, small, table, tmp_path / x, settings=once) for x in "ab")
    for left, right in zip(first.core.get_weights(), again.core.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert first.history == again.history
    reseeded = once.model_copy(update={"seed": 9})
    other = _train(small, small, table, tmp_path / "c", settings=reseeded)
    assert other.history != first.history


def _attractiveness(trained: Trained, table: TextTable, log: ClickLog) -> np.ndarray:
    """The click logit of each row."""

    def rows(matrix: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return np.where((ids >= 0)[:, None], matrix[ids], 0).astype(np.float32)

    inputs = {
        "query_vector": rows(table.queries, log.columns[f.QUERY_ID]),
        "title_vector": rows(table.titles, log.columns[f.TITLE_ID]),
        "dense": np.stack([log.columns[name] for name in SIZES.dense], axis=1),
        "brand_id": log.columns["brand_id"],
    }
    return trained.core(inputs, training=False).numpy()[:, 0]


def test_weights_undo_position_bias_and_the_control_does_not(
    log: ClickLog, write_log: WriteLog, table: TextTable, tmp_path: Path
) -> None:
    judged = write_log(3_000, seed=3, biased=False)
    tune = write_log(2_000, seed=4)
    agreement, slope = {}, {}
    for weighted in (True, False):
        trained = _train(log, tune, table, tmp_path / str(weighted), weighted=weighted)
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
    seen: list[int] = []
    tune = write_log(500, seed=5, shards=1)
    # Far too fast a learner: it gets worse on the tune split soon.
    settings = SETTINGS.model_copy(update={"epochs": 20, "learning_rate": 0.1, "patience": 2})
    trained = train(
        small.shards, tune.shards, table, SIZES, settings, weighted=True, log_dir=tmp_path,
        on_epoch=lambda epoch, logs: seen.append(epoch),
    )  # fmt: skip
    losses = trained.history["val_loss"]
    assert seen == list(range(1, len(losses) + 1))
    assert len(losses) == np.argmin(losses) + 1 + settings.patience < settings.epochs
    [(inputs, pairs)] = dataset(tune.shards, SIZES, batch_size=500, weighted=True)
    model = build_training_model(table, trained.core)
    penalty = sum(float(x) for x in model.losses)
    kept = float(EsmmPairLoss()(pairs, model(inputs, training=False))) + penalty
    assert kept == pytest.approx(min(losses), rel=1e-4)
    assert list(tmp_path.rglob("*tfevents*"))


@pytest.mark.parametrize(("where", "bad"), [("train", float("nan")), ("tune", float("inf"))])
def test_a_weight_that_is_no_number_stops_training_with_what_to_change(
    small: ClickLog, table: TextTable, tmp_path: Path, where: str, bad: float
) -> None:
    spoilt = tmp_path / "spoilt.gz"
    records = list(tf.data.TFRecordDataset(small.shards[0], "GZIP").as_numpy_iterator())
    example = tf.train.Example.FromString(records[5])
    example.features.feature[f.positive_weight(f.CTR)].float_list.value[:] = [bad]
    records[5] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(spoilt), "GZIP") as writer:
        for record in records:
            writer.write(record)
    bad_log = ClickLog({}, small.attractiveness, [str(spoilt)])
    logs = {"train": small, "tune": small} | {where: bad_log}
    settings = SETTINGS.model_copy(update={"epochs": 1})
    with pytest.raises(
        TrainingError, match=r"^loss=(nan|inf|-inf) after 1 epochs.*learning_rate=0.01"
    ):
        _train(logs["train"], logs["tune"], table, tmp_path / "log", settings=settings)


@pytest.mark.parametrize("where", ["train", "tune"])
def test_an_empty_split_stops_training(
    small: ClickLog, table: TextTable, tmp_path: Path, where: str
) -> None:
    empty = tmp_path / "weighted-00000-of-00001.gz"
    write_columns({name: values[:0] for name, values in small.columns.items()}, empty)
    nothing = ClickLog({}, small.attractiveness, [str(empty)])
    logs = {"train": small, "tune": small} | {where: nothing}
    with pytest.raises(TrainingError, match=f"{where}.*no rows"):
        _train(logs["train"], logs["tune"], table, tmp_path / "log")


def test_an_untrained_network_predicts_the_base_rates(table: TextTable) -> None:
    core = build_core(table, SIZES, ModelSettings(hidden=()))
    for layer in ("click_logit", "conversion_logit"):
        kernel, bias = core.get_layer(layer).get_weights()
        core.get_layer(layer).set_weights([kernel * 0, bias])
    inputs = {x.name: np.zeros((2, *x.shape[1:]), x.dtype) for x in core.inputs}
    rates = 1 / (1 + np.exp(-core(inputs).numpy()))
    assert rates[:, 0] == pytest.approx(SIZES.click_rate, rel=1e-4)
    assert rates[:, 0] * rates[:, 1] == pytest.approx(SIZES.conversion_rate, rel=1e-4)
