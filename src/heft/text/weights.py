"""A BERT's weights as matrices, for code that runs the same network in another way."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Dense", "Layer", "Norm", "layers_of", "norm_of", "position_table"]

Array = np.ndarray


@dataclass(frozen=True)
class Dense:
    """x @ kernel + bias: kernel (in, out), bias (out,), float32."""

    kernel: Array
    bias: Array


@dataclass(frozen=True)
class Norm:
    """Layer normalisation: scale and shift (dim,), float32, and what is added to the variance."""

    scale: Array
    shift: Array
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """One transformer layer.

    Attributes:
        qkv: queries, keys and values side by side, (dim, 3·dim); the queries are divided
            by √(dim/heads) already.
        attended: of the heads' outputs, (dim, dim).
        inner, outer: the feed-forward network, (dim, wide) and (wide, dim).
        after_attention, after_feed_forward: layer normalisations of the sums.
        heads: attention heads.
    """

    qkv: Dense
    attended: Dense
    inner: Dense
    outer: Dense
    after_attention: Norm
    after_feed_forward: Norm
    heads: int


def layers_of(backbone: Any) -> Iterator[Layer]:
    """The layers of KerasHub's `BertBackbone`, one at a time."""
    for layer in backbone.transformer_layers:
        attention = layer._self_attention_layer
        query, key, value = (
            _flat(part)
            for part in (attention._query_dense, attention._key_dense, attention._value_dense)
        )
        dim, heads = len(query.kernel), int(layer.num_heads)
        scale = np.float32(1 / np.sqrt(dim / heads))
        output = attention._output_dense
        yield Layer(
            qkv=Dense(
                np.concatenate([query.kernel * scale, key.kernel, value.kernel], axis=1),
                np.concatenate([query.bias * scale, key.bias, value.bias]),
            ),
            attended=Dense(_array(output.kernel).reshape(dim, dim), _array(output.bias)),
            inner=_flat(layer._feedforward_intermediate_dense),
            outer=_flat(layer._feedforward_output_dense),
            after_attention=norm_of(layer._self_attention_layer_norm),
            after_feed_forward=norm_of(layer._feedforward_layer_norm),
            heads=heads,
        )


def norm_of(layer: Any) -> Norm:
    """Of a Keras layer normalisation."""
    return Norm(_array(layer.gamma), _array(layer.beta), float(layer.epsilon))


def position_table(backbone: Any) -> Array:
    """(positions, dim): what position and segment 0 add to a token's vector."""
    positions = _array(backbone.position_embedding.position_embeddings)
    return positions + _array(backbone.segment_embedding.embeddings)[0]


def _flat(dense: Any) -> Dense:
    kernel = _array(dense.kernel)
    return Dense(kernel.reshape(len(kernel), -1), _array(dense.bias).reshape(-1))


def _array(variable: Any) -> Array:
    return np.asarray(variable.value, np.float32)
