"""How far one step on a sample would move the whole model."""

import numpy as np

from heft.importance.base import ImportanceData
from heft.importance.dynamics import TraceEstimator
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import register
from heft.importance.stacked import residuals
from heft.importance.targets import targets_of

__all__ = ["Grand"]


@register("grand")
class Grand(TraceEstimator):
    """Gradient norm ‖∂loss/∂parameters‖₂ after one epoch (Paul, Ganguli & Dziugaite 2021).

    Exact, over all parameters of the one-hidden-layer network, in closed form:

        |r| · √( ‖w₂ ∘ on‖²·(‖x‖² + 1) + ‖h‖² + 1 )

    with r = ∂loss/∂logit, x the standardised features, h the hidden layer and
    `on` its active units. In [0, ∞), high where a sample pulls hard: a lesson or
    a mistake. In place of the paper's mean over initialisations, the network is
    one that has not seen the sample.

    Cost beyond the shared trace: O(n).
    """

    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,) ≥ 0."""
        return np.abs(residuals(trace.logits[:, 0], targets_of(data))) * trace.sensitivity[:, 0]
