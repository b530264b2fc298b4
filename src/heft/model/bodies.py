"""What stands between the joined features and a task: an MLP, or one with explicit crosses."""

import keras
from keras import layers

from heft.model.settings import ModelSettings

__all__ = ["CrossLayer", "body"]


@keras.saving.register_keras_serializable("heft")
class CrossLayer(layers.Layer):
    """x₀ ⊙ (W x + b) + x: one order of feature crosses more (DCN V2, Wang et al. 2021).

    Args:
        l2: penalty on W.
    """

    def __init__(self, l2: float = 0.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.l2 = l2

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Makes W, square in the width of the inputs."""
        width = input_shape[0][-1]
        penalty = keras.regularizers.L2(self.l2)
        self.dense = layers.Dense(width, kernel_regularizer=penalty, dtype=self.dtype_policy)
        self.dense.build(input_shape[1])

    def call(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        """[x₀, x], both (batch, width) → (batch, width)."""
        first, current = inputs
        return first * self.dense(current) + current

    def get_config(self) -> dict[str, object]:
        """What `__init__` takes."""
        return super().get_config() | {"l2": self.l2}


def body(name: str, inputs: keras.KerasTensor, settings: ModelSettings) -> keras.KerasTensor:
    """(batch, width) → (batch, last of `hidden`), plus the crosses' width for `dcn_v2`."""
    deep = _deep(name, inputs, settings)
    if settings.body == "mlp":
        return deep
    crossed = inputs
    for order in range(settings.cross_layers):
        crossed = CrossLayer(settings.l2, name=f"{name}_cross_{order}")([inputs, crossed])
    return layers.Concatenate(name=f"{name}_body")([crossed, deep])


def _deep(name: str, hidden: keras.KerasTensor, settings: ModelSettings) -> keras.KerasTensor:
    for depth, width in enumerate(settings.hidden):
        penalty = keras.regularizers.L2(settings.l2)
        hidden = layers.Dense(
            width, activation="relu", kernel_regularizer=penalty, name=f"{name}_{depth}"
        )(hidden)
        if settings.dropout:
            hidden = layers.Dropout(settings.dropout, name=f"{name}_dropout_{depth}")(hidden)
    return hidden
