"""Estimators that read the shared out-of-fold trace, and a way to ask several at once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from heft.importance.base import ImportanceData, check_fitted
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import create

__all__ = ["ONE_PASS", "ProxyEstimator", "TraceEstimator", "one_pass"]

ONE_PASS = ("el2n", "grand", "aum", "tracin")


class ProxyEstimator:
    """What rests on the shared out-of-fold proxy.

    Args:
        proxy: shared out-of-fold model, trained on what it is first given; a model
            of its own, trained on every `fit`, if none is given.
        random_state: seed of the own model.

    Attributes:
        proxy_: the fitted proxy.
    """

    def __init__(self, proxy: OutOfFoldProxy | None = None, random_state: int = 0) -> None:
        self.proxy = proxy
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Trains the proxy on folds of `data`, unless a shared one is trained.

        Raises:
            DataError: no rows, or all labels the same.
        """
        self.proxy_ = (self.proxy or OutOfFoldProxy(random_state=self.random_state)).fitted(data)
        return self


class TraceEstimator(ProxyEstimator, ABC):
    """A score that is a function of a row's trace and label; see `ProxyEstimator`."""

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32, of any rows, by networks that have not seen their groups."""
        check_fitted(self, "proxy_")
        return self.of(self.proxy_.trace(data), data).astype(np.float32)

    @abstractmethod
    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,), the score of rows whose trace is known."""


def one_pass(
    data: ImportanceData,
    names: Sequence[str] = ONE_PASS,
    proxy: OutOfFoldProxy | None = None,
    random_state: int = 0,
) -> dict[str, np.ndarray]:
    """Scores of one data set by several estimators over one training and one trace.

    Cost: training (see `OutOfFoldProxy`), one look at all checkpoints for EL2N,
    GraNd, AUM, forgetting and label quality together, two more for TracIn.
    1,000,000 × 64 takes some seconds on two cores; memory beyond the data is
    about 200 bytes a row.

    Args:
        data: the samples, fitted on and scored.
        names: of registered estimators that take `proxy`.
        proxy: trained on `data` unless it is trained.
        random_state: seed of the proxy if none is given.

    Returns:
        (n,) float32 by name.
    """
    shared = (proxy or OutOfFoldProxy(random_state=random_state)).fitted(data)
    return {name: create(name, proxy=shared).fit(data).score(data) for name in names}
