"""A small network that learns from a large one (Hinton et al. 2015, *Distilling the Knowledge*)."""

from typing import Any

import keras
import tensorflow as tf

from heft.model import targets as t
from heft.model.losses import log_ctcvr
from heft.model.options import StudentSettings
from heft.model.settings import ModelSettings

__all__ = ["DistilledModel", "SoftLabels", "student_settings"]

Inputs = dict[str, tf.Tensor]


class SoftLabels:
    """What a trained model says of a row, in place of a part of its labels.

    Kept out of Keras' sight, which would train and save it with the student.

    Args:
        teacher: inputs and logits as of `build_training_model`.
        share: of the pairs that comes from the teacher, in (0, 1].
        negative_rate: that the teacher's loss made up for.
    """

    def __init__(self, teacher: keras.Model, share: float, negative_rate: float = 1.0) -> None:
        self.teacher = teacher
        self.share = share
        self.offset = tf.math.log(tf.constant(negative_rate, tf.float32))

    def pairs(self, inputs: Inputs, targets: tf.Tensor) -> tf.Tensor:
        """(batch, 4) (1 − share) (w⁺, w⁻) + share · (w⁺ + w⁻) (p, 1 − p) for both tasks.

        p is the teacher's rate of clicks and of conversions of all impressions. A row counts
        as much as before; for the optimum of the loss, that is what matters.
        """
        logits = self.teacher(inputs, training=False)
        click, conversion = logits[:, 0] - self.offset, logits[:, 1]
        rates = tf.stack([tf.sigmoid(click), tf.exp(log_ctcvr(click, conversion))], axis=1)
        both = tf.stack([rates, 1 - rates], axis=2)
        pairs = tf.reshape(targets[:, t.PAIRS], [-1, 2, 2])
        soft = tf.reduce_sum(pairs, axis=2, keepdims=True) * both
        mixed = (1 - self.share) * pairs + self.share * soft
        return tf.stop_gradient(tf.reshape(mixed, [-1, 4]))


class DistilledModel(keras.Model):
    """A training model whose pairs come in part from a teacher; `tune` keeps its own.

    Its targets are those of `heft.model.targets`.
    """

    @classmethod
    def over(cls, model: keras.Model, soft: SoftLabels) -> "DistilledModel":
        """The same layers as `model`."""
        student = cls(model.input, model.output, name=model.name)
        student.soft = soft
        return student

    def train_step(self, data: tuple[Inputs, tf.Tensor]) -> Any:
        """One step on mixed labels."""
        inputs, targets = data
        pairs = self.soft.pairs(inputs, targets)
        return super().train_step((inputs, tf.concat([pairs, targets[:, t.CLICK :]], axis=1)))


def student_settings(settings: ModelSettings, student: StudentSettings) -> ModelSettings:
    """Of the student: smaller bodies; what its teacher learned by weights or ESCM² it is told."""
    own = {"hidden": student.hidden, "cvr_loss": "esmm"}
    if settings.weights == "learned":
        own["weights"] = "loss"
    return settings.model_copy(update=own)
