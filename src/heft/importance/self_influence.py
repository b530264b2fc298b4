"""How far training on a sample moves the model's opinion of that very sample."""

from typing import ClassVar, Self

import numpy as np

from heft.importance.base import ImportanceData, check_fitted
from heft.importance.last_layer import LastLayers, check_labels
from heft.importance.logistic import LogisticLayer
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["SelfInfluence"]

Array = np.ndarray

_MOST_LEVERAGE = 0.999


@register("self_influence")
class SelfInfluence:
    """Self-influence of the last layer, r² hᵀ H⁻¹ h (Koh & Liang 2017; Feldman & Zhang 2020).

    r = p − y is the residual, h the input of the last layer with a one for the
    bias, and H = Σ p (1 − p) h hᵀ + l2 · I the Hessian of the loss over the rows
    of `fit`: exact, by Cholesky. It is what the sample's own loss would rise by if
    the layer were trained without it, in nats, to first order. High means learned
    by heart: a rare case worth keeping, or a wrong label. So it is a score of
    value, as EL2N is, and its negative one of quality.

    The layer is fitted on the samples themselves, since the score is about
    training on the sample; there is no out of fold. With a proxy, h is the hidden
    layer of the network that has not seen the sample's group, and the rows of each
    fold have a last layer of their own, fitted on them. Where `observed` is below
    1, y ~ Bernoulli(observed · p), and r and H are those of that likelihood.

    Cost of n rows of width d: O(n d²) time, in two or three passes for large n;
    O(d²) memory beyond the data, and n times the hidden width with a proxy.

    Args:
        proxy: shared out-of-fold model whose hidden layer to use; the last layer
            is fitted on the features where none is given.
        l2: penalty of the coefficients, above 0, in the units of a sum over rows; the
            inputs are standardised, and the bias is drawn to the base rate.
        leave_one_out: divide by 1 − p (1 − p) hᵀ H⁻¹ h, the exact Newton step of
            leaving the sample out (Pregibon 1981). It matters where rows are few for
            the width. For rows that `fit` has not seen it is an upper bound: their
            leverage, which such a row does not have in H, is cut at .999.
        random_state: seed of the sample of rows that Newton's method starts from.
    """

    kind: ClassVar[str] = "value"

    def __init__(
        self,
        proxy: OutOfFoldProxy | None = None,
        l2: float = 1.0,
        leave_one_out: bool = False,
        random_state: int = 0,
    ) -> None:
        self.proxy = proxy
        self.l2 = l2
        self.leave_one_out = leave_one_out
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Fits the last layer on all rows.

        Raises:
            DataError: all labels are the same, or `observed` lies outside (0, 1].
            ConfigError: l2 is not above 0.
        """
        check_labels(data)
        self.layers_ = LastLayers.fit(data, self.proxy, self.l2, self.random_state)
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 0, in nats; high for samples learned by heart."""
        check_fitted(self, "layers_")
        observed = data.observation()

        def of(_: int, layer: LogisticLayer, h: Array, rows: Array) -> Array:
            effect = np.square(layer.whiten(h)).sum(axis=1)
            residual, curvature = layer.slopes(h, data.label[rows], observed[rows])
            score: Array = residual**2 * effect
            if self.leave_one_out:
                score /= 1 - np.minimum(curvature * effect, _MOST_LEVERAGE)
            return score

        return self.layers_.rowwise(data, of)
