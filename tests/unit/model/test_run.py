"""A whole training run with what is optional: what it writes, and what is served."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokeniser's ops
from tensorflow.core.protobuf import saved_model_pb2

from heft import features as f
from heft.examples import write_columns
from heft.importance.estimate import SUMMARY_FILE
from heft.model.calibration import Calibration
from heft.model.export import ServedModel, export
from heft.model.materials import TrainingRun, input_sizes
from heft.model.pieces import PiecewiseLinear
from heft.model.rates import Rates
from heft.model.run import train_and_export
from heft.model.settings import ModelSettings
from heft.model.warm_start import WARM_START_DIR, load_base
from heft.text.build import build_table
from heft.text.encoder import load_encoder
from heft.text.table import TextTable
from tests.unit.model.rows import QUERIES, SETTINGS, TITLES, impression, shop_graph, transformed
from tests.unit.model.test_export import TEXT, TEXT_OPS, UNSEEN, Reloaded

CLICKS = {"slope": [0.9, 0.6, 0.3], "offset": [0.1, 0.05, 0.0]}
ROWS = [impression(i, QUERIES[i % 4], TITLES[i % 5], price=10.0 + i) for i in range(20)]
# How far the answers of a compressed model may be from those of what was trained, as rates.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What earlier nodes wrote, over the shop's texts."""
    folder = tmp_path_factory.mktemp("inputs")
    graph = shop_graph()
    queries, titles = (graph.vocabulary_by_name(f"{x}_text") for x in ("query", "title"))
    pairs = np.array([(q, t) for q in range(len(queries)) for t in range(len(titles))])
    table = build_table(
        queries, titles, pairs, np.ones(len(pairs)), TEXT, encoder=load_encoder(TEXT)
    )
    table.save(f"{folder}/table")
    (folder / SUMMARY_FILE).write_text(json.dumps({"clicks": CLICKS}))
    for split, rows, seed in (("train", 3_000, 1), ("tune", 1_000, 2)):
        write_columns(_columns(rows, seed), folder / split / "weighted.gz")
    return folder


def _columns(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = transformed(ROWS)
    picked = rng.integers(0, len(ROWS), rows)
    sizes = input_sizes(shop_graph(), SETTINGS)
    columns = {
        name: known[name][picked]
        for name in (f.QUERY_ID, f.TITLE_ID, *sizes.dense, *sizes.categorical)
    }
    position = rng.integers(1, 4, rows)
    slope, offset = (np.array(CLICKS[name])[position - 1] for name in ("slope", "offset"))
    rate = slope * (0.1 + 0.6 * (picked % 5 == 0)) + offset
    click = (rng.random(rows) < rate).astype(np.int64)
    conversion = click * (rng.random(rows) < 0.3)
    for task, label in ((f.CTR, click), (f.CVR, conversion)):
        columns[f.positive_weight(task)] = label.astype(np.float32)
        columns[f.negative_weight(task)] = (1 - label).astype(np.float32)
    return columns | {f.CLICK: click, f.CONVERSION: conversion, f.POSITION: position}


def run(inputs: Path, folder: Path, **settings: Any) -> ModelSettings:
    """Trains under `folder`."""
    given = {"hidden": [16], "epochs": 2, "control": False, "learning_rate": 0.01} | settings
    asked = ModelSettings.model_validate(given)
    (folder / "log").mkdir(parents=True)
    where = TrainingRun(
        [f"{inputs}/train/*"], [f"{inputs}/tune/*"], shop_graph()._transform_output_dir,
        f"{inputs}/table", str(inputs), f"{folder}/model", f"{folder}/control", f"{folder}/log",
    )  # fmt: skip
    train_and_export(where, asked, SETTINGS)
    return asked


def facts(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "log" / name).read_text())
    return found


def test_a_compressed_model_answers_nearly_what_was_trained(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path, compression={"table": "int8", "network": "int8"})
    found = facts(tmp_path, "compression.json")["weighted"]
    assert found["settings"] == {"table": "int8", "network": "int8", "student": None}
    assert found["table_bytes"][1] < 0.3 * found["table_bytes"][0]
    # The next run begins with the network that was trained, all 32 bits of it.
    base = load_base(tmp_path / "model" / WARM_START_DIR / "weighted").weights
    model = Reloaded(tmp_path / "model")
    answers, want = model.columns(ROWS), _by_hand(base, inputs, tmp_path)
    assert np.ptp(want) > 0.02
    change = np.abs(answers[f.CTR] - want).max()
    assert 0 < change < TOLERANCE
    assert change < 2 * found["largest_change"]["ctr"] + 1e-5
    _best_calibrated(model)
    # A text that the table does not hold still goes through the encoder.
    unseen = model.columns([impression(0, UNSEEN, UNSEEN), impression(1, "", UNSEEN)])
    assert np.isfinite(unseen[f.CTR]).all()
    assert unseen[f.CTR][0] != unseen[f.CTR][1]
    _stock_ops(tmp_path / "model")


def _best_calibrated(model: Reloaded) -> None:
    """No other line of the attractiveness' logit makes the clicks of tune more likely."""
    tune, picked = _columns(1_000, 2), np.random.default_rng(2).integers(0, len(ROWS), 1_000)
    at = [model.examples([row | {f.POSITION: p} for row in ROWS])[f.CTR] for p in (1, 2, 3)]
    place, click = tune[f.POSITION] - 1, tune[f.CLICK]
    slope, offset = (np.array(CLICKS[name])[place] for name in ("slope", "offset"))
    share = (np.array(at, np.float64)[place, picked] - offset) / slope
    logit = np.log(share / (1 - share))

    def loss(scale: float, shift: float) -> float:
        rate = slope / (1 + np.exp(-scale * logit - shift)) + offset
        return float(-np.mean(click * np.log(rate) + (1 - click) * np.log(1 - rate)))

    others = [loss(1, 0.1), loss(1, -0.1), loss(1.1, 0), loss(0.9, 0)]
    assert loss(1, 0) < min(others)


def test_the_student_is_served_and_its_teacher_handed_on(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = []

    def and_kept(served: ServedModel, *rest: Any) -> None:
        exported.append(served)
        export(served, *rest)

    monkeypatch.setattr("heft.model.run.export", and_kept)
    student = {"hidden": [4], "share": 1.0}
    run(inputs, tmp_path, student=student, compression={"network": "float16"})
    [served] = exported
    kernel = served.core.get_layer("click_0").kernel
    assert (kernel.shape[1], kernel.dtype) == (4, "float16")
    base = load_base(tmp_path / "model" / WARM_START_DIR / "weighted").weights["click_0"][0]
    assert (base.shape[1], base.dtype) == (16, np.float32)
    found = facts(tmp_path, "compression.json")["weighted"]
    assert found["settings"] == {"table": "none", "network": "float16", "student": student}
    assert found["table_bytes"][0] == found["table_bytes"][1]
    assert set(facts(tmp_path, "history.json")) == {"weighted", "weighted_student"}
    # What was written answers as the student does, not as its teacher.
    strings = (f.QUERY, f.TITLE, *SETTINGS.categorical)
    raw = {name: tf.constant([row[name] for row in ROWS], tf.string) for name in strings}
    raw[f.PRICE] = tf.constant([row[f.PRICE] for row in ROWS], tf.float32)
    answers = Reloaded(tmp_path / "model").columns(ROWS)[f.CTR]
    np.testing.assert_allclose(answers, served.predict(raw)[f.CTR].numpy(), atol=1e-5)
    assert np.ptp(answers) > 1e-3


def _by_hand(base: dict[str, list[np.ndarray]], inputs: Path, folder: Path) -> np.ndarray:
    """`ctr` at the reference of the trained network, with NumPy; (rows,)."""
    table = TextTable.load(f"{inputs}/table")
    known = transformed(ROWS)
    query, title = table.queries[known[f.QUERY_ID]], table.titles[known[f.TITLE_ID]]
    product, reduction = query * title, table.reduction
    sizes = input_sizes(shop_graph(), SETTINGS)
    parts = [product.sum(axis=1, keepdims=True)]
    for projection, vectors in (
        (reduction.query, query), (reduction.title, title), (reduction.product, product),
    ):  # fmt: skip
        parts.append(projection.apply(vectors))
    parts.append(np.stack([known[name] for name in sizes.dense], axis=1))
    gamma, beta, mean, variance = base["scale"]
    joined = (np.concatenate(parts, axis=1) - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    numbers = joined[:, [0, *range(joined.shape[1] - len(sizes.dense), joined.shape[1])]]
    pieces = PiecewiseLinear(ModelSettings().numeric_pieces)(numbers).numpy()
    embedded = [base[f"{name}_embedding"][0][known[name]] for name in sizes.categorical]
    features = np.concatenate([joined, pieces, *embedded], axis=1)
    hidden = features @ base["click_0"][0] + base["click_0"][1]
    logit = np.maximum(hidden, 0) @ base["click_logit"][0] + base["click_logit"][1]
    lines = np.array([CLICKS["slope"], CLICKS["offset"]], np.float32).T
    curve = Calibration.from_json(facts(folder, "calibration.json")["weighted"])
    both = tf.constant(np.repeat(logit, 2, axis=1), tf.float32)
    return Rates(lines, 1, curve).tensors(both, None)[f.CTR].numpy()


def _stock_ops(path: Path) -> None:
    proto = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    [meta] = proto.meta_graphs
    library = meta.graph_def.library
    own = {function.signature.name for function in library.function}
    nodes = [*meta.graph_def.node, *(n for function in library.function for n in function.node_def)]
    ops = {node.op for node in nodes} - own
    assert {op for op in ops if not hasattr(tf.raw_ops, op)} <= TEXT_OPS


def test_a_private_run_says_what_it_spent(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path, control=True, privacy={"noise_multiplier": 2.0, "delta": 1e-4})
    said, history = facts(tmp_path, "privacy.json"), facts(tmp_path, "history.json")
    assert set(said) == {"weighted", "control", "all_models"}
    for name in ("weighted", "control"):
        assert said[name]["epsilon"] == history[name]["epsilon"][-1] > history[name]["epsilon"][0]
        assert said[name]["sampling_rate"] == 64 / 3_000
        beside = tmp_path / {"weighted": "model"}.get(name, name) / "assets.extra/privacy.json"
        assert json.loads(beside.read_text()) == said[name]
    assert said["all_models"]["epsilon"] > said["weighted"]["epsilon"]
    # The noise of the two is not the same.
    first, second = (
        load_base(tmp_path / "model" / WARM_START_DIR / name).weights["brand_id_embedding"][0]
        for name in ("weighted", "control")
    )
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.9
