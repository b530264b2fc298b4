"""BERT's layers written so that TensorFlow on a CPU fuses them.

The same network and weights as KerasHub's, to rounding. Queries, keys and values are one
product; tokens are rows of one matrix, so that product, bias and GELU become one
kernel of oneDNN (`_FusedMatMul`), which Keras' einsums do not.
"""

from typing import Any

import tensorflow as tf
from keras import ops

from heft.text.weights import Dense, Norm, layers_of, norm_of, position_table

__all__ = ["fused_states"]

_MASKED = -1e9  # added to the score of a padded token


def fused_states(backbone: Any, tokens: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The token states, (n, length, dim) float32.

    Args:
        backbone: KerasHub's `BertBackbone`, whose variables are read at each call.
        tokens: (n, length) int32.
        mask: (n, length) int32, 1 at tokens and 0 at padding.
    """
    positions, shape = position_table(backbone), tf.shape(tokens)
    dim = positions.shape[1]
    x = tf.gather(ops.convert_to_tensor(backbone.token_embedding.embeddings), tokens)
    x = tf.reshape(x + positions[: shape[1]], [-1, dim])
    x = _norm(x, norm_of(backbone.embeddings_layer_norm))
    ignored = (1 - tf.cast(mask, tf.float32))[:, tf.newaxis, tf.newaxis, :] * _MASKED
    for layer in layers_of(backbone):
        attended = _attention(_dense(x, layer.qkv), ignored, shape, layer.heads)
        x = _norm(x + _dense(attended, layer.attended), layer.after_attention)
        inner = tf.nn.gelu(_dense(x, layer.inner), approximate=True)
        x = _norm(x + _dense(inner, layer.outer), layer.after_feed_forward)
    return tf.reshape(x, [shape[0], shape[1], dim])


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
