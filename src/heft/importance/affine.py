"""The affine correction: clicks with the trust in high positions taken out."""

from typing import Self

import numpy as np

from heft.errors import ConfigError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.click_model import ClickModel, click_model_from_pairs
from heft.importance.registry import register

__all__ = ["AffineCorrection"]

Array = np.ndarray


@register("affine_correction")
class AffineCorrection:
    """Weight pairs that take out examination and trust bias.

    With P(click) = αa + β at a position, (c − β)/α has the expectation a, the
    attractiveness (Vardasbi, Oosterhuis & de Rijke 2020, *When Inverse
    Propensity Scoring does not Work*): the pair is ((c − β)/α, 1 − (c − β)/α),
    times α^`variance_power`, which is known before the click and leaves the
    estimate unbiased. Both weights may be negative.

    Args:
        model: slopes and offsets; else `fit` estimates them from pairs seen at
            different positions.
        minimum: slopes below are raised to it, in (0, 1].
        variance_power: p of α^p; 0 is the plain estimator.
    """

    def __init__(
        self, model: ClickModel | None = None, minimum: float = 0.02, variance_power: float = 2.0
    ) -> None:
        if not 0 < minimum <= 1:
            raise ConfigError(f"minimum={minimum} must be in (0, 1]")
        if variance_power < 0:
            raise ConfigError(f"variance_power={variance_power} must be at least 0")
        self.model = model
        self.minimum = minimum
        self.variance_power = variance_power

    def fit(self, data: ImportanceData) -> Self:
        """Estimates slopes and offsets where they are not given."""
        self.model_ = self.model or click_model_from_pairs(
            data.position, data.label, data.pair, weight=data.human
        )
        mass = self.propensity(data) ** self.variance_power
        self.scale_ = 1.0 / mass.mean() if len(mass) else 1.0
        return self

    def propensity(self, data: ImportanceData) -> Array:
        """(n,) in [minimum, 1]: the slope of the position."""
        check_fitted(self, "model_")
        return np.clip(self.model_.at(data.position)[0], self.minimum, 1.0)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32: how much of attractiveness the position lets through."""
        return self.propensity(data).astype(np.float32)

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2) float64."""
        slope = np.maximum(self.propensity(data), self.minimum)
        positive = (data.label - self.model_.at(data.position)[1]) / slope
        mass = self.scale_ * slope**self.variance_power
        return np.stack([mass * positive, mass * (1.0 - positive)], axis=1)
