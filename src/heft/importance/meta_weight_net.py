"""A small network of weights, and the gradient that teaches it: Meta-Weight-Net.

Shu et al. 2019, *Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting*.
`Learned` uses it to score samples, the trainer's `weights: learned` to train.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from heft.errors import ConfigError

__all__ = ["BUCKETS", "MetaWeightNet", "even_by_label", "meta_gradients", "squeeze"]

BUCKETS = 16  # of slices, by hash


class MetaWeightNet(keras.Model):
    """V(loss, age, position, slice) in (0, max_weight): one tanh layer, then a sigmoid.

    Before training every weight is 1, and `anchored` keeps their mean near that.

    Args:
        max_weight: above 1.
        hidden: width.
        seed: of the first weights.

    Raises:
        ConfigError: `max_weight` is not above 1.
    """

    def __init__(self, max_weight: float = 2.0, hidden: int = 16, seed: int = 0) -> None:
        if max_weight <= 1:
            raise ConfigError(f"max_weight={max_weight}: expected above 1")
        super().__init__(name="meta_weight_net")
        self.max_weight = max_weight
        start = keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
        self.slices = layers.Embedding(BUCKETS, 2, embeddings_initializer=start)
        first = keras.initializers.GlorotUniform(seed=seed)
        self.inner = layers.Dense(hidden, "tanh", kernel_initializer=first)
        bias = keras.initializers.Constant(-np.log(max_weight - 1))
        self.outer = layers.Dense(1, "sigmoid", kernel_initializer="zeros", bias_initializer=bias)

    def call(self, columns: tf.Tensor, bucket: tf.Tensor) -> tf.Tensor:
        """(n,) weights.

        Args:
            columns: (n, 3) float32: loss (`squeeze`d), age and position, each of order 1.
            bucket: (n,) int in [0, BUCKETS), the slice.
        """
        inputs = tf.concat([columns, self.slices(bucket)], axis=1)
        return self.max_weight * self.outer(self.inner(inputs))[:, 0]

    def anchored(
        self, gradients: list[tf.Tensor], weigh: Callable[[], tf.Tensor]
    ) -> list[tf.Tensor]:
        """Meta gradients at length 1, plus the gradient of (mean weight − 1)².

        What V learns from does not depend on V's scale, which would drift.

        Args:
            gradients: from `meta_gradients`, as `trainable_variables`.
            weigh: the weights (n,) of a batch, before `even_by_label`.
        """
        with tf.GradientTape() as tape:
            distance = tf.square(tf.reduce_mean(weigh()) - 1)
        pull = _gradient(tape, distance, [v.value for v in self.trainable_variables])
        length = tf.maximum(tf.linalg.global_norm(gradients), 1e-30)
        return [g / length + p for g, p in zip(gradients, pull, strict=True)]


def squeeze(loss: tf.Tensor) -> tf.Tensor:
    """sign(loss) · log(1 + |loss|): unbiased pairs make losses that are large or negative."""
    return tf.sign(loss) * tf.math.log1p(tf.abs(loss))


def even_by_label(weight: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """`weight` (n,), scaled to mean 1 among positives and among negatives of the batch.

    Without it a net that knows the loss could move the base rate: where positives
    are rare, their loss is high.
    """

    def scaled(mine: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_sum(mine * weight) / tf.maximum(tf.reduce_sum(mine), 1.0)
        return mine * tf.math.divide_no_nan(weight, mean)

    return scaled(positive) + scaled(1.0 - positive)


def meta_gradients(
    weigh: Callable[[], tf.Tensor],
    losses: Callable[[], tf.Tensor],
    reference: Callable[[], tf.Tensor],
    parameters: Sequence[tf.Variable],
    of: Sequence[tf.Variable],
    rate: float,
) -> list[tf.Tensor]:
    """The gradient of the reference loss after one virtual step, with respect to the weight net.

    With parameters p, losses l_i and weights w_i of the net's variables Θ:

        p̂ = p − (rate / n) Σ w_i ∇l_i(p)
        d reference(p̂) / dΘ = −(rate / n) Σ ⟨∇reference(p̂), ∇l_i(p)⟩ dw_i / dΘ

    The inner products are the derivatives of the n losses in one direction, so no
    second derivative and no gradient of a single row is needed. The parameters are
    as before when it returns. Cost: about four passes of the batch, two of the
    reference; no more memory than a training step.

    Args:
        weigh: the weights (n,), a function of Θ.
        losses: per-row losses (n,), a function of the parameters.
        reference: mean loss of the reference batch, of the parameters.
        parameters: p. of: Θ.
        rate: of the virtual step, above 0.
    """
    weights = tf.stop_gradient(weigh())
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(weights * losses())
    step = _gradient(tape, value, parameters)
    kept = [tf.identity(p) for p in parameters]
    for parameter, change in zip(parameters, step, strict=True):
        parameter.assign_sub(rate * change)
    with tf.GradientTape() as tape:
        value = reference()
    towards = _gradient(tape, value, parameters)
    for parameter, before in zip(parameters, kept, strict=True):
        parameter.assign(before)
    alignment = _along(losses, parameters, towards)
    with tf.GradientTape() as tape:
        surrogate = -rate * tf.reduce_mean(weigh() * alignment)
    return _gradient(tape, surrogate, of)


def _along(
    losses: Callable[[], tf.Tensor], parameters: Sequence[tf.Variable], direction: list[tf.Tensor]
) -> tf.Tensor:
    """(n,), the derivative of each loss along `direction`.

    Backward twice: Σ v_i ∇l_i is linear in v, so that its inner product with the
    direction has the wanted n numbers as gradient.
    """
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = losses()
            ones = tf.ones_like(value)
            outer.watch(ones)
            total = tf.reduce_sum(value * ones)
        gradients = _gradient(inner, total, parameters)
        product = tf.add_n(
            [tf.reduce_sum(g * d) for g, d in zip(gradients, direction, strict=True)]
        )
    return tf.stop_gradient(outer.gradient(product, ones))


def _gradient(
    tape: tf.GradientTape, value: tf.Tensor, variables: Sequence[tf.Variable]
) -> list[tf.Tensor]:
    """Dense, and zero where `value` does not depend on a variable."""
    found = tape.gradient(value, list(variables), unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in found]
