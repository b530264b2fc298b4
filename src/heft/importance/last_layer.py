"""The last layer of a model: a logistic regression whose Hessian fits in memory.

Influence functions need the inverse Hessian of the loss. Of a whole network it
is out of reach; of the last layer it is exact, and a Cholesky factor of it turns
every influence into a dot product of two short vectors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.logistic import LogisticLayer, fit_layer, in_blocks
from heft.importance.proxy import OutOfFoldProxy

__all__ = ["LastLayers"]

Array = np.ndarray
Rowwise = Callable[[int, LogisticLayer, Array, Array], Array]


@dataclass(frozen=True)
class LastLayers:
    """The last layer of a model on the features, or of each network of a proxy.

    Without a proxy there is one, number 0, and what it sees of a row is its
    features. With one it is the hidden layer of the network that has not seen the
    row's group: the number of a row's layer is its fold, and each layer is fitted
    on the rows of its fold.

    Attributes:
        layers: by number.
        proxy: None, or the model whose hidden layers are the inputs.
    """

    layers: dict[int, LogisticLayer]
    proxy: OutOfFoldProxy | None

    @classmethod
    def fit(
        cls, data: ImportanceData, proxy: OutOfFoldProxy | None, l2: float, random_state: int
    ) -> Self:
        """Fits every layer.

        Raises:
            ConfigError: l2 is not above 0.
            DataError: no rows, or the rows of a layer have one label.
        """
        if not len(data):
            raise DataError("0 rows: expected samples of both labels to fit a last layer")
        values, number = _representation(data, proxy)
        observed = data.observation()
        layers = {}
        for k in np.unique(number):
            rows = slice(None) if proxy is None else np.flatnonzero(number == k)
            columns = values[rows], data.label[rows], observed[rows]
            layers[int(k)] = fit_layer(*columns, l2, random_state)
        return cls(layers, proxy)

    def rowwise(self, data: ImportanceData, of: Rowwise, width: tuple[int, ...] = ()) -> Array:
        """(n, *width) float32 of a function of a block of rows.

        Args:
            data: n rows, any.
            of: gets the layer's number, the layer, its inputs h (b, d + 1), and the
                numbers of the b rows.
            width: shape of what `of` gives for a row.

        Raises:
            DataError: `fit` saw no rows of a layer, or rows of another width.
        """
        values, number = _representation(data, self.proxy)
        result = np.zeros((len(data), *width), np.float32)
        for k in np.unique(number):
            layer, rows = self._layer(int(k), values), np.flatnonzero(number == k)

            def task(parts: Iterator[slice]) -> None:
                for part in parts:
                    at = rows[part]  # noqa: B023
                    result[at] = of(int(k), layer, layer.inputs(values[at]), at)  # noqa: B023

            in_blocks(task, len(rows))
        return result

    def _layer(self, number: int, values: Array) -> LogisticLayer:
        if number not in self.layers:
            raise DataError(
                f"fold {number} had no rows in fit: expected some of each of the proxy's folds; "
                "fit on more groups or use fewer folds"
            )
        layer = self.layers[number]
        if values.shape[1] != len(layer.mean):
            raise DataError(
                f"{values.shape[1]} columns to score: expected the {len(layer.mean)} of fit; "
                "give the same features"
            )
        return layer


def _representation(data: ImportanceData, proxy: OutOfFoldProxy | None) -> tuple[Array, Array]:
    """What the last layer sees of each row, (n, d), and the number of its layer."""
    number = np.zeros(len(data), np.int64)
    if proxy is None:
        return data.features, number
    values = np.zeros((len(data), 0), np.float32)
    for rows, fold, hidden, *_ in proxy.hidden(data):
        if not values.shape[1]:
            values = np.zeros((len(data), hidden.shape[1]), np.float32)
        values[rows], number[rows] = hidden, fold
    return values, number
