"""Whether weighting helped, in one word and in one sentence.

Ranking is judged on the least biased view there is: human grades, else pages
whose order was shuffled, else natural pages, which favour whatever repeats the
old ranking, and then the sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from heft.evaluation.views import EvaluationSettings
from heft.features import CTR, GRADED, NATURAL, SHUFFLED

if TYPE_CHECKING:
    from heft.evaluation.comparison import MetricResult, ViewResult

__all__ = ["Outcome", "Verdict", "judge"]

Outcome = Literal["helped", "harmed", "no difference shown", "not compared"]

# Shuffled pages are compared page by page: short pages have only top positions, and so
# more clicks on anything they show, which a model must not be praised for knowing.
_RANKING = {GRADED: f"{CTR}_auc", SHUFFLED: f"{CTR}_gauc", NATURAL: f"{CTR}_auc"}
_METRIC_TEXT = {f"{CTR}_auc": "AUC of clicks", f"{CTR}_gauc": "AUC of clicks within a page"}
_VIEW_TEXT = {
    GRADED: "on human grades",
    SHUFFLED: "on pages whose order was shuffled",
    NATURAL: "on natural pages",
}


class Verdict(BaseModel):
    """What the comparison comes to.

    `view` and `metric` are what it rests on, `biased` is true if that view
    favours the old ranking. `sentence` is for people; `calibration` is the
    sentence about the natural view, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    sentence: str
    view: str | None = None
    metric: str | None = None
    biased: bool = False
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    calibration: str | None = None


def judge(views: Mapping[str, ViewResult], settings: EvaluationSettings) -> Verdict:
    """The verdict on ranking, from one view.

    Weighting harmed if the whole interval of the AUC's difference lies below
    -tolerance, helped if it lies above 0.
    """
    calibration = _calibration_sentence(views.get(NATURAL))
    view = _unbiased(views, settings) or _usable(views.get(NATURAL))
    if view is None:
        reason = "Not compared: no view has both a weighted and a control model to judge."
        return Verdict(outcome="not compared", sentence=reason, calibration=calibration)
    metric = view.metric(_RANKING[view.name])
    assert metric is not None  # _usable asked for it
    outcome = _outcome(metric, settings.tolerance)
    return Verdict(
        outcome=outcome,
        sentence=_sentence(outcome, view, metric, settings),
        view=view.name,
        metric=metric.name,
        biased=view.name == NATURAL,
        difference=metric.difference,
        low=metric.low,
        high=metric.high,
        calibration=calibration,
    )


def _unbiased(views: Mapping[str, ViewResult], settings: EvaluationSettings) -> ViewResult | None:
    for name in (GRADED, SHUFFLED):
        view = _usable(views.get(name))
        if view and view.rows >= settings.min_rows and view.groups >= settings.min_groups:
            return view
    return None


def _usable(view: ViewResult | None) -> ViewResult | None:
    metric = view.metric(_RANKING[view.name]) if view else None
    return view if metric and metric.difference is not None else None


def _outcome(metric: MetricResult, tolerance: float) -> Outcome:
    if metric.low is None or metric.high is None:
        return "no difference shown"
    if metric.high < -tolerance:
        return "harmed"
    return "helped" if metric.low > 0 else "no difference shown"


def _sentence(
    outcome: Outcome, view: ViewResult, metric: MetricResult, settings: EvaluationSettings
) -> str:
    opening = {
        "helped": "Weighting helped",
        "harmed": "Weighting harmed",
        "no difference shown": "No difference shown",
        "not compared": "Not compared",
    }[outcome]
    noun = {"query": "queries", "request": "requests"}[view.group_by]
    text = (
        f"{opening}: {_VIEW_TEXT[view.name]} ({view.rows:,} rows, {view.groups:,} {noun}) the "
        f"{_METRIC_TEXT[metric.name]} is {metric.weighted:.4f} with weights and "
        f"{metric.control:.4f} without, a difference of {metric.difference:+.4f}"
    )
    if metric.low is None or metric.high is None:
        text += ", and there is too little data for an interval."
    else:
        text += f" ({view.confidence:.0%} interval {metric.low:+.4f} to {metric.high:+.4f})."
    if outcome == "no difference shown" and metric.high is not None and metric.high < 0:
        text += f" The loss is within the tolerance of {settings.tolerance}."
    if view.name == NATURAL:
        text += (
            " This view is biased by position: no unbiased view (human grades, shuffled pages) "
            "was large enough to judge ranking on."
        )
    return text


def _calibration_sentence(view: ViewResult | None) -> str | None:
    metric = view.metric(f"{CTR}_calibration") if view else None
    if metric is None or metric.weighted is None:
        return None
    text = f"On natural pages the weighted model predicts {metric.weighted:.2f} clicks for each "
    text += "click seen"
    if metric.control is not None:
        text += f", the control {metric.control:.2f}"
    return text + "."
