"""What the clicks of a user say of a candidate: attention over the titles clicked last."""

import keras
from keras import layers, ops

__all__ = ["HistoryAttention"]

_UNIT = 16


@keras.saving.register_keras_serializable("heft")
class HistoryAttention(layers.Layer):
    """Pools the clicked titles by how much each has to do with the candidate's (DIN, Zhou et al.
    2018, *Deep Interest Network for Click-Through Rate Prediction*).

    Titles are projected, k = W h and q = W t. A small network, the activation unit, looks at
    (k, q, k − q, k ⊙ q) and the cosine of h and t, and gives each click a weight a in (0, 1).
    As in the paper weights are not normalised: many clicks of a kind say more than one.

    Args:
        width: of the projection.
    """

    def __init__(self, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Makes the projection and the activation unit."""
        dim = input_shape[0][-1]
        self.project = layers.Dense(self.width, use_bias=False, name="project")
        self.hidden = layers.Dense(_UNIT, activation="relu", name="hidden")
        self.weigh = layers.Dense(1, activation="sigmoid", name="weigh")
        self.project.build((None, dim))
        self.hidden.build((None, 4 * self.width + 1))
        self.weigh.build((None, _UNIT))

    def call(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        """[history, mask, title] → what is said of the candidate.

        Args:
            inputs: (batch, clicks, dim) unit vectors; (batch, clicks), 1 for a click and 0 for
                padding, whose vector is not looked at; (batch, dim) of the candidate.

        Returns:
            (batch, width + 2): Σ a k, Σ a · cosine, and the share of clicks that are there.
        """
        history, mask, title = inputs
        mask = ops.expand_dims(mask, -1)
        history = history * mask
        keys = self.project(history)
        query = ops.broadcast_to(ops.expand_dims(self.project(title), 1), ops.shape(keys))
        cosine = ops.sum(history * ops.expand_dims(title, 1), axis=-1, keepdims=True)
        seen = ops.concatenate([keys, query, keys - query, keys * query, cosine], axis=-1)
        weight = self.weigh(self.hidden(seen)) * mask
        pooled = ops.sum(weight * ops.concatenate([keys, cosine], axis=-1), axis=1)
        return ops.concatenate([pooled, ops.mean(mask, axis=1)], axis=-1)

    def get_config(self) -> dict[str, object]:
        """What `__init__` takes."""
        return super().get_config() | {"width": self.width}
