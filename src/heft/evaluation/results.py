"""What a comparison of models comes to, as plain numbers and text.

None stands for what is undefined. Everything goes to JSON and back unchanged, and
what an older Heft wrote can be read: fields that came later have defaults.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "Comparison", "FairnessGap", "GroupRate", "MetricResult", "Model", "Outcome",
    "ReliabilityCurve", "SliceResult", "Verdict", "ViewResult",
]  # fmt: skip

Outcome = Literal["helped", "harmed", "no difference shown", "not compared"]
Model = Literal["weighted", "control", "baseline"]
Interval = tuple[float, float]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class MetricResult(_Result):
    """One metric of all models. `low` and `high` bound weighted - control.

    `best` says which way is better: up, down, or towards one (calibration).
    `left_out` counts groups in which a grouped metric is undefined. `versus_baseline` is
    weighted - baseline, with an interval unless the baseline is a constant.
    """

    name: str
    best: Literal["higher", "lower", "one"]
    weighted: float | None
    control: float | None
    difference: float | None
    low: float | None
    high: float | None
    left_out: int = 0
    baseline: float | None = None
    weighted_interval: Interval | None = None
    control_interval: Interval | None = None
    baseline_interval: Interval | None = None
    versus_baseline: float | None = None
    versus_baseline_interval: Interval | None = None

    @property
    def better(self) -> Literal["weighted", "control"] | None:
        """The better model, None unless the interval of the difference excludes 0."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return None
        if self.weighted is None or self.control is None:
            return None
        ahead = self.weighted > self.control
        if self.best == "lower":
            ahead = not ahead
        elif self.best == "one":
            ahead = abs(self.weighted - 1) < abs(self.control - 1)
        return "weighted" if ahead else "control"


class SliceResult(_Result):
    """The metrics of the rows with one value in one column."""

    column: str
    value: str
    rows: int
    groups: int
    metrics: tuple[MetricResult, ...]


class ReliabilityCurve(_Result):
    """Mean prediction and mean label of equal-mass bins, for one model's head."""

    head: str
    model: Model
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    rows: tuple[float, ...]


class GroupRate(_Result):
    """A fairness metric of one group: its rows, its clicks, and each model's figure."""

    value: str
    rows: int
    clicks: int
    weighted: float
    control: float | None = None


class FairnessGap(_Result):
    """The largest gap of one metric between the groups of a column.

    `gap` is the weighted model's, from the group `lowest` to the group `highest`, `low` and
    `high` its interval for these two groups; `control_gap` is the control's own largest.
    """

    column: str
    metric: Literal["calibration", "false_negative_rate"]
    groups: tuple[GroupRate, ...]
    lowest: str
    highest: str
    gap: float
    low: float | None = None
    high: float | None = None
    control_gap: float | None = None
    limit: float | None = None

    @property
    def too_large(self) -> bool:
        """The gap is surely past its limit."""
        least = self.gap if self.low is None else self.low
        return self.limit is not None and least > self.limit


class ViewResult(_Result):
    """All that was measured on one view. `group_by` is what was resampled."""

    name: str
    rows: int
    groups: int
    group_by: str
    confidence: float
    resamples: int
    metrics: tuple[MetricResult, ...]
    slices: tuple[SliceResult, ...] = ()
    reliability: tuple[ReliabilityCurve, ...] = ()
    fairness: tuple[FairnessGap, ...] = ()
    notes: tuple[str, ...] = ()

    def metric(self, name: str) -> MetricResult | None:
        """The metric of that name, None if the view has no such metric."""
        return next((metric for metric in self.metrics if metric.name == name), None)


class Verdict(_Result):
    """What the comparison comes to.

    `view` and `metric` are what it rests on, `biased` is true if that view
    favours the old ranking. `sentence` is for people; `calibration` is the
    sentence about the natural view, `last` that about the last blessed model, if there is one.
    `objections` are sentences too: each is a reason not to bless the model.
    """

    outcome: Outcome
    sentence: str
    view: str | None = None
    metric: str | None = None
    biased: bool = False
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    calibration: str | None = None
    last: str | None = None
    objections: tuple[str, ...] = ()


class Comparison(_Result):
    """Every view, and what follows from them. `baseline` says what the third model is."""

    views: dict[str, ViewResult]
    verdict: Verdict
    baseline: str | None = None

    def metrics(self, model: Model) -> dict[str, dict[str, float | None]]:
        """The figures of one model: view, then metric."""
        return {
            name: {metric.name: getattr(metric, model) for metric in view.metrics}
            for name, view in self.views.items()
        }

    def to_json(self) -> str:
        """One JSON object; undefined figures are null."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Comparison":
        """The comparison `to_json` wrote.

        Raises:
            pydantic.ValidationError: the text is of another shape.
        """
        return cls.model_validate_json(text)
