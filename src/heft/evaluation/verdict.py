"""Whether weighting helped, in one word and in one sentence, and what speaks against the model.

Ranking is judged on the least biased view there is: human grades, else pages
whose order was shuffled, else natural pages with clicks counted by inverse propensity,
else natural pages as they are, which favour whatever repeats the old ranking, and then
the sentence says so. Calibration is judged on natural pages alone.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from heft.evaluation.results import MetricResult, Outcome, Verdict, ViewResult
from heft.evaluation.settings import EvaluationSettings
from heft.evaluation.views import REWEIGHTED
from heft.features import CTCVR, CTR, GRADED, NATURAL, SHUFFLED

__all__ = ["SUSPICIOUS", "Outcome", "Verdict", "judge"]

SUSPICIOUS = "Suspicious"  # how the objection begins

# Shuffled pages are compared page by page: short pages have only top positions, and so
# more clicks on anything they show, which a model must not be praised for knowing.
_RANKING = {
    GRADED: f"{CTR}_auc",
    SHUFFLED: f"{CTR}_gauc",
    REWEIGHTED: f"{CTR}_auc",
    NATURAL: f"{CTR}_auc",
}
_METRIC_TEXT = {
    f"{CTR}_auc": "AUC of clicks",
    f"{CTR}_gauc": "AUC of clicks within a page",
    f"{CTCVR}_auc": "AUC of conversions",
}
_VIEW_TEXT = {
    GRADED: "on human grades",
    SHUFFLED: "on pages whose order was shuffled",
    REWEIGHTED: "on natural pages with clicks counted by inverse propensity",
    NATURAL: "on natural pages",
}


def judge(
    views: Mapping[str, ViewResult], settings: EvaluationSettings, against_last: bool = False
) -> Verdict:
    """The verdict on ranking, from one view, and every objection to the model.

    Weighting harmed if the whole interval of the AUC's difference lies below
    -tolerance, helped if it lies above 0.

    Args:
        views: what was measured.
        settings: tolerances.
        against_last: the baseline is the last blessed model, to which the model must not lose.
    """
    natural = views.get(NATURAL)
    view = _unbiased(views, settings) or _usable(natural)
    metric = view.metric(_RANKING[view.name]) if view else None
    calibration = _calibration_sentence(natural)
    objections = [*_suspicious(views, settings), *_unfair(natural)]
    if harm := _calibration_harm(natural, settings):
        objections.insert(0, harm)
    last = _against_last(views, settings) if against_last else None
    if last and last[0] == "harmed":
        objections.insert(0, last[1])
    if view is None or metric is None or metric.difference is None:
        reason = "Not compared: no view has both a weighted and a control model to judge."
        return Verdict(
            outcome="not compared",
            sentence=reason,
            calibration=calibration,
            last=last[1] if last else None,
            objections=tuple(objections),
        )
    outcome = _outcome(metric.low, metric.high, settings.tolerance)
    sentence = _sentence(outcome, view, metric, settings)
    if outcome == "harmed":
        objections.insert(0, sentence)
    return Verdict(
        outcome=outcome,
        sentence=sentence,
        view=view.name,
        metric=metric.name,
        biased=view.name == NATURAL,
        difference=metric.difference,
        low=metric.low,
        high=metric.high,
        calibration=calibration,
        last=last[1] if last else None,
        objections=tuple(objections),
    )


def _unbiased(
    views: Mapping[str, ViewResult],
    settings: EvaluationSettings,
    versus: Literal["difference", "versus_baseline"] = "difference",
) -> ViewResult | None:
    for name in (GRADED, SHUFFLED, REWEIGHTED):
        view = _usable(views.get(name), versus)
        if view and view.rows >= settings.min_rows and view.groups >= settings.min_groups:
            return view
    return None


def _usable(
    view: ViewResult | None, versus: Literal["difference", "versus_baseline"] = "difference"
) -> ViewResult | None:
    metric = view.metric(_RANKING[view.name]) if view else None
    return view if metric and getattr(metric, versus) is not None else None


def _outcome(low: float | None, high: float | None, tolerance: float) -> Outcome:
    if low is None or high is None:
        return "no difference shown"
    if high < -tolerance:
        return "harmed"
    return "helped" if low > 0 else "no difference shown"


def _sentence(
    outcome: Outcome, view: ViewResult, metric: MetricResult, settings: EvaluationSettings
) -> str:
    opening = {
        "helped": "Weighting helped",
        "harmed": "Weighting harmed",
        "no difference shown": "No difference shown",
        "not compared": "Not compared",
    }[outcome]
    text = (
        f"{opening}: {_VIEW_TEXT[view.name]} {_size(view)} the "
        f"{_METRIC_TEXT[metric.name]} is {metric.weighted:.4f} with weights and "
        f"{metric.control:.4f} without, a difference of {metric.difference:+.4f}"
    )
    text += _interval_text(metric.low, metric.high, view)
    if outcome == "no difference shown" and metric.high is not None and metric.high < 0:
        text += f" The loss is within the tolerance of {settings.tolerance}."
    if view.name == NATURAL:
        text += (
            " This view is biased by position: no unbiased view (human grades, shuffled pages) "
            "was large enough to judge ranking on."
        )
    return text


def _size(view: ViewResult) -> str:
    noun = {"query": "queries", "request": "requests"}[view.group_by]
    return f"({view.rows:,} rows, {view.groups:,} {noun})"


def _interval_text(low: float | None, high: float | None, view: ViewResult) -> str:
    if low is None or high is None:
        return ", and there is too little data for an interval."
    return f" ({view.confidence:.0%} interval {low:+.4f} to {high:+.4f})."


def _calibration_sentence(view: ViewResult | None) -> str | None:
    metric = view.metric(f"{CTR}_calibration") if view else None
    if metric is None or metric.weighted is None:
        return None
    text = f"On natural pages the weighted model predicts {metric.weighted:.2f} clicks for each "
    text += "click seen"
    if metric.control is not None:
        text += f", the control {metric.control:.2f}"
    return text + "."


def _calibration_harm(view: ViewResult | None, settings: EvaluationSettings) -> str | None:
    """What is surely worse calibrated than its control, by more than is put up with."""
    metric = view.metric(f"{CTR}_ece") if view else None
    if view is None or metric is None or metric.low is None:
        return None
    if metric.low <= settings.calibration_tolerance:
        return None
    return (
        f"Weighting harmed calibration: on natural pages {_size(view)} the calibration error of "
        f"clicks (ECE) is {metric.weighted:.4f} with weights and {metric.control:.4f} without, "
        f"a difference of {metric.difference:+.4f}{_interval_text(metric.low, metric.high, view)} "
        f"More than the tolerance of {settings.calibration_tolerance} is lost."
    )


def _against_last(
    views: Mapping[str, ViewResult], settings: EvaluationSettings
) -> tuple[Outcome, str] | None:
    """The model beside the last blessed one, on the view that ranking is judged on."""
    view = _unbiased(views, settings, "versus_baseline")
    view = view or _usable(views.get(NATURAL), "versus_baseline")
    metric = view.metric(_RANKING[view.name]) if view else None
    if view is None or metric is None or metric.versus_baseline is None:
        return None
    low, high = metric.versus_baseline_interval or (None, None)
    outcome = _outcome(low, high, settings.tolerance)
    opening = {"harmed": "Worse than the last blessed model", "helped": "Better than the last"}
    text = (
        f"{opening.get(outcome, 'Not shown to differ from the last blessed model')}: "
        f"{_VIEW_TEXT[view.name]} {_size(view)} the {_METRIC_TEXT[metric.name]} is "
        f"{metric.weighted:.4f} and was {metric.baseline:.4f}, a difference of "
        f"{metric.versus_baseline:+.4f}{_interval_text(low, high, view)}"
    )
    return outcome, text


def _suspicious(views: Mapping[str, ViewResult], settings: EvaluationSettings) -> Iterator[str]:
    """People are not that predictable: a label, or what follows from it, is among the features."""
    for name in (NATURAL, SHUFFLED):
        for head in (CTR, CTCVR):
            metric = views[name].metric(f"{head}_auc") if name in views else None
            auc = metric.weighted if metric else None
            if auc is not None and auc >= settings.suspicious_auc:
                yield (
                    f"{SUSPICIOUS}: {_VIEW_TEXT[name]} the {_METRIC_TEXT[f'{head}_auc']} is "
                    f"{auc:.4f}, and people are not that predictable. Look for a feature that is "
                    f"known only after the click (suspicious_auc={settings.suspicious_auc})."
                )
                break


def _unfair(view: ViewResult | None) -> Iterator[str]:
    for gap in view.fairness if view else ():
        if gap.too_large:
            what = gap.metric.replace("_", " ")
            yield (
                f"Unfair: the {what} of clicks differs by {gap.gap:.3f} between "
                f"{gap.column}={gap.highest} and {gap.column}={gap.lowest}, and the limit is "
                f"{gap.limit}."
            )
