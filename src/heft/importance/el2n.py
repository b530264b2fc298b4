"""How much a sample still has to teach early in training."""

from typing import Self

import numpy as np

from heft.importance.base import ImportanceData, check_fitted
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["El2n"]


@register("el2n")
class El2n:
    """Error L2 norm ‖p − y‖₂ after one epoch (Paul, Ganguli & Dziugaite 2021).

    p is the two-class prediction of a model that has not seen the sample, so
    the norm is √2·|p(label = 1) − label|, in [0, √2]. High means hard: a lesson
    or a mistake. Combine it with a quality score.

    Args:
        proxy: shared out-of-fold model; its own if none is given.
        random_state: seed of the own proxy.
    """

    def __init__(self, proxy: OutOfFoldProxy | None = None, random_state: int = 0) -> None:
        self.proxy = proxy or OutOfFoldProxy(random_state=random_state)

    def fit(self, data: ImportanceData) -> Self:
        """Trains the proxy on folds of `data`."""
        self.trace_ = self.proxy.trace(data)
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32 in [0, √2]. `data` as in `fit`."""
        check_fitted(self, "trace_")
        predicted = self.trace_.early * data.observation()
        return (np.sqrt(2.0) * np.abs(predicted - data.label)).astype(np.float32)
