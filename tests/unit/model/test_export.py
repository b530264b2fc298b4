"""The served model, read back from disk: what it answers is what the pipeline computed."""

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokeniser's ops
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from heft import features as f
from heft.errors import InputError
from heft.model.export import ServedModel, export
from heft.model.network import InputSizes, build_core
from heft.model.predict import predict_columns
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.warm_up import WARM_UP_FILE
from heft.text.build import build_table
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.settings import TextSettings
from heft.text.table import TextTable
from heft.versions import EXPORTED_FILE, exported_at
from serving.local.text_configs import read_batching
from tests.unit.model.rows import (
    QUERIES,
    SETTINGS,
    TITLES,
    Row,
    example,
    impression,
    shop_graph,
    transformed,
)

ROOT = Path(__file__).parents[3]
OUTPUTS = (f.CTR, f.CVR, f.CTCVR)
# Slope and offset by position.
CLICKS = np.array([[0.9, 0.1], [0.6, 0.05], [0.3, 0.0]], np.float32)
TEXT = TextSettings(title_dimensions=3, query_dimensions=2, product_dimensions=3)
UNSEEN = "solar garden lantern, café style"
# The ops of TensorFlow Text that every stock TensorFlow Serving image knows.
TEXT_OPS = {"CaseFoldUTF8", "FastWordpieceTokenizeWithOffsets", "RegexSplitWithOffsets"}


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_encoder(TEXT)


@pytest.fixture(scope="module")
def table(encoder: TextEncoder) -> TextTable:
    graph = shop_graph()
    queries = graph.vocabulary_by_name("query_text")
    titles = graph.vocabulary_by_name("title_text")
    pairs = np.array([(q, t) for q in range(len(queries)) for t in range(len(titles))])
    counts = np.arange(1, len(pairs) + 1)
    return build_table(queries, titles, pairs, counts, TEXT, encoder=encoder)


@pytest.fixture(scope="module")
def sizes() -> InputSizes:
    graph = shop_graph()
    rows = {
        f.categorical_id(name): graph.vocabulary_size_by_name(name) + 1
        for name in SETTINGS.categorical
    }
    return InputSizes(rows, ("price_z",), 0.2, 0.05)


@pytest.fixture(scope="module")
def core(table: TextTable, sizes: InputSizes) -> keras.Model:
    keras.utils.set_random_seed(3)
    core = build_core(table, sizes, ModelSettings())
    rng = np.random.default_rng(3)
    # Larger weights than the initial ones, so that every input shows in the answer.
    for weight in core.trainable_weights:
        weight.assign_add(0.2 * rng.normal(size=weight.shape))
    return core


@pytest.fixture(scope="module")
def path(
    table: TextTable, encoder: TextEncoder, core: keras.Model, sizes: InputSizes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    graph = shop_graph()
    served = ServedModel(
        core, encoder, table, graph.transform_features_layer(), graph.raw_feature_spec(), sizes,
        Rates(CLICKS, 2),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("export") / "1"
    export(served, SETTINGS, folder)
    return folder


class Reloaded:
    """The SavedModel as a server has it."""

    def __init__(self, path: Path) -> None:
        self.model = tf.saved_model.load(str(path))

    def explained(self, rows: list[Row]) -> dict[str, np.ndarray]:
        answers = self.model.signatures["explain"](**self._named(rows))
        return {name: x.numpy() for name, x in answers.items()}

    def columns(self, rows: list[Row]) -> dict[str, np.ndarray]:
        return self._numpy(self.model.signatures["serving_default"](**self._named(rows)))

    @staticmethod
    def _named(rows: list[Row]) -> dict[str, Any]:
        strings = (f.QUERY, f.TITLE, *SETTINGS.categorical)
        named: dict[str, Any] = {n: tf.constant([r[n] for r in rows], tf.string) for n in strings}
        named[f.PRICE] = tf.constant([row[f.PRICE] for row in rows], tf.float32)
        return named

    def examples(self, rows: list[Row]) -> dict[str, np.ndarray]:
        serialised = tf.constant([example(row) for row in rows], tf.string)
        return self._numpy(self.model.signatures["examples"](examples=serialised))

    @staticmethod
    def _numpy(answers: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        assert set(answers) == set(OUTPUTS)
        assert all(x.dtype == tf.float32 for x in answers.values())
        return {name: x.numpy() for name, x in answers.items()}


@pytest.fixture(scope="module")
def model(path: Path) -> Reloaded:
    return Reloaded(path)


def _expected(
    core: keras.Model, sizes: InputSizes, rows: list[Row], query: np.ndarray, title: np.ndarray
) -> dict[str, np.ndarray]:
    """The network on given vectors, at the reference position."""
    columns = transformed(rows)
    inputs = {
        "query_vector": query,
        "title_vector": title,
        "dense": np.stack([columns[name] for name in sizes.dense], axis=1),
        **{name: columns[name] for name in sizes.categorical},
    }
    ctr, cvr = 1 / (1 + np.exp(-core(inputs, training=False).numpy().astype(np.float64).T))
    slope, offset = CLICKS[1]
    ctr = slope * ctr + offset
    return {f.CTR: ctr, f.CVR: cvr, f.CTCVR: ctr * cvr}


def _agree(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], want[name], atol=1e-5, err_msg=name)


def _at(rows: list[Row], position: int | None) -> list[Row]:
    return [row | {f.POSITION: position} for row in rows]


ROWS = [
    impression(i, query, title, price=price, brand=brand)
    for i, (query, title, price, brand) in enumerate(
        [
            (QUERIES[0], TITLES[0], 10.0, "acme"),
            (QUERIES[1], TITLES[4], 80.0, "never seen"),
            (QUERIES[3], TITLES[3], 0.0, ""),
            (QUERIES[2], TITLES[1], 20.0, "zeta"),
        ]
    )
]


def test_known_texts_take_their_vectors_from_the_table(
    model: Reloaded, table: TextTable, core: keras.Model, sizes: InputSizes
) -> None:
    ids = transformed(ROWS)
    want = _expected(
        core, sizes, ROWS, table.queries[ids[f.QUERY_ID]], table.titles[ids[f.TITLE_ID]]
    )
    assert np.ptp(want[f.CTR]) > 0.01  # answers that differ, or the test says nothing
    _agree(model.columns(ROWS), want)


def test_an_unknown_text_is_encoded_as_the_pipeline_would_have(
    model: Reloaded, encoder: TextEncoder, core: keras.Model, sizes: InputSizes
) -> None:
    rows = [
        impression(0, UNSEEN, UNSEEN),
        impression(1, QUERIES[0], UNSEEN),
        impression(2, UNSEEN, TITLES[0]),
        impression(3, QUERIES[1], TITLES[1]),
        impression(4, UNSEEN, UNSEEN),
        impression(5, "", "電動ドリル 🔧"),
    ]
    # The table as it would be, had the vocabulary held the texts.
    queries = [row[f.QUERY].encode() for row in rows]
    titles = [row[f.TITLE].encode() for row in rows]
    texts = list(dict.fromkeys(queries + titles))
    whole = build_table(texts, texts, np.array([(0, 0)]), np.ones(1), TEXT, encoder=encoder)
    at_query, at_title = ([texts.index(text) for text in column] for column in (queries, titles))
    want = _expected(core, sizes, rows, whole.queries[at_query], whole.titles[at_title])
    found = model.columns(rows)
    _agree(found, want)
    assert found[f.CTR][0] == found[f.CTR][4]
    nowhere = np.zeros((len(rows), encoder.dim), np.float32)
    blind = _expected(core, sizes, rows, nowhere, nowhere)
    assert np.abs(blind[f.CTR] - want[f.CTR]).min() > 1e-4


def test_gradients_are_those_of_the_logit(
    model: Reloaded, table: TextTable, core: keras.Model, sizes: InputSizes
) -> None:
    """Against finite differences of the network, along a random direction of each vector."""
    ids = transformed(ROWS)
    query, title = table.queries[ids[f.QUERY_ID]], table.titles[ids[f.TITLE_ID]]
    found = model.explained(ROWS)

    def logit(query: np.ndarray, title: np.ndarray) -> np.ndarray:
        # `_expected` answers slope · sigmoid + offset of position 2.
        rate = (_expected(core, sizes, ROWS, query, title)[f.CTR] - CLICKS[1, 1]) / CLICKS[1, 0]
        return np.log(rate / (1 - rate))

    np.testing.assert_allclose(found["logit"], logit(query, title), atol=1e-3)
    rng = np.random.default_rng(0)
    for name, move in (("query", (1, 0)), ("title", (0, 1))):
        direction = rng.normal(size=query.shape).astype(np.float32)
        step = 5e-4 * direction
        ahead = logit(query + move[0] * step, title + move[1] * step)
        behind = logit(query - move[0] * step, title - move[1] * step)
        want = (ahead - behind) / 1e-3
        got = (found[f"{name}_gradient"] * direction).sum(axis=1)
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
        assert np.abs(want).max() > 1e-3


def test_a_row_is_answered_alike_alone_and_among_others(model: Reloaded) -> None:
    rows = [*ROWS, impression(9, UNSEEN, TITLES[0]), impression(8, "x", UNSEEN)]
    together = model.columns(rows)
    alone = [model.columns([row]) for row in rows]
    for name in OUTPUTS:
        found = np.concatenate([answer[name] for answer in alone])
        np.testing.assert_allclose(found, together[name], atol=1e-5)


def test_both_signatures_agree_where_no_position_is_given(model: Reloaded) -> None:
    rows = [*ROWS, impression(9, UNSEEN, UNSEEN)]
    _agree(model.examples(_at(rows, None)), model.columns(rows))


def test_a_position_moves_the_click_along_its_line_and_nothing_else(model: Reloaded) -> None:
    first, third, far, unknown = (model.examples(_at(ROWS, p)) for p in (1, 3, 40, None))
    attractive = third[f.CTR] / 0.3
    np.testing.assert_allclose(first[f.CTR], 0.9 * attractive + 0.1, rtol=1e-5)
    np.testing.assert_allclose(unknown[f.CTR], 0.6 * attractive + 0.05, rtol=1e-5)
    for name in (f.CTR, f.CTCVR):
        np.testing.assert_array_equal(far[name], third[name])
    np.testing.assert_array_equal(third[f.CVR], first[f.CVR])
    np.testing.assert_allclose(first[f.CTCVR], first[f.CTR] * first[f.CVR], rtol=1e-4)


def test_examples_without_optional_columns_are_those_of_unknown_values(model: Reloaded) -> None:
    bare = [{f.QUERY: QUERIES[0], f.TITLE: TITLES[0]}]
    said = [impression(0, QUERIES[0], TITLES[0], price=0.0, category="", brand="", device="")]
    _agree(model.examples(bare), model.columns(said))
    missing = model.columns([said[0] | {f.PRICE: float("nan")}])
    _agree(missing, model.columns(said))


def test_a_column_that_is_given_once_is_that_of_every_row(model: Reloaded) -> None:
    rows = [impression(i, UNSEEN, t, price=10.0) for i, t in enumerate((*TITLES, UNSEEN))]
    named = Reloaded._named(rows)
    once = named | {name: named[name][:1] for name in (f.QUERY, f.CATEGORY, f.PRICE)}
    serve = model.model.signatures["serving_default"]
    want = model.columns(rows)
    assert np.ptp(want[f.CTR]) > 1e-4
    _agree({name: x.numpy() for name, x in serve(**once).items()}, want)
    one_title = named | {f.TITLE: named[f.TITLE][:1]}
    assert serve(**one_title)[f.CTR].shape == (6,)
    wrong = named | {f.QUERY: named[f.QUERY][:2], f.TITLE: named[f.TITLE][:3]}
    with pytest.raises(tf.errors.InvalidArgumentError, match="columns differ in length"):
        serve(**wrong)


def test_every_column_but_two_may_be_left_out_and_is_unknown_then(
    path: Path, model: Reloaded
) -> None:
    proto = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for name in ("serving_default", "explain"):
        definition = proto.meta_graphs[0].signature_def[name]
        assert set(definition.inputs) - set(definition.defaults) == {f.QUERY, f.TITLE}
    defaults = {k: tf.constant(tf.make_ndarray(v)) for k, v in definition.defaults.items()}
    rows = [impression(i, QUERIES[0], t) for i, t in enumerate(TITLES)]
    texts = {name: [row[name] for row in rows] for name in (f.QUERY, f.TITLE)}
    answers = model.model.signatures["serving_default"](
        **defaults, **{k: tf.constant(v) for k, v in texts.items()}
    )
    bare = [{name: row[name] for name in texts} for row in rows]
    _agree({name: x.numpy() for name, x in answers.items()}, model.examples(bare))


def test_a_session_answers_as_the_functions_do(path: Path, model: Reloaded) -> None:
    """TensorFlow Serving runs graphs in a session, with defaults for columns that are left out."""
    rows = [*ROWS, impression(8, UNSEEN, TITLES[0]), impression(9, UNSEEN, UNSEEN)]
    whole = {name: x.numpy() for name, x in Reloaded._named(rows).items()}
    examples = {"examples": np.array([example(row) for row in rows], object)}
    brief = {f.QUERY: whole[f.QUERY][-1:], f.TITLE: whole[f.TITLE]}
    bare = [{f.QUERY: UNSEEN, f.TITLE: row[f.TITLE]} for row in rows]
    wanted = model.columns(rows), model.examples(rows), model.examples(bare)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))

        def ask(name: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            definition = meta.signature_def[name]
            filled = {n: tf.make_ndarray(x) for n, x in definition.defaults.items()} | given
            fed = {definition.inputs[name].name: x for name, x in filled.items()}
            return session.run({n: info.name for n, info in definition.outputs.items()}, fed)

        for _ in range(3):  # the graph is optimised as it is run
            _agree(ask("serving_default", whole), wanted[0])
            _agree(ask("examples", examples), wanted[1])
            _agree(ask("serving_default", brief), wanted[2])
        with pytest.raises(tf.errors.InvalidArgumentError, match="columns differ in length"):
            ask("serving_default", whole | {f.QUERY: whole[f.QUERY][:2]})


class Counting:
    """The encoder, and the texts that went through it."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.dim = encoder.dim
        self.batches: list[list[bytes]] = []

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        noted = tf.numpy_function(self._note, [texts], tf.int64)
        with tf.control_dependencies([noted]):
            return self.encoder(texts)

    def _note(self, texts: np.ndarray) -> np.int64:
        self.batches.append(texts.tolist())
        return np.int64(0)


def test_a_new_text_goes_through_bert_once_in_a_request(
    table: TextTable, encoder: TextEncoder, core: keras.Model, sizes: InputSizes
) -> None:
    graph, counting = shop_graph(), Counting(encoder)
    served = ServedModel(
        core, counting, table, graph.transform_features_layer(), graph.raw_feature_spec(), sizes,
        Rates(CLICKS, 2),
    )  # fmt: skip
    served.predict(Reloaded._named(ROWS))
    assert counting.batches == []
    # New as a query in four rows, as a title in three, one of which is both.
    rows = [impression(i, UNSEEN, t) for i, t in enumerate((UNSEEN, TITLES[0], UNSEEN, "x"))]
    rows += [impression(5, QUERIES[0], UNSEEN), impression(6, "y", TITLES[1])]
    served.predict(Reloaded._named(rows))
    [texts] = counting.batches
    assert sorted(texts) == sorted([UNSEEN.encode(), b"x", b"y"])


def test_warm_up_requests_cover_the_sizes_in_use_and_new_texts(path: Path, model: Reloaded) -> None:
    file = path / WARM_UP_FILE
    known = {text.encode() for text in (*QUERIES, *TITLES)}
    sizes, new, signatures = set(), set(), set()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name or "serving_default"
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        answers = model.model.signatures[name](**inputs)
        [rows] = {len(x) for x in answers.values()}
        signatures.add(name)
        if name == "serving_default":
            texts = set(inputs[f.QUERY].numpy()) | set(inputs[f.TITLE].numpy())
            sizes.add((rows, bool(texts - known)))
            new |= texts - known
    assert signatures == {"serving_default", "examples"}
    padded = read_batching(ROOT / "serving/batching.config").allowed_batch_sizes
    assert {1, 100, *padded} <= {rows for rows, _ in sizes}
    assert {rows for rows, unseen in sizes if unseen} == {
        rows for rows, unseen in sizes if not unseen
    }
    assert new


def test_a_model_knows_when_it_was_exported(path: Path) -> None:
    assert abs(exported_at(path) - time.time()) < 3_600
    assert json.loads((path / EXPORTED_FILE).read_text()) == {"exported": exported_at(path)}


def test_a_batch_of_nothing_is_answered_with_nothing(model: Reloaded) -> None:
    for answers in (model.columns([]), model.examples([])):
        assert {x.shape for x in answers.values()} == {(0,)}


def test_predicting_in_process_asks_the_model_and_fills_in_what_is_left_out(
    path: Path, model: Reloaded
) -> None:
    rows = [
        impression(0, QUERIES[0], t, brand="acme", price=20.0, category="", device="")
        for t in (TITLES[0], UNSEEN)
    ]
    rows = [row | {f.PRICE: float("nan")} for row in rows]
    found = predict_columns(path, QUERIES[0], [TITLES[0], UNSEEN], {f.BRAND: "acme"})
    _agree(found, model.columns(rows))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"colour": "red"}, r"unknown columns \['colour'\]: expected some of \['brand'"),
        ({f.PRICE: "cheap"}, "price='cheap': expected a number"),
    ],
)
def test_a_column_that_cannot_be_asked_is_named(
    path: Path, others: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        predict_columns(path, "q", ["t"], others)


def test_the_graph_needs_no_op_that_a_stock_server_lacks(path: Path) -> None:
    proto = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    [meta] = proto.meta_graphs
    library = meta.graph_def.library
    own = {function.signature.name for function in library.function}
    nodes = [*meta.graph_def.node, *(n for function in library.function for n in function.node_def)]
    ops = {node.op for node in nodes} - own
    assert "FastWordpieceTokenizeWithOffsets" in ops  # the encoder is in the graph
    assert not {op for op in ops if "RoundRobinTrim" in op}
    assert {op for op in ops if not hasattr(tf.raw_ops, op)} <= TEXT_OPS
