"""Facts in words and figures, the same in HTML and Markdown."""

import math
import unicodedata

from heft.report.facts import Facts
from heft.report.parts import Importance, Sample, ScoreSummary

__all__ = [
    "VIEW_TEXT", "count", "duration", "headline", "metric_label", "number", "percent", "plain",
    "sample_reason", "shades", "signed", "why",
]  # fmt: skip

MISSING = "n/a"
_MOST_WORDS = 80

# Name, and what the view is right for.
VIEW_TEXT = {
    "natural": (
        "Natural pages",
        "In the order users saw. Right for calibration and log loss; biased for ranking.",
    ),
    "shuffled": (
        "Shuffled pages",
        "Order was random, so position says nothing. Right for ranking by clicks.",
    ),
    "reweighted": (
        "Natural pages, reweighted",
        "Clicks count by the inverse of how often their position is looked at. Right for ranking.",
    ),
    "graded": (
        "Human grades",
        "Query and item pairs judged by people. Right for ranking by relevance.",
    ),
}

_METRICS = {
    "auc": "AUC",
    "auc_pr": "average precision",
    "auc_relevant": "AUC (relevant or not)",
    "log_loss": "log loss",
    "calibration": "calibration",
    "ece": "ECE",
    "gauc": "GAUC",
}
_HEADS = {"ctr": "Click", "cvr": "Conversion after click", "ctcvr": "Conversion"}


def number(value: float | None, digits: int = 4) -> str:
    """A figure with fixed digits; a minus is the real one."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float | None, digits: int = 4) -> str:
    """A difference, with its sign; a minus is the real one."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:+,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """Whole things, with thousands separated."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def percent(part: float | None, whole: float | None = 1.0) -> str:
    """A share, with one decimal."""
    if part is None or not whole or not math.isfinite(part):
        return MISSING
    return f"{part / whole:.1%}"


def duration(seconds: float | None) -> str:
    """A duration in the unit a person would use."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def plain(value: object, limit: int = 300) -> str:
    """Text from anywhere, made safe to show: no control characters, not endless.

    Escaping for the medium is the caller's. Half surrogates, which cannot be
    written as UTF-8, and control characters become U+FFFD.
    """
    text = str(value)
    length = len(text)
    if length > limit:
        text = text[:limit] + f"… ({length:,} characters)"
    wrong = {"Cc", "Cs"}
    return "".join("\ufffd" if unicodedata.category(c) in wrong else c for c in text)


def metric_label(name: str) -> str:
    """A metric's name for people: `ctr_auc` is "Click AUC"."""
    head, _, metric = name.partition("_")
    if metric.startswith("ndcg_at_"):
        text = f"NDCG@{metric.removeprefix('ndcg_at_')}"
    elif metric.endswith("_by_user"):
        text = f"{_METRICS.get(metric.removesuffix('_by_user'), metric)} by user"
    else:
        text = _METRICS.get(metric, metric.replace("_", " "))
    return f"{_HEADS.get(head, head)} {text}"


def headline(facts: Facts) -> str:
    """Whether the model shipped, in one line."""
    if facts.shipped == "shipped":
        return "Shipped"
    if facts.shipped == "not known":
        return "Not known whether it shipped"
    return "Not shipped" if facts.blessed is not True else "Not shipped, although blessed"


def why(facts: Facts) -> list[str]:
    """Why it shipped or did not, a sentence each; never empty.

    What held the model back stands before the verdict on weighting, because
    weighting can have helped a model that may still not ship.
    """
    verdict = []
    if facts.verdict:
        said = (facts.verdict.sentence, facts.verdict.calibration, facts.verdict.last)
        verdict = [line for line in said if line]
    held_back = list(facts.blessing_reasons)
    if facts.blessed and facts.pushed is False:
        held_back.append("The model was blessed, but not pushed.")
    lines = held_back + verdict if facts.shipped == "not shipped" else verdict + held_back
    # The verdict may itself be a reason.
    return list(dict.fromkeys(lines)) or [
        "No comparison with a control model is available for this run."
    ]


def sample_reason(sample: Sample, importance: Importance) -> str:
    """Why a sample weighs what it weighs, in a sentence.

    Names the position's examination and the scores that stand out among
    samples with the same label.
    """
    if sample.reason:
        return sample.reason
    label = {1: "Clicked", 0: "Not clicked"}.get(sample.click if sample.click is not None else -1)
    parts = [label or "Shown"]
    curve = importance.examination
    if sample.position is not None and sample.position > 0:
        parts[0] += f" at position {sample.position}"
        if curve and sample.position in curve.positions:
            value = curve.values[curve.positions.index(sample.position)]
            parts[0] += f", which is looked at {value:.0%} as often as the first"
    for name, score in sample.scores.items():
        for task in importance.tasks.values():
            if name in task.scores and score is not None:
                place = _place(score, task.scores[name], bool(sample.click))
                parts += [f"{name.replace('_', ' ')} {place}"] if place else []
                break
    return "; ".join(parts) + "."


def shades(sample: Sample, side: str) -> list[tuple[str, str]]:
    """The words of a sample's query or title, and how strongly each speaks for a click.

    A shade is `for1` to `for4`, `against1` to `against4`, or empty for next to nothing, by
    the largest attribution of the sample; `read` joins it where BERT reads the word half as much
    again as an average one, by attention rollout.
    """
    most = max((abs(w.integrated) for own in sample.words.values() for w in own), default=0.0)
    found = []
    own = sample.words.get(side, [])[:_MOST_WORDS]
    average = sum(word.rollout for word in own) / max(len(own), 1)
    for word in own:
        step = round(4 * abs(word.integrated) / most) if most > 0 else 0
        shade = f"{'for' if word.integrated > 0 else 'against'}{step}" if step else ""
        read = "read" if word.rollout > 1.5 * average else ""
        found.append((word.text, f"{shade} {read}".strip()))
    return found


def _place(score: float, known: ScoreSummary, positive: bool) -> str | None:
    """Where a score stands among its label's, if it stands out."""
    quantiles = known.positive if positive else known.negative
    among = "clicks" if positive else "samples without a click"
    if len(quantiles) != len(known.points):
        return None
    pairs = [(p, q) for p, q in zip(known.points, quantiles, strict=True) if q is not None]
    below = [p for p, q in pairs if p <= 0.1 and score <= q]
    above = [p for p, q in pairs if p >= 0.9 and score >= q]
    if below and not above:
        return f"among the lowest {min(below):.0%} of {among}"
    if above and not below:
        return f"among the highest {1 - max(above):.0%} of {among}"
    return None
