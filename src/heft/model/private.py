"""DP-SGD: steps in which no single row says more than a bounded amount, drowned in noise.

Abadi et al. 2016, *Deep Learning with Differential Privacy*. Each row's gradient is clipped to a
norm C over all variables together, the clipped gradients are added up, Gaussian noise of standard
deviation σC is added to every entry, and the sum is divided by the expected number of rows.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from heft.model.losses import PairLoss
from heft.model.options import PrivacySettings

__all__ = ["PrivateModel", "clipped_sum"]

Inputs = dict[str, tf.Tensor]

_CHUNK_BYTES = 2**27  # of gradients by row that are in memory at once


class PrivateModel(keras.Model):
    """A training model whose steps are those of DP-SGD. Its targets are those of the loss.

    Dropout and batch normalisation are not run in training mode: a row's gradient must not depend
    on the other rows. The L2 penalty depends on no row and is added after the noise.
    """

    @classmethod
    def over(
        cls, model: keras.Model, loss: PairLoss, privacy: PrivacySettings, rows: int, seed: int
    ) -> "PrivateModel":
        """The same layers as `model`.

        Args:
            model: as of `build_training_model`.
            loss: by row.
            privacy: noise and clip.
            rows: expected in a step.
            seed: of the noise, which is known to whoever knows it.
        """
        private = cls(model.input, model.output, name=model.name)
        private.by_row, private.privacy = loss, privacy
        private.expected, private.seed = rows, seed
        return private

    def train_step(self, data: tuple[Inputs, tf.Tensor]) -> Any:
        """One step; of no row at all it is noise alone."""
        inputs, targets = data
        variables = [v.value for v in self.trainable_variables]
        sums, losses = clipped_sum(self, self.by_row, inputs, targets, self.privacy.clip_norm)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        deviation = self.privacy.noise_multiplier * self.privacy.clip_norm
        noisy = [
            total + deviation * _noise(total.shape, self.seed, step, number)
            if self.privacy.noise_multiplier
            else total
            for number, total in enumerate(sums)
        ]
        with tf.GradientTape() as tape:
            penalty = tf.add_n(self.losses) if self.losses else tf.constant(0.0)
        of_penalty = tape.gradient(penalty, variables, unconnected_gradients="zero")
        gradients = [
            total / self.expected + tf.convert_to_tensor(own)
            for total, own in zip(noisy, of_penalty, strict=True)
        ]
        self.optimizer.apply(gradients, self.trainable_variables)
        count = tf.size(losses)
        mean = tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(count, tf.float32))
        self._loss_tracker.update_state(mean + penalty, sample_weight=count)
        return self.get_metrics_result()


def clipped_sum(
    model: keras.Model, loss: PairLoss, inputs: Inputs, targets: tf.Tensor, clip_norm: float
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Σ g · min(1, C / ‖g‖) over rows, for each trainable variable, and the loss of each row.

    The norm is that of a row's gradient over all variables. Memory is that of some
    hundred MB of gradients at a time. Of an embedding only the rows that are looked up are kept.

    Args:
        model: inputs as of `build_training_model`.
        loss: by row, without the penalty.
        inputs: columns (batch, …).
        targets: (batch, …).
        clip_norm: C, may be infinite.
    """
    variables = [v.value for v in model.trainable_variables]
    whole = [v for v in model.trainable_variables if "embedding" not in v.path]
    chunk = max(_CHUNK_BYTES // max(4 * sum(int(np.prod(v.shape)) for v in whole), 1), 1)
    count = tf.shape(targets)[0]

    def one(row: tuple[Inputs, tf.Tensor]) -> tuple[list[Any], tf.Tensor]:
        columns, target = tf.nest.map_structure(lambda x: x[tf.newaxis], row)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = loss.call(target, model(columns, training=False))[0]
        found = tape.gradient(value, variables, unconnected_gradients="zero")
        return [_parts(gradient) for gradient in found], value

    def add(begin: tf.Tensor, sums: list[tf.Tensor], losses: tf.Tensor) -> tuple[Any, ...]:
        part = tf.nest.map_structure(lambda x: x[begin : begin + chunk], (inputs, targets))
        gradients, values = tf.vectorized_map(one, part, fallback_to_while_loop=False)
        squares = tf.add_n([_squares(gradient) for gradient in gradients])
        factor = tf.minimum(1.0, clip_norm * tf.math.rsqrt(tf.maximum(squares, 1e-30)))
        sums = [
            total + _scaled(gradient, factor, total.shape)
            for total, gradient in zip(sums, gradients, strict=True)
        ]
        return begin + chunk, sums, tf.concat([losses, values], axis=0)

    start = (tf.constant(0), [tf.zeros(v.shape) for v in variables], tf.zeros([0]))
    shapes = (tf.TensorShape([]), [v.shape for v in variables], tf.TensorShape([None]))
    _, sums, losses = tf.while_loop(
        lambda begin, *_: begin < count, add, start, shape_invariants=shapes, parallel_iterations=1
    )
    return sums, losses


def _parts(gradient: tf.Tensor | tf.IndexedSlices) -> tuple[tf.Tensor, ...]:
    """A row's gradient: all of it, or values (k, width) and where in the embedding they stand."""
    if isinstance(gradient, tf.IndexedSlices):
        width = int(np.prod(gradient.values.shape[1:]))
        return tf.reshape(gradient.values, [-1, width]), tf.reshape(gradient.indices, [-1])
    return (gradient,)


def _squares(parts: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """(chunk,) the squared norm of each row's gradient; a value that is met twice is one."""
    if len(parts) == 1:
        return tf.reduce_sum(tf.square(parts[0]), axis=range(1, len(parts[0].shape)))
    values, places = parts
    same = tf.cast(places[:, :, tf.newaxis] == places[:, tf.newaxis, :], values.dtype)
    return tf.reduce_sum(same * tf.matmul(values, values, transpose_b=True), axis=[1, 2])


def _scaled(parts: tuple[tf.Tensor, ...], factor: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Σ of the rows' gradients times their factors, in the shape of the variable."""
    if len(parts) == 1:
        return tf.tensordot(factor, parts[0], 1)
    values, places = parts
    weighted = values * factor[:, tf.newaxis, tf.newaxis]
    weighted = tf.reshape(weighted, [-1, *shape[1:]])
    return tf.math.unsorted_segment_sum(weighted, tf.reshape(places, [-1]), shape[0])


def _noise(shape: tf.TensorShape, seed: int, step: tf.Tensor, number: int) -> tf.Tensor:
    """Standard normal, another for every step and variable."""
    key = tf.stack([tf.constant(seed, tf.int64), step * 4096 + number])
    return tf.random.stateless_normal(shape, key)
