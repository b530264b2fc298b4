"""The weighted model against its control and a baseline, on the same rows, view by view.

Views are never mixed: every figure names the one view it is from.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from heft.evaluation.bootstrap import BootstrapSettings, Drawn, draw_metrics, interval_of
from heft.evaluation.fairness import fairness_gaps, text_values
from heft.evaluation.grouped import group_codes
from heft.evaluation.metrics import Bins, reliability
from heft.evaluation.results import (
    Comparison,
    Interval,
    MetricResult,
    Model,
    ReliabilityCurve,
    SliceResult,
    ViewResult,
)
from heft.evaluation.settings import EvaluationSettings
from heft.evaluation.verdict import judge
from heft.evaluation.views import (
    GROUP_BY,
    VIEWS,
    MetricBuilder,
    ViewData,
    by_user,
    view_metrics,
)
from heft.features import CTCVR, CTR, NATURAL

__all__ = ["BASE_RATE", "LAST_BLESSED", "compare"]

# What the third model can be.
LAST_BLESSED, BASE_RATE = "last blessed model", "base rate"

# What is worth an interval in every slice; the rest would be a wall of numbers.
_IN_SLICES = (
    f"{CTR}_auc", f"{CTR}_gauc", f"{CTR}_ndcg", f"{CTR}_log_loss", f"{CTR}_calibration",
    f"{CTR}_ece", f"{CTCVR}_auc", f"{CTCVR}_calibration",
)  # fmt: skip
_NOT_IN_SLICES = ("_pr", "_relevant", "_by_user")


def compare(
    views: Mapping[str, ViewData],
    settings: EvaluationSettings | None = None,
    baseline: str | None = None,
) -> Comparison:
    """Judges the models on every view and says whether weighting helped.

    Args:
        views: data by view name; empty views are left out.
        settings: what to measure and how sure to be.
        baseline: what the baseline model of the views is, if they have one.

    Raises:
        DataError: labels, grades or predictions are out of range or missing.
    """
    settings = settings or EvaluationSettings()
    results = {
        name: _view_result(views[name], settings)
        for name in VIEWS
        if name in views and views[name].rows
    }
    verdict = judge(results, settings, against_last=baseline == LAST_BLESSED)
    return Comparison(views=results, verdict=verdict, baseline=baseline)


def _view_result(view: ViewData, settings: EvaluationSettings) -> ViewResult:
    resamples = settings.bootstrap.resamples_for(view.rows)
    notes = []
    if resamples < settings.bootstrap.resamples:
        notes.append(
            f"Intervals are from {resamples} resamples instead of {settings.bootstrap.resamples}, "
            f"because the view has {view.rows:,} rows (max_row_resamples)."
        )
    natural = view.name == NATURAL
    return ViewResult(
        name=view.name,
        rows=view.rows,
        groups=group_codes(view.group)[1],
        group_by=GROUP_BY[view.name],
        confidence=settings.bootstrap.confidence,
        resamples=resamples,
        metrics=_metric_results(view, view_metrics(view, settings), settings.bootstrap, view.name),
        slices=tuple(_slice_results(view, settings)),
        reliability=tuple(_reliability(view, settings.bins)) if natural else (),
        fairness=fairness_gaps(view, settings) if natural else (),
        notes=tuple(notes),
    )


def _metric_results(
    view: ViewData, builders: Mapping[str, MetricBuilder], settings: BootstrapSettings, name: str
) -> tuple[MetricResult, ...]:
    built = {
        (key, model): build(heads[_head(key)])
        for key, build in builders.items()
        for model, heads in view.models.items()
    }
    left_out = {key: getattr(built[key, "weighted"], "left_out", 0) for key in builders}
    # A constant has no luck: of a base rate no resample is worth its time.
    fixed = {model for model, heads in view.models.items() if not np.ptp(heads[CTR])}
    whole = np.ones(view.rows)
    drawn: dict[tuple[str, Model], Drawn] = {
        at: Drawn(metric.value(whole), np.empty(0))
        for at, metric in built.items()
        if at[1] in fixed
    }
    # Whole users are drawn for what is averaged over users.
    for users in (False, True):
        own = {a: m for a, m in built.items() if by_user(a[0]) is users and a[1] not in fixed}
        if own:
            codes, _ = group_codes(np.asarray(view.user) if users else view.group)
            drawn |= draw_metrics(own, codes, settings, name)
    confidence = settings.confidence
    return tuple(
        _metric_result(key, {m: drawn[key, m] for m in view.models}, left_out[key], confidence)
        for key in builders
    )


def _metric_result(
    name: str, drawn: Mapping[Model, Drawn], left_out: int, confidence: float
) -> MetricResult:
    best: Literal["higher", "lower", "one"] = "higher"
    if name.endswith(("_log_loss", "_ece")):
        best = "lower"
    elif name.endswith("_calibration"):
        best = "one"
    weighted, control, baseline = (drawn.get(m) for m in ("weighted", "control", "baseline"))
    assert weighted is not None
    change, change_interval = _difference(weighted, control, confidence)
    last, last_interval = _difference(weighted, baseline, confidence)
    # Resamples repeat rows, and bins of fewer distinct rows lie further from the diagonal: the
    # interval of an ECE would lie beside it. A difference of two has that on either side.
    own = {m: d for m, d in drawn.items() if not name.endswith("_ece")}
    return MetricResult(
        name=name,
        best=best,
        weighted=_number(weighted.value),
        control=_number(control.value) if control else None,
        difference=change,
        low=change_interval[0] if change_interval else None,
        high=change_interval[1] if change_interval else None,
        left_out=left_out,
        baseline=_number(baseline.value) if baseline else None,
        weighted_interval=_interval(own.get("weighted"), confidence),
        control_interval=_interval(own.get("control"), confidence),
        baseline_interval=_interval(own.get("baseline"), confidence),
        versus_baseline=last,
        versus_baseline_interval=last_interval,
    )


def _difference(
    weighted: Drawn, other: Drawn | None, confidence: float
) -> tuple[float | None, Interval | None]:
    if other is None:
        return None, None
    if weighted.resampled.size != other.resampled.size:
        return _number(weighted.value - other.value), None
    difference = weighted.value - other.value
    between = Drawn(difference, weighted.resampled - other.resampled)
    return _number(difference), _interval(between, confidence)


def _slice_results(view: ViewData, settings: EvaluationSettings) -> list[SliceResult]:
    quick = settings.bootstrap.model_copy(
        update={"resamples": min(settings.slice_resamples, settings.bootstrap.resamples)}
    )
    results = []
    for column, values in view.slices.items():
        codes, names = pd.factorize(text_values(values), sort=True)
        sizes = np.bincount(codes, minlength=len(names))
        largest = np.argsort(-sizes, kind="stable")[: settings.max_slices]
        if len(names) < 2:
            continue
        for code in largest[sizes[largest] >= settings.min_slice_rows]:
            part = view.take(np.flatnonzero(codes == code))
            value = str(names[code])
            builders = {
                name: build
                for name, build in view_metrics(part, settings).items()
                if name.startswith(_IN_SLICES) and not name.endswith(_NOT_IN_SLICES)
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
    return [
        _curve(head, model, reliability(np.asarray(labels[head]), predictions[head], bins))
        for head in view.judged
        for model, predictions in view.models.items()
    ]


def _curve(head: str, model: Model, points: Bins) -> ReliabilityCurve:
    return ReliabilityCurve(
        head=head,
        model=model,
        predicted=tuple(points.predicted.tolist()),
        observed=tuple(points.observed.tolist()),
        rows=tuple(points.weight.tolist()),
    )


def _head(metric: str) -> str:
    return metric.split("_", 1)[0]


def _interval(drawn: Drawn | None, confidence: float) -> Interval | None:
    if drawn is None:
        return None
    low, high = interval_of(drawn.resampled, confidence)
    return (low, high) if math.isfinite(low) else None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
