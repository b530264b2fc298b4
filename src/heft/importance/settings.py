"""Settings of the weighing step."""

from typing import Literal

from pydantic import Field

from heft.settings import Settings

__all__ = ["ImportanceSettings"]


class ImportanceSettings(Settings):
    """Which estimators, and how their scores become weights.

    Attributes:
        debias: `examination_posterior` and `inverse_propensity` correct for
            position, `none` does not.
        propensity: of examination: an estimate, or the logged `propensity` column.
        minimum_shuffled_clicks: with fewer clicks on shuffled pages than this,
            examination is estimated from repeated query-item pairs instead.
        variance_power, aggregate: of `InversePropensity`.
        minimum_propensity: propensities below are raised to it.
        quality, value: exponent by estimator name; 0 computes and reports a
            score without using it.
        clip, minimum_ess: see `combine`.
        folds, epochs: of the out-of-fold proxy model.
        samples: how many of the heaviest and of the lightest samples are kept
            for the report.
    """

    debias: Literal["examination_posterior", "inverse_propensity", "none"] = "examination_posterior"
    propensity: Literal["estimated", "logged"] = "estimated"
    minimum_shuffled_clicks: int = Field(2000, ge=1)
    variance_power: float = Field(1.0, ge=0)
    aggregate: bool = False
    minimum_propensity: float = Field(0.02, gt=0, le=1)
    quality: dict[str, float] = {"label_quality": 0.0}
    value: dict[str, float] = {"el2n": 0.0}
    clip: float = Field(5.0, ge=1)
    minimum_ess: float = Field(0.1, ge=0, le=1)
    folds: int = Field(4, ge=2)
    epochs: int = Field(3, ge=1)
    samples: int = Field(50, ge=0)
    seed: int = 0
