"""Inverse propensity: the click as if every position had been examined."""

from typing import Self

import numpy as np

from heft.errors import ConfigError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.examination import Examination, from_pairs
from heft.importance.keys import look_up
from heft.importance.registry import register

__all__ = ["InversePropensity"]

Array = np.ndarray


@register("inverse_propensity")
class InversePropensity:
    """Weight pairs that make the click independent of where the item stood.

    With examination θ, a click is 1/θ of a positive and 1 − 1/θ of a negative,
    no click a whole negative: (c/θ, 1 − c/θ) has the expectation (a, 1 − a) of
    the attractiveness a (Saito et al. 2020, Unbiased Recommender Learning). A
    further factor θ^`variance_power`, known before the click, leaves the
    estimate unbiased and takes mass from positions that say little.

    Args:
        examination: a known curve; else `fit` estimates one from pairs seen at
            different positions, unless every row has a logged propensity.
        minimum: propensities below are raised to it, in (0, 1].
        variance_power: p of θ^p; 0 is the plain estimator.
        aggregate: share the pair among repetitions of one query and item and
            clip it to [0, 1]: non-negative, less variance, slightly biased.
    """

    def __init__(
        self,
        examination: Examination | None = None,
        minimum: float = 0.02,
        variance_power: float = 1.0,
        aggregate: bool = False,
    ) -> None:
        if not 0 < minimum <= 1:
            raise ConfigError(f"minimum={minimum} must be in (0, 1]")
        if variance_power < 0:
            raise ConfigError(f"variance_power={variance_power} must be at least 0")
        self.examination = examination
        self.minimum = minimum
        self.variance_power = variance_power
        self.aggregate = aggregate

    def fit(self, data: ImportanceData) -> Self:
        """Learns examination where it is neither given nor logged."""
        logged = np.isfinite(data.propensity)
        if self.examination is not None or (len(data) and logged.all()):
            self.examination_ = self.examination or Examination(np.ones(1), 0, "logged")
        else:
            self.examination_ = from_pairs(data.position, data.label, data.pair)
        self._remember(data)
        return self

    def propensity(self, data: ImportanceData) -> Array:
        """(n,) in [minimum, 1]: as logged, else examination of the position."""
        check_fitted(self, "examination_")
        estimated = self.examination_.at(data.position)
        theta = np.where(np.isfinite(data.propensity), data.propensity, estimated)
        return np.clip(theta, self.minimum, 1.0)

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2) float64: how much each row counts as a positive and as a negative."""
        theta = self.propensity(data)
        positive = data.label / theta
        mass = self.scale_ * theta**self.variance_power
        if self.aggregate:
            positive = self._shared(positive, mass, data.pair)
        return np.stack([mass * positive, mass * (1.0 - positive)], axis=1)

    def _remember(self, data: ImportanceData) -> None:
        """What must not depend on which rows are asked about: the scale, and means by pair."""
        theta = self.propensity(data)
        mass = theta**self.variance_power
        self.scale_ = 1.0 / mass.mean() if len(mass) else 1.0
        if self.aggregate:
            self.shared_ = _means(data.label / theta, mass, data.pair)

    def _shared(self, positive: Array, mass: Array, pair: Array) -> Array:
        """The mean of each row's pair; of the given rows where `fit` has not met it."""
        shared = np.empty(len(pair))
        place, known = look_up(pair, self.shared_[0])
        shared[known] = self.shared_[1][place[known]]
        if not known.all():
            pairs, mean = _means(positive[~known], mass[~known], pair[~known])
            shared[~known] = mean[np.searchsorted(pairs, pair[~known])]
        return shared


def _means(positive: Array, mass: Array, pair: Array) -> tuple[Array, Array]:
    """The distinct pairs, and the mass-weighted mean over the rows of each, in [0, 1]."""
    pairs, index = np.unique(pair, return_inverse=True)
    total = np.bincount(index, weights=mass)
    mean = np.bincount(index, weights=mass * positive) / total
    return pairs, np.clip(mean, 0.0, 1.0)
