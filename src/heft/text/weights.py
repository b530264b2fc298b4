"""A BERT's weights as matrices, for code that runs the same network in another way.

They are tensors, read when asked for: in a graph that is being traced they follow the
variables, which fine-tuning may change later, LoRA's included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from keras import ops

__all__ = ["Dense", "Layer", "Norm", "layers_of", "norm_of", "position_table"]


@dataclass(frozen=True)
class Dense:
    """x @ kernel + bias: kernel (in, out), bias (out,), float32."""

    kernel: tf.Tensor
    bias: tf.Tensor


@dataclass(frozen=True)
class Norm:
    """Layer normalisation: scale and shift (dim,), float32, and what is added to the variance."""

    scale: tf.Tensor
    shift: tf.Tensor
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
        dim, heads = query.kernel.shape[0], int(layer.num_heads)
        scale = (dim / heads) ** -0.5
        output = attention._output_dense
        yield Layer(
            qkv=Dense(
                tf.concat([query.kernel * scale, key.kernel, value.kernel], axis=1),
                tf.concat([query.bias * scale, key.bias, value.bias], axis=0),
            ),
            attended=Dense(tf.reshape(_tensor(output.kernel), [dim, dim]), _tensor(output.bias)),
            inner=_flat(layer._feedforward_intermediate_dense),
            outer=_flat(layer._feedforward_output_dense),
            after_attention=norm_of(layer._self_attention_layer_norm),
            after_feed_forward=norm_of(layer._feedforward_layer_norm),
            heads=heads,
        )


def norm_of(layer: Any) -> Norm:
    """Of a Keras layer normalisation."""
    return Norm(_tensor(layer.gamma), _tensor(layer.beta), float(layer.epsilon))


def position_table(backbone: Any) -> tf.Tensor:
    """(positions, dim): what position and segment 0 add to a token's vector."""
    positions = _tensor(backbone.position_embedding.position_embeddings)
    return positions + _tensor(backbone.segment_embedding.embeddings)[0]


def _flat(dense: Any) -> Dense:
    kernel = _tensor(dense.kernel)
    return Dense(tf.reshape(kernel, [kernel.shape[0], -1]), tf.reshape(_tensor(dense.bias), [-1]))


def _tensor(variable: Any) -> tf.Tensor:
    return tf.cast(ops.convert_to_tensor(variable), tf.float32)
