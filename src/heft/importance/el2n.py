"""How much a sample still has to teach early in training."""

import numpy as np

from heft.importance.base import ImportanceData
from heft.importance.dynamics import TraceEstimator
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import register

__all__ = ["El2n"]


@register("el2n")
class El2n(TraceEstimator):
    """Error L2 norm ‖p − y‖₂ after one epoch (Paul, Ganguli & Dziugaite 2021).

    p is the two-class prediction of a model that has not seen the sample, so
    the norm is √2·|p(label = 1) − label|, in [0, √2], with p = observed ·
    attractiveness. High means hard: a lesson or a mistake. Combine it with a
    quality score.

    Cost beyond the shared trace: O(n).
    """

    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,) in [0, √2]."""
        predicted = trace.early * data.observation()
        return np.sqrt(2.0) * np.abs(predicted - data.label)
