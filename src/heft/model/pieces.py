"""Numbers in pieces, so that a network can bend at them as trees split."""

import keras
import numpy as np
from keras import ops
from scipy.special import ndtr

__all__ = ["PiecewiseLinear"]

_REACH = 2.5  # standard deviations; what is beyond is as far as that


@keras.saving.register_keras_serializable("heft")
class PiecewiseLinear(keras.layers.Layer):
    """How far each number has come along each of evenly spaced pieces, 0 to 1, less the mean.

    A dense layer behind it is piecewise linear in each number (Gorishniy et al. 2022, *On
    Embeddings for Numerical Features in Tabular Deep Learning*). The pieces lie between −2.5 and
    2.5 rather than at quantiles, which a stream does not know: inputs are to be normalised. The
    mean is that of a standard normal number; without it all units begin with an offset that few
    of them survive.

    Args:
        pieces: at least 1.
    """

    def __init__(self, pieces: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.pieces = pieces

    def means(self) -> np.ndarray:
        """(pieces,) how far a standard normal number has come on average."""
        knots = np.linspace(-_REACH, _REACH, self.pieces + 1)
        # The integral of P(number > t), which is how far it comes by t.
        integral = knots * ndtr(-knots) - np.exp(-(knots**2) / 2) / np.sqrt(2 * np.pi)
        return (np.diff(integral) / np.diff(knots)).astype(np.float32)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, columns) → (batch, columns · pieces), a column's pieces together."""
        width = 2 * _REACH / self.pieces
        left = (np.arange(self.pieces) * width - _REACH).astype(np.float32)
        along = ops.clip((ops.expand_dims(inputs, -1) - left) / width, 0.0, 1.0)
        return ops.reshape(along - self.means(), (-1, inputs.shape[-1] * self.pieces))

    def get_config(self) -> dict[str, object]:
        """What `__init__` takes."""
        return super().get_config() | {"pieces": self.pieces}
