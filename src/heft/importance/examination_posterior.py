"""What an unclicked item would have got, had it been examined: the E-step as weights."""

from typing import Self

import numpy as np

from heft.errors import ConfigError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.examination import Examination
from heft.importance.inverse_propensity import InversePropensity
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["ExaminationPosterior"]


@register("examination_posterior")
class ExaminationPosterior:
    """Weight pairs from the posterior of attractiveness, given that nothing was clicked.

    A click proves examination and attraction: (1, 0). Without one, the item was
    attractive and not examined with probability q = (1 − θ)a / (1 − θa), which is
    the pair (q, 1 − q): the E-step of regression-EM (Wang et al. 2018, Position
    Bias Estimation for Unbiased Learning to Rank in Personal Search). The
    attractiveness a comes from a proxy that has not seen the request. If a is
    right the pair has the expectation (a, 1 − a) as the inverse propensity pair
    has, at much less variance: both weights stay in [0, 1].

    Args:
        proxy: shared out-of-fold model; its own if none is given.
        examination: a known curve; else estimated as by `InversePropensity`.
        minimum: propensities below are raised to it, in (0, 1].
        random_state: seed of the own proxy.
    """

    def __init__(
        self,
        proxy: OutOfFoldProxy | None = None,
        examination: Examination | None = None,
        minimum: float = 0.02,
        random_state: int = 0,
    ) -> None:
        if not 0 < minimum <= 1:
            raise ConfigError(f"minimum={minimum} must be in (0, 1]")
        self.proxy = proxy or OutOfFoldProxy(random_state=random_state)
        self.examination = examination
        self.minimum = minimum

    def fit(self, data: ImportanceData) -> Self:
        """Learns examination where it is unknown, then attractiveness out of fold."""
        self.inverse_ = InversePropensity(self.examination, self.minimum).fit(data)
        self.proxy.fitted(data.with_observed(self.propensity(data)))
        return self

    def propensity(self, data: ImportanceData) -> np.ndarray:
        """(n,) in [minimum, 1]; 1 where examination is known."""
        check_fitted(self, "inverse_")
        return np.where(data.known_examined(), 1.0, self.inverse_.propensity(data))

    def pairs(self, data: ImportanceData) -> np.ndarray:
        """(n, 2) float64 in [0, 1], each row adding up to 1."""
        theta = self.propensity(data)
        attractive = self.proxy.trace(data).final.astype(np.float64)
        unseen = (1 - theta) * attractive
        missed = unseen / np.maximum(1 - theta * attractive, 1e-9)
        positive = np.where(data.label == 1, 1.0, np.clip(missed, 0.0, 1.0))
        return np.stack([positive, 1 - positive], axis=1)
