"""BERT's layers written so that TensorFlow on a CPU fuses them.

The same network and weights as KerasHub's, to rounding. Queries, keys and values are one
product; tokens are rows of one matrix, so that product, bias and GELU become one
kernel of oneDNN (`_FusedMatMul`), which Keras' einsums do not.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from heft.text.weights import Dense, Layer, Norm, layers_of, norm_of, position_table

__all__ = ["fused_states"]

_MASKED = -1e9  # added to the score of a padded token


def fused_states(backbone: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function of token ids and mask, both (n, length) int32, to (n, length, dim) float32.

    Args:
        backbone: KerasHub's `BertBackbone`. The layers' weights are copied, as constants of
            the function; the token embedding, most of a multilingual model, is not.
    """
    with tf.init_scope():  # once, and not at every call of a graph that is being traced
        layers = [_constants(layer) for layer in layers_of(backbone)]
        positions = tf.constant(position_table(backbone))
        embedded_norm = norm_of(backbone.embeddings_layer_norm)
    words = backbone.token_embedding.embeddings

    def states(tokens: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        shape, dim = tf.shape(tokens), positions.shape[1]
        x = tf.gather(tf.convert_to_tensor(words.value), tokens) + positions[: shape[1]]
        x = _norm(tf.reshape(x, [-1, dim]), embedded_norm)
        ignored = (1 - tf.cast(mask, tf.float32))[:, tf.newaxis, tf.newaxis, :] * _MASKED
        for layer in layers:
            attended = _attention(_dense(x, layer.qkv), ignored, shape, layer.heads)
            x = _norm(x + _dense(attended, layer.attended), layer.after_attention)
            inner = tf.nn.gelu(_dense(x, layer.inner), approximate=True)
            x = _norm(x + _dense(inner, layer.outer), layer.after_feed_forward)
        return tf.reshape(x, [shape[0], shape[1], dim])

    return states


def _constants(layer: Layer) -> Layer:
    """The layer with its matrices as tensors."""

    def dense(part: Dense) -> Dense:
        return Dense(tf.constant(part.kernel), tf.constant(part.bias))

    return Layer(
        dense(layer.qkv), dense(layer.attended), dense(layer.inner), dense(layer.outer),
        layer.after_attention, layer.after_feed_forward, layer.heads,
    )  # fmt: skip


def _attention(qkv: tf.Tensor, ignored: tf.Tensor, shape: tf.Tensor, heads: int) -> tf.Tensor:
    width = qkv.shape[1] // (3 * heads)
    parts = tf.reshape(qkv, [shape[0], shape[1], 3, heads, width])
    queries, keys, values = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]), num=3)
    scores = tf.matmul(queries, keys, transpose_b=True) + ignored
    mixed = tf.matmul(tf.nn.softmax(scores), values)
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, heads * width])


def _dense(x: tf.Tensor, part: Dense) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, part.kernel), part.bias)


def _norm(x: tf.Tensor, norm: Norm) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    return centred * tf.math.rsqrt(variance + norm.epsilon) * norm.scale + norm.shift
