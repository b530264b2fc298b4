"""The two-task network: text interactions, dense features and categories in, two logits out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import keras
import numpy as np
from keras import layers, ops

from heft import features as f
from heft.model.architectures import ARCHITECTURES, MODEL_TASKS
from heft.model.history import HistoryAttention
from heft.model.interaction import TableLookup, TextInteraction
from heft.model.packing import PackedRows
from heft.model.pieces import PiecewiseLinear
from heft.model.position import PositionBias
from heft.model.settings import ModelSettings
from heft.text.table import TextTable

__all__ = ["POSITION_BIAS", "InputSizes", "build_core", "build_training_model"]

POSITION_BIAS = "position_bias"
_LOOKED_UP = ("query_vector", "title_vector", "history_vectors", "history_mask")


@dataclass(frozen=True)
class InputSizes:
    """What the network is shaped by.

    Attributes:
        categorical: rows of each categorical embedding, out-of-vocabulary included.
        numeric: transformed numeric columns, of vectors whether there is one among them.
        vectors: width of each transformed vector column.
        history: last clicks of the user that are looked at.
        lexical: the lexical columns; fewer where features are selected.
        click_rate, conversion_rate: base rates, which set the initial biases.
    """

    categorical: dict[str, int]
    numeric: tuple[str, ...]
    click_rate: float = 0.1
    conversion_rate: float = 0.01
    vectors: Mapping[str, int] = field(default_factory=dict)
    history: int = 0
    lexical: tuple[str, ...] = f.LEXICAL

    def with_rates(self, rows: PackedRows) -> "InputSizes":
        """The same with the base rates of `rows`."""
        return replace(
            self, click_rate=rows.clicks / rows.rows, conversion_rate=rows.conversions / rows.rows
        )

    @property
    def dense(self) -> tuple[str, ...]:
        """The columns of the dense input, in order."""
        return self.lexical + self.numeric


def build_core(table: TextTable, sizes: InputSizes, settings: ModelSettings) -> keras.Model:
    """The network behind the text encoder, shared by training and serving.

    Inputs, by name: `query_vector` and `title_vector` (batch, dim), `dense`
    (batch, len(sizes.dense)), one int `<column>` (batch,) per categorical column,
    one `<column>` (batch, width) per vector column; with a history `history_vectors`
    (batch, clicks, dim) and `history_mask` (batch, clicks), 0 at padding.
    Output: (batch, 2) logits of attractiveness and of conversion given a click; with
    `escm2_dr` a third column, the logit of the imputed conversion label.
    """
    dim = table.titles.shape[1]
    query = keras.Input((dim,), name="query_vector")
    title = keras.Input((dim,), name="title_vector")
    dense = keras.Input((len(sizes.dense),), name="dense")
    inputs = {"query_vector": query, "title_vector": title, "dense": dense}
    parts = [TextInteraction.from_reduction(table.reduction)([query, title]), dense]
    for name, width in sizes.vectors.items():
        inputs[name] = keras.Input((width,), name=name)
        # No bias: normalisation takes it out again.
        projection = layers.Dense(settings.vector_width, use_bias=False, name=f"{name}_projection")
        parts.append(projection(inputs[name]))
    if sizes.history:
        inputs["history_vectors"] = keras.Input((sizes.history, dim), name="history_vectors")
        inputs["history_mask"] = keras.Input((sizes.history,), name="history_mask")
        attention = HistoryAttention(settings.history_width, name="history_attention")
        parts.append(attention([inputs["history_vectors"], inputs["history_mask"], title]))
    normalised = layers.BatchNormalization(momentum=0.9, dtype="float32", name="scale")(
        layers.Concatenate(dtype="float32")(parts)
    )
    joined = [normalised]
    if settings.numeric_pieces:
        # The cosine is the first of all; behind the rest of the text begin the dense features.
        begin = parts[0].shape[-1]
        numbers = [normalised[:, :1], normalised[:, begin : begin + len(sizes.dense)]]
        pieces = PiecewiseLinear(settings.numeric_pieces, dtype="float32", name="pieces")
        joined.append(pieces(layers.Concatenate()(numbers)))
    for name, rows in sizes.categorical.items():
        inputs[name] = keras.Input((), dtype="int64", name=name)
        if settings.categorical_width:
            joined.append(_embed(name, rows, settings)(inputs[name]))
    features = layers.Concatenate()(joined) if len(joined) > 1 else normalised
    bodies = ARCHITECTURES[settings.architecture](features, settings)
    rates = (sizes.click_rate, sizes.conversion_rate / max(sizes.click_rate, 1e-6))
    logits = [
        _logit(task, hidden, rate)
        for task, hidden, rate in zip(MODEL_TASKS, bodies, rates, strict=True)
    ]
    if settings.cvr_loss == "escm2_dr":
        logits.append(layers.Dense(1, dtype="float32", name="imputation")(bodies[1]))
    return keras.Model(
        inputs, layers.Concatenate(name="logits", dtype="float32")(logits), name="core"
    )


def build_training_model(
    table: TextTable, core: keras.Model, settings: ModelSettings
) -> keras.Model:
    """The core behind a look-up in the embedding table.

    Inputs as of the core, but the text ids `heft.features.QUERY_ID` and
    `TITLE_ID` (batch,) and `HISTORY_IDS` (batch, clicks) in place of the vectors; the position
    (batch,) too, where it is `additive`.
    """
    query = keras.Input((), dtype="int64", name=f.QUERY_ID)
    title = keras.Input((), dtype="int64", name=f.TITLE_ID)
    others = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for tensor in core.inputs
        if tensor.name not in _LOOKED_UP
    }
    titles = TableLookup(table.titles, name="titles")
    vectors = {
        "query_vector": TableLookup(table.queries, name="queries")(query),
        "title_vector": titles(title),
    }
    inputs = {f.QUERY_ID: query, f.TITLE_ID: title, **others}
    clicks = [tensor.shape[1] for tensor in core.inputs if tensor.name == "history_mask"]
    if clicks:
        history = keras.Input((clicks[0],), dtype="int64", name=f.HISTORY_IDS)
        inputs[f.HISTORY_IDS] = history
        # A title that is not in the table is as one that was not clicked.
        vectors["history_mask"] = ops.cast(history >= 0, "float32")
        vectors["history_vectors"] = titles(history)
    logits = core({**vectors, **others})
    if settings.position == "additive":
        inputs[f.POSITION] = keras.Input((), dtype="int64", name=f.POSITION)
        logits = PositionBias(name=POSITION_BIAS)([logits, inputs[f.POSITION]])
    return keras.Model(inputs, logits, name="training")


def _embed(name: str, rows: int, settings: ModelSettings) -> layers.Layer:
    return layers.Embedding(
        rows,
        settings.categorical_width,
        embeddings_initializer=keras.initializers.RandomUniform(-0.01, 0.01),
        embeddings_regularizer=keras.regularizers.L2(settings.l2),
        name=f"{name}_embedding",
    )


def _logit(task: str, hidden: keras.KerasTensor, rate: float) -> keras.KerasTensor:
    """One number per row, in 32 bits whatever the precision; its bias begins at `rate`."""
    rate = float(np.clip(rate, 1e-4, 1 - 1e-4))
    bias = keras.initializers.Constant(float(np.log(rate / (1 - rate))))
    return layers.Dense(1, bias_initializer=bias, dtype="float32", name=f"{task}_logit")(hidden)
