"""The two-task network: text interactions, dense features and categories in, two logits out."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from heft import features as f
from heft.model.interaction import TableLookup, TextInteraction
from heft.model.settings import ModelSettings
from heft.text.table import TextTable

__all__ = ["InputSizes", "build_core", "build_training_model"]

CLICK_LOGIT, CONVERSION_LOGIT = 0, 1


@dataclass(frozen=True)
class InputSizes:
    """What the network is shaped by.

    Attributes:
        categorical: rows of each categorical embedding, out-of-vocabulary included.
        numeric: transformed numeric columns.
        click_rate, conversion_rate: base rates, which set the initial biases.
        rows: of the training split.
    """

    categorical: dict[str, int]
    numeric: tuple[str, ...]
    click_rate: float
    conversion_rate: float
    rows: int

    @property
    def dense(self) -> tuple[str, ...]:
        """The columns of the dense input, in order."""
        return f.LEXICAL + self.numeric


def build_core(table: TextTable, sizes: InputSizes, settings: ModelSettings) -> keras.Model:
    """The network behind the text encoder, shared by training and serving.

    Inputs, by name: `query_vector` and `title_vector` (batch, dim), `dense`
    (batch, len(sizes.dense)), one int `<column>` (batch,) per categorical column.
    Output: (batch, 2) logits of attractiveness and of conversion given a click.
    """
    dim = table.titles.shape[1]
    query = keras.Input((dim,), name="query_vector")
    title = keras.Input((dim,), name="title_vector")
    dense = keras.Input((len(sizes.dense),), name="dense")
    inputs = {"query_vector": query, "title_vector": title, "dense": dense}
    parts = [TextInteraction.from_reduction(table.reduction)([query, title]), dense]
    normalised = layers.BatchNormalization(momentum=0.9, name="scale")(layers.Concatenate()(parts))
    embedded = []
    for name, rows in sizes.categorical.items():
        inputs[name] = keras.Input((), dtype="int64", name=name)
        if settings.categorical_width:
            embedded.append(_embed(name, rows, settings)(inputs[name]))
    joined = layers.Concatenate()([normalised, *embedded]) if embedded else normalised
    click = _tower("click", joined, sizes.click_rate, settings)
    conversion_rate = sizes.conversion_rate / max(sizes.click_rate, 1e-6)
    conversion = _tower("conversion", joined, conversion_rate, settings)
    return keras.Model(inputs, layers.Concatenate(name="logits")([click, conversion]), name="core")


def build_training_model(table: TextTable, core: keras.Model) -> keras.Model:
    """The core behind a look-up in the embedding table.

    Inputs as of the core, but the text ids `heft.features.QUERY_ID` and
    `TITLE_ID` (batch,) in place of the vectors.
    """
    query = keras.Input((), dtype="int64", name=f.QUERY_ID)
    title = keras.Input((), dtype="int64", name=f.TITLE_ID)
    others = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for tensor in core.inputs
        if tensor.name not in ("query_vector", "title_vector")
    }
    vectors = {
        "query_vector": TableLookup(table.queries, name="queries")(query),
        "title_vector": TableLookup(table.titles, name="titles")(title),
    }
    inputs = {f.QUERY_ID: query, f.TITLE_ID: title, **others}
    return keras.Model(inputs, core({**vectors, **others}), name="training")


def _embed(name: str, rows: int, settings: ModelSettings) -> layers.Layer:
    return layers.Embedding(
        rows,
        settings.categorical_width,
        embeddings_initializer=keras.initializers.RandomUniform(-0.01, 0.01),
        embeddings_regularizer=keras.regularizers.L2(settings.l2),
        name=f"{name}_embedding",
    )


def _tower(
    name: str, inputs: keras.KerasTensor, rate: float, settings: ModelSettings
) -> keras.KerasTensor:
    hidden = inputs
    for depth, width in enumerate(settings.hidden):
        penalty = keras.regularizers.L2(settings.l2)
        hidden = layers.Dense(
            width, activation="relu", kernel_regularizer=penalty, name=f"{name}_{depth}"
        )(hidden)
        if settings.dropout:
            hidden = layers.Dropout(settings.dropout, name=f"{name}_dropout_{depth}")(hidden)
    bias = keras.initializers.Constant(_logit(rate))
    return layers.Dense(1, bias_initializer=bias, name=f"{name}_logit")(hidden)


def _logit(rate: float) -> float:
    rate = float(np.clip(rate, 1e-4, 1 - 1e-4))
    return float(np.log(rate / (1 - rate)))
