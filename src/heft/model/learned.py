"""Training with weights that are learned on the tune split: a Meta-Weight-Net in the loop."""

from typing import Any

import keras
import tensorflow as tf

from heft.importance.meta_weight_net import (
    MetaWeightNet,
    even_by_label,
    meta_gradients,
    squeeze,
)
from heft.model.losses import EsmmPairLoss
from heft.model.settings import ModelSettings

__all__ = ["LearnedWeightsModel", "Teacher"]

_PAIRS = 4  # columns of the targets before the context
_NET_RATE, _VIRTUAL_RATE = 1e-2, 0.1

Inputs = dict[str, tf.Tensor]


class Teacher:
    """Keeps the weight net and the clean rows it learns from, out of Keras' sight.

    Were the net a part of the model, the model's optimiser would train it too.

    Args:
        clean: (inputs, pairs) batches, repeated for ever.
        settings: of the model.
    """

    def __init__(self, clean: tf.data.Dataset, settings: ModelSettings) -> None:
        self.net = MetaWeightNet(seed=settings.seed)
        self.net(tf.zeros((1, 3)), tf.zeros(1, tf.int64))
        self.optimizer = keras.optimizers.Adam(_NET_RATE)
        self.optimizer.build(self.net.trainable_variables)
        self.loss = EsmmPairLoss(settings.cvr_weight)
        self.every = settings.meta_every
        self.clean = iter(clean.repeat())

    def weights(self, targets: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        """(batch,) V of each row, before it is made even."""
        _, age, position, bucket = tf.unstack(targets[:, _PAIRS:], axis=1)
        columns = tf.stack([squeeze(losses), age, position], axis=1)
        return self.net(columns, tf.cast(bucket, tf.int64))

    def teach(self, model: keras.Model, inputs: Inputs, targets: tf.Tensor) -> None:
        """One step of the weight net; the model is as before."""
        clean_inputs, clean_pairs = next(self.clean)

        def losses() -> tf.Tensor:
            return self.loss.call(targets, model(inputs, training=False))

        seen = tf.stop_gradient(losses())
        gradients = meta_gradients(
            lambda: even_by_label(self.weights(targets, seen), targets[:, _PAIRS]),
            losses,
            lambda: tf.reduce_mean(
                self.loss.call(clean_pairs, model(clean_inputs, training=False))
            ),
            [v.value for v in model.trainable_variables],
            [v.value for v in self.net.trainable_variables],
            _VIRTUAL_RATE,
        )
        gradients = self.net.anchored(gradients, lambda: self.weights(targets, seen))
        self.optimizer.apply(gradients, self.net.trainable_variables)


class LearnedWeightsModel(keras.Model):
    """A training model whose pairs are multiplied by learned weights.

    Its targets are (batch, 8): the pairs, then click, age, position and slice.
    """

    @classmethod
    def over(
        cls, model: keras.Model, clean: tf.data.Dataset, settings: ModelSettings
    ) -> "LearnedWeightsModel":
        """The same layers as `model`, taught by `clean`, (inputs, pairs) batches."""
        learned = cls(model.input, model.output, name=model.name)
        learned.teacher = Teacher(clean, settings)
        return learned

    def train_step(self, data: tuple[Inputs, tf.Tensor]) -> Any:
        """One step of the model, and now and then one of the weights before it."""
        inputs, targets = data

        def teach() -> tf.Tensor:
            self.teacher.teach(self, inputs, targets)
            return tf.constant(0)

        due = tf.equal(tf.cast(self.optimizer.iterations, tf.int64) % self.teacher.every, 0)
        tf.cond(due, teach, lambda: tf.constant(0))
        losses = self.teacher.loss.call(targets, self(inputs, training=False))
        weight = even_by_label(self.teacher.weights(targets, losses), targets[:, _PAIRS])
        pairs = targets[:, :_PAIRS] * tf.stop_gradient(weight)[:, tf.newaxis]
        return super().train_step((inputs, pairs))
