"""What a sample can teach that is not noise."""

from typing import Self

import numpy as np

from heft.importance.base import ImportanceData, check_fitted
from heft.importance.dynamics import TraceEstimator
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import register
from heft.importance.stacked import losses
from heft.importance.targets import targets_of

__all__ = ["RhoLoss"]


@register("rho_loss")
class RhoLoss(TraceEstimator):
    """Reducible hold-out loss (Mindermann et al. 2022): current loss less irreducible loss.

    Current is the loss under the shared proxy after its first epoch, irreducible
    that under a model trained to the end on other samples: on `reference`, or,
    with None, on the half of the data that does not hold the sample's group. In
    ℝ, in nats. High: worth learning, learnable, not yet learned. A wrong label is
    lost on both models, and an easy sample on neither, so that both are near 0;
    a wrong label that the first epoch is still undecided about is negative.

    Cost beyond the shared trace: training one more proxy, and its trace.

    Args:
        proxy: shared out-of-fold model; its own if none is given.
        reference: clean samples.
        random_state: seed of the own models.

    Attributes:
        irreducible_: the proxy of the irreducible loss.
    """

    def __init__(
        self,
        proxy: OutOfFoldProxy | None = None,
        reference: ImportanceData | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__(proxy, random_state)
        self.reference = reference

    def fit(self, data: ImportanceData) -> Self:
        """Trains the proxy, unless a shared one is trained, and that of the irreducible loss.

        Raises:
            DataError: no rows, or all labels the same, in `data` or in `reference`.
        """
        super().fit(data)
        shared = self.proxy_
        halves = 2 if self.reference is None else shared.folds
        self.irreducible_ = OutOfFoldProxy(
            halves, shared.epochs, shared.hidden_units, shared.batch_size, shared.random_state
        ).fit(data if self.reference is None else self.reference)
        return self

    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,) nats."""
        check_fitted(self, "irreducible_")
        targets = targets_of(data)
        least = self.irreducible_.trace(data).logits[:, -1]
        return losses(trace.logits[:, 0], targets) - losses(least, targets)
