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
from heft.model import targets as t
from heft.model.losses import PairLoss
from heft.model.settings import ModelSettings

__all__ = ["LearnedWeightsModel", "Teacher"]

_NET_RATE, _VIRTUAL_RATE = 1e-2, 0.1

Inputs = dict[str, tf.Tensor]


class Teacher:
    """Keeps the weight net and the clean rows it learns from, out of Keras' sight.

    Were the net a part of the model, the model's optimiser would train it too.

    Args:
        settings: of the model.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.net = MetaWeightNet(seed=settings.seed)
        self.net(tf.zeros((1, 3)), tf.zeros(1, tf.int64))
        self.optimizer = keras.optimizers.Adam(_NET_RATE)
        self.optimizer.build(self.net.trainable_variables)
        self.loss = PairLoss.of(settings, ((1.0, 0.0),))
        self.every = settings.meta_every

    def listen(self, clean: tf.data.Dataset) -> None:
        """Takes clean rows, (inputs, targets) batches without end."""
        self.clean = iter(clean)

    def weights(self, targets: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        """(batch,) V of each row, before it is made even."""
        position = tf.math.log1p(tf.maximum(targets[:, t.POSITION], 0.0))
        columns = tf.stack([squeeze(losses), targets[:, t.AGE], position], axis=1)
        return self.net(columns, tf.cast(targets[:, t.SLICE], tf.int64))

    def teach(self, model: keras.Model, inputs: Inputs, targets: tf.Tensor) -> None:
        """One step of the weight net; the model is as before."""
        clean_inputs, clean_pairs = next(self.clean)

        def losses() -> tf.Tensor:
            return self.loss.call(targets, model(inputs, training=False))

        seen = tf.stop_gradient(losses())
        gradients = meta_gradients(
            lambda: even_by_label(self.weights(targets, seen), targets[:, t.CLICK]),
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

    Its targets are those of `heft.model.targets`.
    """

    @classmethod
    def over(cls, model: keras.Model, settings: ModelSettings) -> "LearnedWeightsModel":
        """The same layers as `model`; its teacher has yet to `listen`."""
        learned = cls(model.input, model.output, name=model.name)
        learned.teacher = Teacher(settings)
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
        weight = even_by_label(self.teacher.weights(targets, losses), targets[:, t.CLICK])
        pairs = targets[:, t.PAIRS] * tf.stop_gradient(weight)[:, tf.newaxis]
        return super().train_step((inputs, tf.concat([pairs, targets[:, t.CLICK :]], axis=1)))
