"""What the Evaluator asks of a model."""

from typing import Self

from pydantic import Field, model_validator

from heft.settings import Settings

__all__ = ["Thresholds"]


class Thresholds(Settings):
    """What the Evaluator asks of a model on natural data.

    Attributes:
        minimum_ctr_auc: of clicks on all natural impressions.
        calibration: (lowest, highest) ratio of predicted to observed clicks.
        maximum_ctr_ece: mean gap of predicted and observed clicks over bins of predictions.
        maximum_auc_loss: against the last blessed model.
        minimum_slice_auc: of clicks in each slice, by the upper end of its interval.
        slice_calibration: as `calibration` in each slice, by the end of its interval that is
            nearer to it.
    """

    minimum_ctr_auc: float = Field(0.55, ge=0, le=1)
    calibration: tuple[float, float] = (0.5, 2.0)
    maximum_ctr_ece: float = Field(0.1, ge=0, le=1)
    maximum_auc_loss: float = Field(0.01, ge=0, le=1)
    minimum_slice_auc: float = Field(0.5, ge=0, le=1)
    slice_calibration: tuple[float, float] = (0.33, 3.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("calibration", "slice_calibration"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name}: [{low}, {high}] lets no model pass: lower first")
        return self
