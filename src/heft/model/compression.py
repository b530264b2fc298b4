"""The network that is served: that which was trained, with weights in fewer bits.

What was trained stays as it is: the next run begins with it. Keras quantises to int8,
weights alone, activations stay in 32 bits; float16 is a dtype policy under which Keras
stores in 16 bits and computes in 32.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.metrics import log_loss, roc_auc_score

from heft import features as f
from heft.model import targets as t
from heft.model.bodies import CrossLayer
from heft.model.inputs import evaluation_batches
from heft.model.interaction import TableLookup
from heft.model.network import InputSizes
from heft.model.packing import PackedRows
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.stored import StoredVectors
from heft.model.training import Trained

__all__ = ["compressed", "compression_facts", "network_bytes", "table_bytes"]

_WEIGHTY = (layers.Dense, layers.Embedding)


class _HalfStored(keras.DTypePolicy):
    """Weights of 16 bits, computations in 32."""

    def __init__(self) -> None:
        super().__init__("float32")

    @property
    def variable_dtype(self) -> str:
        """Of the layer's weights."""
        return "float16"


class _StoredLookup(TableLookup):
    """`TableLookup` of vectors in fewer bits."""

    def __init__(self, table: np.ndarray, kind: str, **kwargs: object) -> None:
        super().__init__(table, **kwargs)
        self.stored = StoredVectors(table, kind)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Nothing is left to be made."""

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """(batch,) int → (batch, dim)."""
        known = tf.cast(ids >= 0, tf.float32)[..., tf.newaxis]
        return self.stored.rows(tf.maximum(ids, 0)) * known


def compressed(trained: Trained, settings: ModelSettings) -> Trained:
    """The same network as it is served; `trained` itself where nothing is compressed.

    Args:
        trained: stays as it is; layers without weights to compress are shared.
        settings: with `compression`.
    """
    kind = settings.compression
    if not kind.any:
        return trained
    core = _stored_network(trained.core, kind.network)

    def in_place_of(layer: layers.Layer) -> layers.Layer:
        if layer is trained.core:
            return core
        if isinstance(layer, TableLookup) and kind.table != "none":
            return _StoredLookup(layer.table.numpy(), kind.table, name=layer.name)
        return layer

    return replace(trained, core=core, model=_replaced(trained.model, in_place_of))


def _stored_network(core: keras.Model, kind: str) -> keras.Model:
    if kind == "none":
        return core

    def in_place_of(layer: layers.Layer) -> layers.Layer:
        if not isinstance(layer, (*_WEIGHTY, CrossLayer)):
            return layer
        config = layer.get_config()
        if kind == "float16":
            config["dtype"] = _HalfStored()
        return type(layer).from_config(config)

    stored = _replaced(core, in_place_of)
    for layer in stored.layers:
        layer.set_weights(core.get_layer(layer.name).get_weights())
    if kind == "int8":
        # Without quantisers named, those of Keras for each kind of layer; none for activations.
        weights_alone = keras.quantizers.Int8QuantizationConfig(None, None)
        stored.quantize(config=weights_alone, filters=lambda layer: isinstance(layer, _WEIGHTY))
    return stored


def _replaced(
    model: keras.Model, in_place_of: Callable[[layers.Layer], layers.Layer]
) -> keras.Model:
    """A functional model over the same graph with other layers, each asked for once."""
    made: dict[int, layers.Layer] = {}

    def once(layer: layers.Layer) -> layers.Layer:
        if id(layer) not in made:
            made[id(layer)] = in_place_of(layer)
        return made[id(layer)]

    plain = keras.Model(model.input, model.output, name=model.name)
    return keras.models.clone_model(plain, clone_function=once)


def network_bytes(core: keras.Model) -> int:
    """Of all weights of the network, the projections of texts included."""
    return sum(
        int(np.prod(w.shape)) * tf.as_dtype(w.dtype).size
        for w in core.weights
        if "seed_generator" not in w.path
    )


def table_bytes(model: keras.Model) -> int:
    """Of the vectors of texts in a training model."""
    found = 0
    for layer in model.layers:
        if isinstance(layer, _StoredLookup):
            found += layer.stored.nbytes
        elif isinstance(layer, TableLookup):
            found += 4 * int(np.prod(layer.table.shape))
    return found


def compression_facts(
    trained: Trained,
    served: Trained,
    rates: Rates,
    tune: PackedRows,
    sizes: InputSizes,
    settings: ModelSettings,
) -> dict[str, Any]:
    """What `served` takes and predicts beside what was trained, for `compression.json`.

    Args:
        trained, served: before, and after distillation and compression.
        rates: of `served`; both are read through its calibration.
        tune: packed rows with positions and labels.
        sizes, settings: of the model.

    Returns:
        Bytes of table and network, AUC (None where all or none were clicked) and log loss of
        clicks, each as [trained, served], and the largest and the mean change of each prediction.
    """
    rates = replace(rates, position_bias=None)  # the training models have it in the logit
    additive = settings.position == "additive"
    batches = evaluation_batches(tune, sizes, batch_size=8192, weighted=False, positions=additive)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in (f.CTR, f.CVR, f.CTCVR)}
    clicks = []
    for inputs, targets in batches:
        position = tf.cast(targets[:, t.POSITION], tf.int64)
        both = [rates.tensors(x.model(inputs, training=False), position) for x in (trained, served)]
        for name, values in seen.items():
            values.append(np.stack([found[name].numpy() for found in both]))
        clicks.append(targets[:, t.CLICK].numpy())
    click = np.concatenate(clicks)
    rate = {name: np.concatenate(values, axis=1) for name, values in seen.items()}
    change = {name: np.abs(np.diff(values, axis=0)) for name, values in rate.items()}
    return {
        "settings": settings.compression.model_dump()
        | {"student": settings.student.model_dump() if settings.student else None},
        "table_bytes": [table_bytes(x.model) for x in (trained, served)],
        "network_bytes": [network_bytes(x.core) for x in (trained, served)],
        "click_auc": [
            float(roc_auc_score(click, score)) if 0 < click.mean() < 1 else None
            for score in rate[f.CTR]
        ],
        "click_log_loss": [
            float(log_loss(click, score.astype(np.float64), labels=[0, 1])) for score in rate[f.CTR]
        ],
        "largest_change": {name: float(values.max()) for name, values in change.items()},
        "mean_change": {name: float(values.mean()) for name, values in change.items()},
    }
