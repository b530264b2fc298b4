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
from heft.importance.proxy import OutOfFoldProxy, targets_of
from heft.importance.stacked import threads

__all__ = ["LastLayers", "check_labels"]

Array = np.ndarray
Rowwise = Callable[[int, LogisticLayer, Array, Array], Array]


@dataclass(frozen=True)
class LastLayers:
    """The last layer of a model on the features, or of each network of a proxy.

    Without a proxy there is one, number 0, and what it sees of a row is its
    features. With one it is the hidden layer of the network that has not seen the
    row's group: the number of a row's layer is its fold, and each layer is fitted
    on the rows of its fold. A fold whose rows have one label gets the base rate.

    Attributes:
        layers: by number.
        proxy: None, or the model whose hidden layers are the inputs.
        width: how many features a row has.
    """

    layers: dict[int, LogisticLayer]
    proxy: OutOfFoldProxy | None
    width: int

    @classmethod
    def fit(
        cls, data: ImportanceData, proxy: OutOfFoldProxy | None, l2: float, random_state: int
    ) -> Self:
        """Fits every layer, and the proxy if nothing has fitted it.

        Raises:
            ConfigError: l2 is not above 0.
            DataError: `observed` outside (0, 1].
        """
        proxy = proxy and proxy.fitted(data)
        observed, number = targets_of(data).observed, _numbers(data, proxy)
        layers = {}
        for k in np.unique(number):
            chosen = slice(None) if proxy is None else np.flatnonzero(number == k)
            x = _values(data, chosen, int(k), proxy)
            columns = data.label[chosen], observed[chosen]
            layers[int(k)] = fit_layer(x, *columns, l2=l2, random_state=random_state)
        return cls(layers, proxy, data.features.shape[1])

    def rowwise(
        self, data: ImportanceData, of: Rowwise, width: int = 0, number: int | None = None
    ) -> Array:
        """(n,) or (n, width) float32: a function of each row as its last layer sees it.

        Args:
            data: n rows, any.
            of: gets the layer's number, the layer, its inputs h (b, d + 1), and the
                numbers of the b rows.
            width: how many values `of` gives for a row; 0 for a bare one.
            number: the layer that all rows are seen by; each row's own if left out.

        Raises:
            DataError: `fit` saw no rows of a layer, or rows of another width.
        """
        if data.features.shape[1] != self.width:
            raise DataError(
                f"{data.features.shape[1]} feature columns: expected the {self.width} of fit; "
                "give the same features"
            )
        result = np.zeros((len(data), width) if width else len(data), np.float32)
        own = _numbers(data, self.proxy)
        for k in np.unique(own) if number is None else [number]:
            rows = np.flatnonzero(own == k) if number is None else np.arange(len(data))
            self._write(result, data, of, int(k), rows)
        return result

    def _write(self, result: Array, data: ImportanceData, of: Rowwise, k: int, rows: Array) -> None:
        if k not in self.layers:
            raise DataError(
                f"fold {k} had no rows in fit: expected some of each of the proxy's folds; "
                "fit on more groups or use fewer folds"
            )
        layer = self.layers[k]

        def write(parts: Iterator[slice]) -> None:
            for part in parts:
                at = rows[part]
                inputs = layer.inputs(_values(data, at, k, self.proxy))
                result[at] = of(k, layer, inputs, at)

        with threads() as pool:
            in_blocks(write, len(rows), pool)


def check_labels(data: ImportanceData) -> None:
    """Raises DataError unless there are rows of both labels."""
    rows, positives = len(data), int(np.sum(data.label))
    if positives in (0, rows):
        raise DataError(
            f"{positives} of {rows} labels are 1: expected both 0 and 1 to fit a last layer; "
            "use more data or drop the estimator for this task"
        )


def _numbers(data: ImportanceData, proxy: OutOfFoldProxy | None) -> Array:
    """(n,) int64, which layer a row belongs to."""
    return np.zeros(len(data), np.int64) if proxy is None else proxy.fold(data)


def _values(
    data: ImportanceData, rows: Array | slice, number: int, proxy: OutOfFoldProxy | None
) -> Array:
    """(b, d) what the layer of that number sees of the rows, without the one of the bias."""
    if proxy is None:
        return data.features[rows]
    rows = np.arange(len(data))[rows]
    features = np.ascontiguousarray(data.features, np.float32)
    return proxy.networks_[-1][number].last_inputs(proxy.scaling_.rows(features, rows))
