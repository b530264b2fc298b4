"""How often training changes its mind about a sample, for the worse."""

import numpy as np

from heft.importance.base import ImportanceData
from heft.importance.dynamics import TraceEstimator
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import register

__all__ = ["Forgetting"]


@register("forgetting")
class Forgetting(TraceEstimator):
    """Forgetting events (Toneva et al. 2019): right at a checkpoint, wrong at the next.

    A whole number from 0; a sample that was never right gets the number of
    checkpoints E, more than any other can, as the paper sorts it. High means
    hard: a lesson or a mistake. With E = 3, the proxy's default, the only values
    are 0, 1 and 3: give it a proxy of ten epochs to tell more apart.

    Right means on the label's side of the base rate of attractiveness (of .5,
    where labels are even): few items are clicked by most who see them, and a
    threshold of .5 would call every click wrong. The networks have not seen the
    sample, so that what is forgotten is what they had inferred.

    Cost beyond the shared trace: O(n·E).
    """

    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,) in {0, …, ⌊E/2⌋} and E."""
        base = np.log(self.proxy_.rate_ / (1 - self.proxy_.rate_))
        right = (trace.logits > base) == (data.label[:, None] == 1)
        forgotten = (right[:, :-1] & ~right[:, 1:]).sum(axis=1)
        return np.where(right.any(axis=1), forgotten, right.shape[1])
