"""By how much training has been on the side of a label, all the way."""

import numpy as np

from heft.importance.base import ImportanceData
from heft.importance.dynamics import TraceEstimator
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import register

__all__ = ["Aum"]


@register("aum")
class Aum(TraceEstimator):
    """Area under the margin (Pleiss, Zhang, Elenberg & Weinberger 2020).

    The margin, logit of the given label less that of the other, averaged over
    the checkpoints: in ℝ, high where the label looks right. A click is judged by
    attractiveness, z; a missing click by −logit(observed · σ(z)), so that a low
    position does not make it look wrong.

    The paper takes margins of the samples being trained on; here they are those
    of networks that have not seen the sample. So a wrong label is not learned by
    heart, however long the training, and no threshold samples are needed.

    Cost beyond the shared trace: O(n·E).
    """

    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,), positive where the label is the likelier one."""
        z = trace.logits
        # logit(θσ(z)) = z + log θ − log(1 + (1 − θ)eᶻ)
        theta = data.observation()[:, None]
        hidden = np.log(np.maximum(1 - theta, np.float32(1e-30)))
        seen = z + np.log(theta) - np.logaddexp(np.float32(0), hidden + z)
        return np.where(data.label[:, None] == 1, z, -seen).mean(axis=1)
