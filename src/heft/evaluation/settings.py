"""How models are compared."""

from pydantic import Field

from heft.evaluation.bootstrap import BootstrapSettings
from heft.settings import Settings

__all__ = ["EvaluationSettings", "FairnessSettings"]


class FairnessSettings(Settings):
    """Between which groups gaps are measured, and how large they may be.

    A limit of None is not asked for; the gap is reported all the same.
    """

    columns: tuple[str, ...] = Field((), description="string columns whose values are groups")
    maximum_calibration_gap: float | None = Field(
        default=None, gt=0, description="of predicted over observed clicks"
    )
    maximum_false_negative_gap: float | None = Field(
        default=None, gt=0, le=1, description="of the share of clicks that the model did not expect"
    )
    min_clicks: int = Field(default=50, ge=1, description="groups of fewer clicks are left out")


class EvaluationSettings(Settings):
    """How models are compared."""

    maximum_grade: float = Field(default=3.0, gt=0, description="top of the scale of human grades")
    relevant_grade: float = Field(
        default=2.0, gt=0, description="grades from here on count as relevant"
    )
    ndcg_at: int = Field(default=10, ge=1, description="ranks NDCG looks at")
    bins: int = Field(
        default=20, ge=2, le=1000, description="equal-mass bins of ECE and reliability"
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="loss of AUC to put up with before weighting is called harmful",
    )
    calibration_tolerance: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="rise of the calibration error (ECE) on natural pages to put up with",
    )
    suspicious_auc: float = Field(
        default=0.97,
        gt=0.5,
        le=1,
        description="an AUC on logged pages from here on looks like a label among the features",
    )
    propensity_floor: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="positions looked at less often count as if looked at this often",
    )
    min_rows: int = Field(
        default=200, ge=1, description="rows an unbiased view needs to be judged on"
    )
    min_groups: int = Field(
        default=20, ge=2, description="groups an unbiased view needs to be judged on"
    )
    min_slice_rows: int = Field(default=200, ge=1, description="slices of fewer rows are not shown")
    max_slices: int = Field(
        default=20, ge=1, description="values of a column shown, most rows first"
    )
    slice_resamples: int = Field(default=100, ge=20, description="bootstrap resamples of a slice")
    bootstrap: BootstrapSettings = BootstrapSettings()
    fairness: FairnessSettings = FairnessSettings()
