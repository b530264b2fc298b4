"""Weighted against control, on the same rows, view by view.

Views are never mixed: every figure names the one view it is from. The result
holds plain numbers and text, None where a metric is undefined, and goes to
JSON and back unchanged.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from heft.evaluation.bootstrap import (
    BootstrapSettings,
    PairedDifference,
    paired_bootstrap,
)
from heft.evaluation.grouped import GroupMean, group_codes
from heft.evaluation.metrics import Bins, Metric, Values, reliability
from heft.evaluation.verdict import Verdict, judge
from heft.evaluation.views import (
    GROUP_BY,
    VIEWS,
    EvaluationSettings,
    MetricBuilder,
    ViewData,
    view_metrics,
)
from heft.features import CTCVR, CTR, NATURAL

__all__ = [
    "Comparison", "MetricResult", "ReliabilityCurve", "SliceResult", "ViewResult", "compare",
]  # fmt: skip

# What is worth an interval in every slice; the rest would be a wall of numbers.
SLICE_METRICS = (f"{CTR}_auc", f"{CTR}_ndcg", f"{CTR}_calibration", f"{CTCVR}_auc")


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class MetricResult(_Result):
    """One metric of both models. `low` and `high` bound weighted - control.

    `best` says which way is better: up, down, or towards one (calibration).
    `left_out` counts groups in which a grouped metric is undefined.
    """

    name: str
    best: Literal["higher", "lower", "one"]
    weighted: float | None
    control: float | None
    difference: float | None
    low: float | None
    high: float | None
    left_out: int = 0

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
    model: Literal["weighted", "control"]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    rows: tuple[float, ...]


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
    notes: tuple[str, ...] = ()

    def metric(self, name: str) -> MetricResult | None:
        """The metric of that name, None if the view has no such metric."""
        return next((metric for metric in self.metrics if metric.name == name), None)


class Comparison(_Result):
    """Every view, and what follows from them."""

    views: dict[str, ViewResult]
    verdict: Verdict

    def metrics(self, model: Literal["weighted", "control"]) -> dict[str, dict[str, float | None]]:
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


def compare(
    views: Mapping[str, ViewData], settings: EvaluationSettings | None = None
) -> Comparison:
    """Judges both models on every view and says whether weighting helped.

    Args:
        views: data by view name; empty views are left out.
        settings: what to measure and how sure to be.

    Raises:
        DataError: labels, grades or predictions are out of range or missing.
    """
    settings = settings or EvaluationSettings()
    results = {
        name: _view_result(views[name], settings)
        for name in VIEWS
        if name in views and views[name].rows
    }
    return Comparison(views=results, verdict=judge(results, settings))


def _view_result(view: ViewData, settings: EvaluationSettings) -> ViewResult:
    resamples = settings.bootstrap.resamples_for(view.rows)
    notes = []
    if resamples < settings.bootstrap.resamples:
        notes.append(
            f"Intervals are from {resamples} resamples instead of {settings.bootstrap.resamples}, "
            f"because the view has {view.rows:,} rows (max_row_resamples)."
        )
    return ViewResult(
        name=view.name,
        rows=view.rows,
        groups=group_codes(view.group)[1],
        group_by=GROUP_BY[view.name],
        confidence=settings.bootstrap.confidence,
        resamples=resamples,
        metrics=_metric_results(view, view_metrics(view, settings), settings.bootstrap, view.name),
        slices=tuple(_slice_results(view, settings)),
        reliability=tuple(_reliability(view, settings.bins)) if view.name == NATURAL else (),
        notes=tuple(notes),
    )


def _metric_results(
    view: ViewData, builders: Mapping[str, MetricBuilder], settings: BootstrapSettings, name: str
) -> tuple[MetricResult, ...]:
    codes, _ = group_codes(view.group)
    whole = np.ones(view.rows)
    weighted = {key: build(view.weighted[_head(key)]) for key, build in builders.items()}
    if view.control is None:
        alone = {key: metric.value(whole) for key, metric in weighted.items()}
        nan = math.nan
        figures = {key: PairedDifference(v, nan, nan, nan, nan) for key, v in alone.items()}
    else:
        control = {key: build(view.control[_head(key)]) for key, build in builders.items()}
        pairs = {key: (weighted[key], control[key]) for key in builders}
        figures = paired_bootstrap(pairs, codes, settings, name)
    return tuple(_metric_result(key, figures[key], weighted[key]) for key in builders)


def _metric_result(name: str, figures: PairedDifference, metric: Metric) -> MetricResult:
    best: Literal["higher", "lower", "one"] = "higher"
    if name.endswith(("_log_loss", "_ece")):
        best = "lower"
    elif name.endswith("_calibration"):
        best = "one"
    return MetricResult(
        name=name,
        best=best,
        weighted=_number(figures.weighted),
        control=_number(figures.control),
        difference=_number(figures.difference),
        low=_number(figures.low),
        high=_number(figures.high),
        left_out=metric.left_out if isinstance(metric, GroupMean) else 0,
    )


def _slice_results(view: ViewData, settings: EvaluationSettings) -> list[SliceResult]:
    quick = settings.bootstrap.model_copy(
        update={"resamples": min(settings.slice_resamples, settings.bootstrap.resamples)}
    )
    results = []
    for column, values in view.slices.items():
        codes, names = pd.factorize(_text(values), sort=True)
        sizes = np.bincount(codes, minlength=len(names))
        largest = np.argsort(-sizes, kind="stable")[: settings.max_slices]
        for code in largest[sizes[largest] >= settings.min_slice_rows]:
            part = view.take(np.flatnonzero(codes == code))
            value = str(names[code])
            builders = {
                name: build
                for name, build in view_metrics(part, settings).items()
                if name.startswith(SLICE_METRICS) and not name.endswith(("_pr", "_relevant"))
            }
            results.append(
                SliceResult(
                    column=column,
                    value=value,
                    rows=part.rows,
                    groups=group_codes(part.group)[1],
                    metrics=_metric_results(part, builders, quick, f"{view.name}/{column}/{value}"),
                )
            )
    return results


def _reliability(view: ViewData, bins: int) -> list[ReliabilityCurve]:
    labels = {CTR: view.click, CTCVR: view.conversion}
    models: dict[Literal["weighted", "control"], Mapping[str, Values] | None] = {
        "weighted": view.weighted,
        "control": view.control,
    }
    curves = []
    for head in view.judged:
        for model, predictions in models.items():
            if predictions is not None:
                points = reliability(np.asarray(labels[head]), predictions[head], bins)
                curves.append(_curve(head, model, points))
    return curves


def _curve(head: str, model: Literal["weighted", "control"], points: Bins) -> ReliabilityCurve:
    return ReliabilityCurve(
        head=head,
        model=model,
        predicted=tuple(points.predicted.tolist()),
        observed=tuple(points.observed.tolist()),
        rows=tuple(points.weight.tolist()),
    )


def _text(values: Values) -> Values:
    decoded = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return np.array(decoded, object)


def _head(metric: str) -> str:
    return metric.split("_", 1)[0]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
