"""Attention over the clicks of a user: its arithmetic, and that it learns what they like."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heft import features as f
from heft.errors import TrainingError
from heft.examples import write_columns
from heft.model.history import HistoryAttention
from heft.model.inputs import evaluation_batches
from heft.model.network import InputSizes, build_core, build_training_model
from heft.model.packing import Layout, pack
from heft.model.precision import computing_in
from heft.model.settings import ModelSettings
from heft.model.training import Trained, TrainingRows, Watch, train
from heft.model.warm_start import Lineage, load_base, save_base, warm_start
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, click_log

CLICKS, DIM, WIDTH = 4, 8, 3
BOTH = replace(SIZES, history=CLICKS, vectors={"image_vector": 2})
LINEAGE = Lineage("abc", BOTH.dense, {"brand_id": tuple("abcd")}, BOTH.vectors, True)


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def layer() -> HistoryAttention:
    keras.utils.set_random_seed(1)
    layer = HistoryAttention(WIDTH)
    layer.build([(None, CLICKS, DIM), (None, CLICKS), (None, DIM)])
    return layer


def _twin(layer: HistoryAttention, history: np.ndarray, title: np.ndarray) -> np.ndarray:
    """One row, click by click; `history` holds those that are there."""
    project, hidden, hidden_bias, weigh, weigh_bias = layer.get_weights()
    query = title @ project
    pooled, cosine = np.zeros(WIDTH), 0.0
    for click in history:
        key = click @ project
        seen = np.concatenate([key, query, key - query, key * query, [click @ title]])
        unit = np.maximum(seen @ hidden + hidden_bias, 0)
        weight = 1 / (1 + np.exp(-(unit @ weigh + weigh_bias)[0]))
        pooled += weight * key
        cosine += weight * (click @ title)
    return np.concatenate([pooled, [cosine, len(history) / CLICKS]])


def test_attention_is_that_of_a_loop_and_padding_says_nothing(layer: HistoryAttention) -> None:
    rng = np.random.default_rng(2)
    history, title = _unit(rng, 30, CLICKS, DIM), _unit(rng, 30, DIM)
    clicks = np.arange(30) % (CLICKS + 1)
    mask = (np.arange(CLICKS) < clicks[:, None]).astype(np.float32)
    found = layer([history, mask, title]).numpy()
    want = [_twin(layer, h[:n], t) for h, n, t in zip(history, clicks, title, strict=True)]
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert not found[clicks == 0].any()
    turned = layer([history[:, ::-1], mask[:, ::-1], title]).numpy()
    np.testing.assert_allclose(turned, found, atol=1e-5)
    again = HistoryAttention.from_config(layer.get_config())
    assert again.width == WIDTH


@pytest.mark.parametrize("architecture", ["esmm", "shared_bottom", "mmoe", "ple"])
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_every_architecture_takes_both_and_hands_them_on(
    table: TextTable, tmp_path: Path, architecture: str, precision: str
) -> None:
    settings = ModelSettings(architecture=architecture, hidden=(8,))
    with computing_in(precision):
        cores = [build_core(table, BOTH, settings) for _ in range(2)]
    assert cores[0].get_layer("history_attention").variable_dtype == "float32"
    first, second = (build_training_model(table, core, settings) for core in cores)
    save_base(first.get_layer("core"), LINEAGE, tmp_path)
    warm_start(second.get_layer("core"), LINEAGE, load_base(tmp_path))
    rng = np.random.default_rng(1)
    inputs = {
        name: rng.integers(-1 if name == f.HISTORY_IDS else 0, 5, (9, *x.shape[1:]))
        if x.dtype == "int64" else rng.normal(size=(9, *x.shape[1:])).astype(np.float32)
        for name, x in first.input.items()
    }  # fmt: skip
    np.testing.assert_array_equal(first(inputs).numpy(), second(inputs).numpy())
    for name in (f.HISTORY_IDS, "image_vector"):
        moved = inputs | {name: inputs[name] + 1}
        assert np.abs(first(moved).numpy() - first(inputs).numpy()).max() > 1e-4
    without = replace(LINEAGE, vectors={}, history=False)
    with pytest.raises(
        TrainingError,
        match=r"vectors \{'image_vector': 2\} then and \{\} now; history True then and False now",
    ):
        warm_start(build_core(table, SIZES, settings), without, load_base(tmp_path))


def _log(table: TextTable, rows: int, seed: int, folder: Path) -> list[str]:
    """Users click what is like the first title that they clicked before; some are new."""
    columns = click_log(rows, seed, biased=False).columns
    rng = np.random.default_rng(seed)
    columns[f.TITLE_ID] = rng.integers(0, 50, rows)
    ids = rng.integers(0, 50, (rows, CLICKS))
    ids[np.arange(CLICKS) >= rng.integers(0, CLICKS + 1, rows)[:, None]] = f.OOV
    like = (table.titles[ids[:, 0]] * table.titles[columns[f.TITLE_ID]]).sum(axis=1)
    like = np.where(ids[:, 0] >= 0, like, 0)
    columns[f.CLICK] = (rng.random(rows) < 1 / (1 + np.exp(1 - 5 * like))).astype(np.int64)
    columns[f.CONVERSION] = columns[f.CLICK] * (rng.random(rows) < 0.3)
    columns[f.HISTORY_IDS] = ids
    write_columns(columns, folder / f"{seed}.gz")
    return [str(folder / f"{seed}.gz")]


def _trained(sizes: InputSizes, table: TextTable, folder: Path) -> tuple[Trained, float]:
    layout = Layout.of(("brand_id",), sizes.dense, sizes.vectors, sizes.history)
    rows = TrainingRows(
        pack(_log(table, 3_000, 1, folder), layout, folder, "train"),
        pack(_log(table, 1_500, 2, folder), layout, folder, "tune"),
    )
    settings = ModelSettings(hidden=(16,), epochs=4, batch_size=256, learning_rate=1e-2)
    trained = train(rows, table, sizes, settings, Watch(folder), weighted=False)
    batches = list(evaluation_batches(rows.tune, sizes, batch_size=2_000, weighted=False))
    logits = np.concatenate([trained.model(x, training=False).numpy()[:, 0] for x, _ in batches])
    clicks = np.concatenate([y.numpy()[:, 4] for _, y in batches])
    return trained, float(roc_auc_score(clicks, logits))


def test_clicks_that_tell_what_a_user_likes_raise_the_tune_auc(
    table: TextTable, tmp_path: Path
) -> None:
    _, blind = _trained(SIZES, table, tmp_path / "blind")
    _, seeing = _trained(replace(SIZES, history=CLICKS), table, tmp_path / "seeing")
    assert blind < 0.57
    assert seeing > blind + 0.1


def test_packed_rows_hold_the_ids_of_clicks(table: TextTable, tmp_path: Path) -> None:
    layout = Layout.of(("brand_id",), SIZES.dense, {}, CLICKS)
    sizes = replace(SIZES, history=CLICKS)
    rows = pack(_log(table, 600, 3, tmp_path), layout, tmp_path / "rows", "train")
    batches = list(evaluation_batches(rows, sizes, batch_size=256, weighted=False))
    rng = np.random.default_rng(3)
    rng.integers(0, 50, 600)
    ids = rng.integers(0, 50, (600, CLICKS))
    ids[np.arange(CLICKS) >= rng.integers(0, CLICKS + 1, 600)[:, None]] = f.OOV
    found = np.concatenate([inputs[f.HISTORY_IDS].numpy() for inputs, _ in batches])
    np.testing.assert_array_equal(found, ids)
