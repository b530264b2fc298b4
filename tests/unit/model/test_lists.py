"""Vectors of the items and clicks of the user: through Transform, packing, training, export."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from tensorflow_metadata.proto.v0 import schema_pb2

from heft import features as f
from heft.errors import DataError, InputError, TrainingError
from heft.examples import iterate_columns, write_columns
from heft.model.export import ServedModel, export
from heft.model.inputs import evaluation_batches
from heft.model.materials import input_sizes
from heft.model.network import build_core, build_training_model
from heft.model.packing import Layout, pack
from heft.model.predict import predict_columns
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.training import TrainingRows, Watch, train
from heft.text.build import build_table
from heft.text.encoder import load_encoder
from heft.text.settings import TextSettings
from heft.text.table import TextTable
from heft.transform import TransformSettings, preprocess, transformed_features
from tests.unit.model.conftest import SIZES, click_log
from tests.unit.model.rows import (
    QUERIES,
    TITLES,
    Row,
    analysed,
    example,
    impression,
    schema,
    transformed,
)

WIDTH, CLICKS = 4, 3
VECTOR, PRESENT = f.vector_value("image"), f.vector_present("image")
WITH_VECTORS = replace(SIZES, numeric=("price_z", PRESENT), vectors={VECTOR: WIDTH})
LAYOUT = Layout.of(("brand_id",), WITH_VECTORS.dense, WITH_VECTORS.vectors)
ABSENT: tuple[list[float] | None, ...] = (None, [0.0] * WIDTH, [1.0, float("nan"), 0.0, 2.0])


def _schema() -> schema_pb2.Schema:
    """The schema as SchemaGen would infer it: a list of any length that may be absent."""
    of = schema()
    image = of.feature.add()
    image.name, image.type = "image", schema_pb2.FLOAT
    image.presence.min_count = 1
    image.value_count.min = 1
    history = of.feature.add()
    history.CopyFrom(image)
    history.name, history.type = "history", schema_pb2.BYTES
    return of


def _rows() -> list[Row]:
    rng = np.random.default_rng(7)
    return [
        impression(
            number, QUERIES[number % 4], TITLES[number % 5],
            image=ABSENT[number % 9] if number % 9 < 3 else
            (rng.normal(size=WIDTH) * [1, 10, 0.1, 1] + [5, 0, 0, 0]).tolist(),
            history=[TITLES[(number + k) % 5] for k in range(number % 6)],
        )
        for number in range(90)
    ]  # fmt: skip


SETTINGS = TransformSettings(vectors=("image",))


@pytest.fixture(scope="module")
def graph():
    return analysed(_rows(), _schema(), SETTINGS, image=WIDTH, history=CLICKS)


def test_each_dimension_is_standardised_over_the_vectors_there_are(graph) -> None:
    rows = _rows()
    columns = transformed(rows, graph)
    known = np.array([number % 9 >= 3 for number in range(len(rows))])
    image = np.array([row["image"] for row, has in zip(rows, known, strict=True) if has])
    want = (image - image.mean(axis=0)) / image.std(axis=0)
    np.testing.assert_allclose(columns[VECTOR][known], want, atol=1e-4)
    assert not columns[VECTOR][~known].any()
    np.testing.assert_array_equal(columns[PRESENT], known)
    widths = {x.name: x.width for x in transformed_features(graph)}
    assert widths.pop(VECTOR) == WIDTH
    assert widths.pop(f.HISTORY_IDS) == CLICKS
    assert set(widths.values()) == {0}


def test_clicked_titles_have_the_ids_of_titles_and_padding_has_none(graph) -> None:
    rows = [*_rows(), impression(90, "q", "new", history=["new", TITLES[2], TITLES[2], "x"])]
    columns = transformed(rows, graph)
    at = {title.decode(): k for k, title in enumerate(graph.vocabulary_by_name("title_text"))}
    for row, ids in zip(rows, columns[f.HISTORY_IDS], strict=True):
        want = [at.get(title, f.OOV) for title in row["history"][:CLICKS]]
        assert ids.tolist() == want + [f.OOV] * (CLICKS - len(want))
    titles = columns[f.TITLE_ID].tolist()
    assert titles == [at.get(row[f.TITLE], f.OOV) for row in rows]


def test_vectors_that_no_row_has_are_named() -> None:
    raw = {name: tf.constant([""]) for name in ("query", "title")}
    with pytest.raises(DataError, match="no row has a vector 'image': map the column"):
        preprocess(
            raw, TransformSettings(categorical=(), numeric=(), vectors=("image",)), {"image": 4}
        )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory):
    """Clicks that follow the vector and nothing else; every fifth row has none."""

    def write(rows: int, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
        columns = click_log(rows, seed, biased=False).columns
        rng = np.random.default_rng(seed)
        present = np.arange(rows) % 5 > 0
        image = np.where(present[:, None], rng.normal(size=(rows, WIDTH)), 0).astype(np.float32)
        rate = 1 / (1 + np.exp(1.0 - 1.5 * image[:, 1] + 1.5 * image[:, 3]))
        click = (rng.random(rows) < rate).astype(np.int64)
        conversion = click * (rng.random(rows) < 0.3)
        columns |= {VECTOR: image, PRESENT: present.astype(np.float32)}
        columns |= {f.CLICK: click, f.CONVERSION: conversion}
        path = tmp_path_factory.mktemp("weighted") / "weighted.gz"
        write_columns(columns, path)
        return columns, [str(path)]

    return write


def test_packed_rows_hold_what_the_examples_held(shards, tmp_path: Path) -> None:
    columns, paths = shards(700, 1)
    rows = pack(paths, LAYOUT, tmp_path, "train")
    batches = list(evaluation_batches(rows, WITH_VECTORS, batch_size=256, weighted=False))
    for name in (VECTOR, f.QUERY_ID, f.TITLE_ID, "brand_id"):
        found = np.concatenate([inputs[name].numpy() for inputs, _ in batches])
        np.testing.assert_array_equal(found, columns[name])
    dense = np.concatenate([inputs["dense"].numpy() for inputs, _ in batches])
    want = np.stack([columns[name] for name in WITH_VECTORS.dense], axis=1)
    np.testing.assert_array_equal(dense, want)
    click = np.concatenate([targets.numpy()[:, 4] for _, targets in batches])
    np.testing.assert_array_equal(click, columns[f.CLICK])


def test_a_number_of_a_vector_that_is_none_is_named(shards, tmp_path: Path) -> None:
    columns, _ = shards(10, 1)
    columns[VECTOR][6, 2] = np.inf
    write_columns(columns, tmp_path / "spoilt.gz")
    with pytest.raises(TrainingError, match=r"^image_vector=inf in row 7 of .*spoilt.gz"):
        pack([str(tmp_path / "spoilt.gz")], LAYOUT, tmp_path, "train")


def _auc(shards, table: TextTable, folder: Path, with_vectors: bool) -> float:
    sizes = WITH_VECTORS if with_vectors else SIZES
    layout = Layout.of(("brand_id",), sizes.dense, sizes.vectors)
    rows = TrainingRows(
        pack(shards(2_500, 1)[1], layout, folder, "train"),
        pack(shards(1_500, 2)[1], layout, folder, "tune"),
    )
    settings = ModelSettings(hidden=(16,), epochs=3, batch_size=256, learning_rate=1e-2)
    trained = train(rows, table, sizes, settings, Watch(folder), weighted=False)
    batches = list(evaluation_batches(rows.tune, sizes, batch_size=2_000, weighted=False))
    logits = np.concatenate([trained.model(x, training=False).numpy()[:, 0] for x, _ in batches])
    return float(roc_auc_score(np.concatenate([y.numpy()[:, 4] for _, y in batches]), logits))


def test_vectors_that_carry_the_signal_raise_the_tune_auc(
    shards, table: TextTable, tmp_path: Path
) -> None:
    blind = _auc(shards, table, tmp_path / "blind", False)
    seeing = _auc(shards, table, tmp_path / "seeing", True)
    assert blind < 0.6
    assert seeing > 0.75


@pytest.fixture(scope="module")
def served(graph, tmp_path_factory: pytest.TempPathFactory):
    text = TextSettings(title_dimensions=3, query_dimensions=2, product_dimensions=3)
    encoder = load_encoder(text)
    queries, titles = (graph.vocabulary_by_name(n) for n in ("query_text", "title_text"))
    pairs = np.array([(q, t) for q in range(len(queries)) for t in range(len(titles))])
    table = build_table(queries, titles, pairs, np.ones(len(pairs)), text, encoder=encoder)
    sizes = input_sizes(graph, SETTINGS, history=True)
    assert (sizes.vectors, sizes.history) == ({VECTOR: WIDTH}, CLICKS)
    keras.utils.set_random_seed(3)
    core = build_core(table, sizes, ModelSettings(numeric_pieces=0))
    rng = np.random.default_rng(3)
    for weight in core.trainable_weights:
        weight.assign_add(0.2 * rng.normal(size=weight.shape))
    model = ServedModel(
        core, encoder, table, graph.transform_features_layer(), graph.raw_feature_spec(), sizes,
        Rates(np.array([[1.0, 0.0]], np.float32), 1),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("export") / "1"
    export(model, SETTINGS, folder)

    trained = build_training_model(table, core, ModelSettings())

    def expected(rows: list[Row]) -> np.ndarray:
        """What the model answers that is trained on such rows."""
        columns = transformed(rows, graph)
        inputs = {name: columns[name] for name in trained.input if name != "dense"}
        inputs["dense"] = np.stack([columns[name] for name in sizes.dense], axis=1)
        logits = trained(inputs, training=False).numpy()[:, 0]
        return np.asarray(1 / (1 + np.exp(-logits)))

    def told(row: Row, texts: list[str]) -> float:
        """What the core answers if the clicked titles are encoded anew."""
        columns = transformed([row], graph)
        vectors = np.zeros((1, CLICKS, encoder.dim), np.float32)
        vectors[0, : len(texts)] = encoder(tf.constant(texts))
        inputs = {name: columns[name] for name in (*sizes.categorical, *sizes.vectors)}
        inputs |= {
            "query_vector": table.queries[columns[f.QUERY_ID]],
            "title_vector": table.titles[columns[f.TITLE_ID]],
            "dense": np.stack([columns[name] for name in sizes.dense], axis=1),
            "history_vectors": vectors,
            "history_mask": (np.arange(CLICKS) < len(texts))[None].astype(np.float32),
        }
        return float(1 / (1 + np.exp(-core(inputs, training=False).numpy()[0, 0])))

    return folder, expected, told


def test_both_signatures_answer_as_the_network_does(served) -> None:
    folder, expected, _ = served
    rows = _rows()[:20]
    want = expected(rows)
    assert np.ptp(want) > 0.05
    signatures = tf.saved_model.load(str(folder)).signatures
    inputs = signatures["serving_default"].structured_input_signature[1]
    assert inputs["image"].shape.as_list() == [None, WIDTH]
    assert inputs["image"].dtype == tf.float32
    assert inputs["history"].shape.as_list() == [None, CLICKS]
    assert inputs["history"].dtype == tf.string
    # What was clicked shows in the answers, or the test says nothing of it.
    assert np.abs(expected([row | {"history": []} for row in rows]) - want).max() > 1e-2
    named = {n: tf.constant([r[n] for r in rows]) for n in ("query", "title", "category", "brand")}
    named["price"] = tf.constant([row["price"] for row in rows])
    clicked = [(row["history"] + [""] * CLICKS)[:CLICKS] for row in rows]
    named["history"] = tf.constant(clicked)
    for nothing in (0.0, float("nan")):
        image = [row["image"] or [nothing] * WIDTH for row in rows]
        answers = signatures["serving_default"](**named, image=tf.constant(image))
        np.testing.assert_allclose(answers["ctr"], want, atol=1e-4)
    serialised = tf.constant([example(row) for row in rows])
    np.testing.assert_allclose(signatures["examples"](serialised)["ctr"], want, atol=1e-4)
    short = [example(rows[3] | {"image": [1.0, 2.0]})]
    with pytest.raises(tf.errors.InvalidArgumentError, match="image"):
        signatures["examples"](tf.constant(short))


def test_a_clicked_title_that_the_table_lacks_is_encoded(served) -> None:
    folder, expected, told = served
    texts = ["solar garden lantern", TITLES[1]]
    row = _rows()[5] | {"history": texts}
    answer = tf.saved_model.load(str(folder)).signatures["examples"]
    found = float(answer(tf.constant([example(row)]))["ctr"][0])
    assert found == pytest.approx(told(row, texts), abs=1e-4)
    # Training had no vector for it, and took it for padding.
    assert abs(expected([row])[0] - found) > 1e-3


def test_predicting_in_process_takes_lists(served) -> None:
    folder, expected, _ = served
    row = _rows()[5] | {"history": [TITLES[1]]}
    others = {
        "image": row["image"],
        "history": [TITLES[1]],
        "price": 10.0,
        "brand": "acme",
        "category": "tools",
    }
    found = predict_columns(folder, row["query"], [row["title"]], others)
    np.testing.assert_allclose(found["ctr"], expected([row]), atol=1e-4)
    without = predict_columns(folder, row["query"], [row["title"]], others | {"image": None})
    np.testing.assert_allclose(without["ctr"], expected([row | {"image": None}]), atol=1e-4)
    with pytest.raises(InputError, match=r"image=\[1.0, 2.0\]: expected a list of 4 numbers"):
        predict_columns(folder, "q", ["t"], {"image": [1.0, 2.0]})
    with pytest.raises(InputError, match="history='lamp': expected a list of 3 texts"):
        predict_columns(folder, "q", ["t"], {"history": "lamp"})


def test_examples_of_transform_come_back_from_the_reader(graph, tmp_path: Path) -> None:
    columns = transformed(_rows(), graph)
    write_columns(columns, tmp_path / "part.gz")
    (found,) = iterate_columns([str(tmp_path / "part.gz")], transformed_features(graph))
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
