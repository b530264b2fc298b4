"""Weights in fewer bits: what is stored, and what it does to a prediction."""

from pathlib import Path

import keras
import numpy as np
import pytest

from heft import features as f
from heft.errors import ConfigError
from heft.model.bodies import CrossLayer
from heft.model.compression import compressed, compression_facts, network_bytes, table_bytes
from heft.model.network import POSITION_BIAS, build_core, build_training_model
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.stored import StoredVectors
from heft.model.training import Trained
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, click_log, core_inputs, packed

# The largest change of a logit as a share of the logits' range.
TOLERANCE = {"float16": 0.002, "int8": 0.03}


def _settings(kind: str, table: str = "none", **others: object) -> ModelSettings:
    given = {"hidden": (16, 8), "compression": {"network": kind, "table": table}} | others
    return ModelSettings.model_validate(given)


def _trained(table: TextTable, settings: ModelSettings) -> Trained:
    """Weights at random, none of them 0."""
    keras.utils.set_random_seed(3)
    core = build_core(table, SIZES, settings)
    model = build_training_model(table, core, settings)
    rng = np.random.default_rng(3)
    for weight in model.trainable_weights:
        weight.assign_add(0.1 * rng.normal(size=weight.shape))
    return Trained(core, model, {})


def _ids(log: ClickLog, **others: np.ndarray) -> dict[str, np.ndarray]:
    names = (f.QUERY_ID, f.TITLE_ID, "brand_id")
    dense = np.stack([log.columns[name] for name in SIZES.dense], axis=1)
    known = {name: log.columns[name] for name in log.columns if name in names}
    return {"dense": dense, **known, **others}


@pytest.mark.parametrize("kind", ["none", "float16", "int8"])
def test_vectors_come_back_as_near_as_their_bits_allow(kind: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = 0
    stored = StoredVectors(vectors, kind)
    ids = np.array([3, 7, 299, 3])
    found = stored.rows(ids).numpy()
    if kind == "int8":
        scale = np.abs(vectors[ids]).max(axis=1, keepdims=True) / 127
        assert (np.abs(found - vectors[ids]) <= scale / 2 * 1.0001).all()
    else:
        want = vectors if kind == "none" else vectors.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found, want[ids])
    everything = stored.rows(np.arange(300)).numpy()
    lengths = np.linalg.norm(everything, axis=1)
    cosine = (everything * vectors).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    assert cosine.min() > 0.9999  # what texts outside the table are held to
    assert len(cosine) == 299
    size = {"none": 4 * 384, "float16": 2 * 384, "int8": 384 + 4}[kind]
    assert stored.nbytes == 300 * size
    assert stored.dim == 384


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="kind='int4': expected none, float16 or int8"):
        StoredVectors(np.ones((2, 2), np.float32), "int4")


def test_nothing_to_compress_is_what_was_trained(table: TextTable) -> None:
    trained = _trained(table, _settings("none"))
    assert compressed(trained, _settings("none")) is trained


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"architecture": "mmoe", "body": "dcn_v2", "experts": 2},
        {"architecture": "ple", "experts": 2, "position": "additive"},
        {"precision": "mixed", "categorical_width": 0},
    ],
    ids=["esmm", "mmoe", "ple", "mixed"],
)
def test_every_network_predicts_nearly_the_same(
    table: TextTable, others: dict[str, object]
) -> None:
    trained = _trained(table, _settings("none", **others))
    for kind in ("float16", "int8"):
        _assert_nearly_the_same(trained, _settings(kind, kind, **others))


def _assert_nearly_the_same(trained: Trained, settings: ModelSettings) -> None:
    kind = settings.compression.network
    before = [w.numpy().copy() for w in trained.core.weights]
    small = compressed(trained, settings)
    log = click_log(200, 1)
    inputs = _ids(log)
    if settings.position == "additive":
        inputs["position"] = log.columns["position"]
        # The bias is read by the rates.
        assert small.model.get_layer(POSITION_BIAS) is trained.model.get_layer(POSITION_BIAS)
    want = trained.model(inputs, training=False).numpy()
    found = small.model(inputs, training=False).numpy()
    assert np.ptp(want, axis=0).min() > 0.1
    share = np.abs(found - want).max(axis=0) / np.ptp(want, axis=0)
    assert (share > 0).all()
    assert share.max() < TOLERANCE[kind]
    for weight, value in zip(trained.core.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    for layer in _weighty(small.core):
        weight = layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer._kernel
        assert weight.dtype == kind, layer.name


def _weighty(core: keras.Model) -> list[keras.layers.Layer]:
    inner = [x.dense if isinstance(x, CrossLayer) else x for x in core.layers]
    return [x for x in inner if isinstance(x, keras.layers.Dense | keras.layers.Embedding)]


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_the_network_computes_in_32_bits_on_rounded_weights(table: TextTable, kind: str) -> None:
    settings = _settings(kind)
    trained = _trained(table, settings)
    inputs = core_inputs(table, click_log(200, 1))
    whole = trained.core(inputs, training=False).numpy()
    found = compressed(trained, settings).core(inputs, training=False).numpy()
    for layer in _weighty(trained.core):
        kernel, *bias = layer.get_weights()
        axis = 1 if isinstance(layer, keras.layers.Embedding) else 0
        if kind == "int8":
            scale = np.abs(kernel).max(axis=axis, keepdims=True) / 127
            layer.set_weights([np.round(kernel / scale) * scale, *bias])
        else:
            layer.set_weights([w.astype(np.float16).astype(np.float32) for w in (kernel, *bias)])
    want = trained.core(inputs, training=False).numpy()
    # An int8 weight that lies halfway may be rounded the other way; next to what all the
    # rounding changes that is little.
    rounding = np.abs(found - whole).max()
    assert np.abs(found - want).max() < (0.2 * rounding if kind == "int8" else 1e-5)


def test_facts_say_what_was_saved_and_what_it_cost(write_log, table, tmp_path: Path) -> None:
    settings = _settings("int8", "int8", position="additive")
    trained = _trained(table, settings)
    small = compressed(trained, settings)
    log = write_log(3_000, 2)
    rows = packed(log.shards, tmp_path)
    bias = trained.model.get_layer(POSITION_BIAS).get_weights()[0]
    rates = Rates(np.array([[0.9, 0.05]], np.float32), 1, position_bias=bias)
    facts = compression_facts(trained, small, rates, rows, SIZES, settings)
    dim, texts = table.titles.shape[1], len(table.titles) + len(table.queries)
    assert facts["table_bytes"] == [4 * dim * texts, (dim + 4) * texts]
    assert facts["network_bytes"] == [network_bytes(trained.core), network_bytes(small.core)]
    assert facts["network_bytes"][1] < 0.5 * facts["network_bytes"][0]
    assert table_bytes(small.model) == facts["table_bytes"][1]
    inputs = _ids(log, position=log.columns["position"])
    both = [
        0.9 / (1 + np.exp(-x.model(inputs, training=False).numpy()[:, 0])) + 0.05
        for x in (trained, small)
    ]
    assert facts["largest_change"]["ctr"] == pytest.approx(
        np.abs(both[0] - both[1]).max(), rel=0.01
    )
    assert facts["mean_change"]["ctr"] == pytest.approx(np.abs(both[0] - both[1]).mean(), rel=0.01)
    click = log.columns["click"]
    rank = [np.argsort(np.argsort(x)) for x in both]
    for found, place in zip(facts["click_auc"], rank, strict=True):
        above = place[click == 1].sum() - click.sum() * (click.sum() - 1) / 2
        assert found == pytest.approx(above / (click.sum() * (1 - click).sum()), abs=1e-3)
    for found, rate in zip(facts["click_log_loss"], both, strict=True):
        want = -np.mean(click * np.log(rate) + (1 - click) * np.log(1 - rate))
        assert found == pytest.approx(want, abs=1e-4)
