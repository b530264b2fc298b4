"""Position as a term of the click logit, beside the examination model of the design."""

import keras
import tensorflow as tf

__all__ = ["LAST_POSITION", "PositionBias"]

LAST_POSITION = 100  # deeper ones share its bias


class PositionBias(keras.layers.Layer):
    """Adds a learned number per position to the click logit (the shallow tower of PAL and YouTube).

    Zhao et al. 2019, *Recommending What Video to Watch Next*. An unknown position, 0,
    has a bias of its own, which stays 0 where every row has a position.
    """

    def build(self, input_shape: object) -> None:
        """Starts with no bias at all."""
        self.bias = self.add_weight(
            shape=(LAST_POSITION + 1,), initializer="zeros", name="position_bias"
        )

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """[(batch, logits), (batch,) int] → (batch, logits)."""
        logits, position = inputs
        place = tf.clip_by_value(position, 0, LAST_POSITION)
        click = logits[:, :1] + tf.gather(tf.convert_to_tensor(self.bias), place)[:, tf.newaxis]
        return tf.concat([click, logits[:, 1:]], axis=1)
