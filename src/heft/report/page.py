"""The HTML page: facts in, one self-contained file out."""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heft.evaluation.results import MetricResult, SliceResult, ViewResult
from heft.report import maps, plots, wording
from heft.report.facts import Facts, parse_facts

__all__ = ["render"]

# The page must stay below 5 MB whatever the run holds.
MAX_SAMPLES = 50
MAX_SLICE_ROWS = 3_000

_SECTIONS = (
    ("rows", "Rows"), ("texts", "Texts"), ("weights", "Weights"), ("samples", "Samples"),
    ("training", "Training"), ("metrics", "Metrics"), ("slices", "Slices"),
    ("calibration", "Calibration"), ("fairness", "Fairness"), ("features", "Features"),
    ("shap", "SHAP"), ("lineage", "Lineage"), ("time", "Time"),
)  # fmt: skip


def render(facts: Mapping[str, Any] | Facts) -> str:
    """The report of a run as one HTML document.

    It loads nothing; a content security policy in its head forbids that, and any script but
    the one it was written with, so that text from logs can do neither.

    Args:
        facts: as `heft.report.facts.Facts`; absent parts are shown as such.

    Raises:
        DataError: a part is there and of another shape.
    """
    run = facts if isinstance(facts, Facts) else parse_facts(facts)
    views = _views(run)
    script = resources.files("heft.report").joinpath("templates/report.js").read_text("utf-8")
    page = _environment().get_template("report.html.j2")
    return page.render(
        run=run,
        views=views,
        sections=_SECTIONS,
        script=Markup(script),
        script_hash=_hash(script),
        **_slices(views),
        weight_columns=_columns(part.column for part in _weight_slices(run)),
        differences={view.name: plots.difference_plot(view) for view in views},
        reliability=_reliability(views),
        histograms=_histograms(run),
        examination=_examination(run),
        clicks=_clicks(run),
        samples=_samples(run),
        maps=maps.map_plots(run.ranking.map) if run.ranking and run.ranking.map else {},
        shap=plots.shap_plot(run.ranking.shap) if run.ranking and run.ranking.shap else None,
        training=_training(run),
        seconds=plots.seconds_plot(run.seconds),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("heft.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("count", "duration", "metric_label", "number", "percent", "plain", "signed")
    environment.filters |= {name: getattr(wording, name) for name in words}
    environment.filters["anchor"] = lambda text: re.sub(r"\W+", "-", str(text))
    environment.filters["key"] = _key
    environment.globals |= {
        "headline": wording.headline,
        "why": wording.why,
        "view_text": wording.VIEW_TEXT,
        "sample_reason": wording.sample_reason,
        "shades": wording.shades,
    }
    return environment


def _hash(script: str) -> str:
    """The script as a content security policy knows it."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _key(value: float | None) -> str:
    """What a figure is sorted by; empty for what is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:.10g}"


def _views(run: Facts) -> list[ViewResult]:
    """The view the verdict rests on first."""
    views = list(run.comparison.views.values()) if run.comparison else []
    return sorted(views, key=lambda view: not run.verdict or view.name != run.verdict.view)


def _slices(views: list[ViewResult]) -> dict[str, Any]:
    """Every metric of every slice, and what the page filters them by."""
    rows: list[tuple[str, SliceResult, MetricResult]] = [
        (view.name, part, metric)
        for view in views
        for part in view.slices
        for metric in part.metrics
    ]
    # Of too many those with the fewest rows are left out.
    kept = sorted(range(len(rows)), key=lambda k: (-rows[k][1].rows, k))[:MAX_SLICE_ROWS]
    found = [rows[k] for k in sorted(kept)]
    metrics = list(dict.fromkeys(metric.name for _, _, metric in found))
    return {
        "slices": found,
        "slice_count": len(rows),
        "slice_views": [
            (view.name, wording.VIEW_TEXT[view.name][0]) for view in views if view.slices
        ],
        "slice_columns": _columns(part.column for _, part, _ in found),
        "slice_metrics": [(name, wording.metric_label(name)) for name in metrics],
    }


def _columns(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, name) for name in dict.fromkeys(names)]


def _weight_slices(run: Facts) -> list[Any]:
    return run.importance.slices if run.importance else []


def _reliability(views: list[ViewResult]) -> dict[str, Markup]:
    found = {}
    for view in views:
        for head in dict.fromkeys(curve.head for curve in view.reliability):
            drawn = plots.reliability_plot(head, view.reliability)
            if drawn:
                found[head] = drawn
    return found


def _histograms(run: Facts) -> dict[str, Markup]:
    tasks = run.importance.tasks if run.importance else {}
    drawn = {
        task: plots.histogram_plot(task, part.histograms)
        for task, part in tasks.items()
        if part.histograms
    }
    return {task: plot for task, plot in drawn.items() if plot}


def _examination(run: Facts) -> Markup | None:
    curve = run.importance.examination if run.importance else None
    return plots.examination_plot(curve) if curve else None


def _clicks(run: Facts) -> Markup | None:
    """Without trust the lines say no more than the examination curve."""
    lines = run.importance.clicks if run.importance else None
    return plots.click_plot(lines) if lines and any(lines.offset) else None


def _samples(run: Facts) -> dict[str, list[Any]]:
    samples = run.importance.samples if run.importance else {}
    return {name: rows[:MAX_SAMPLES] for name, rows in samples.items() if rows}


def _training(run: Facts) -> dict[str, Markup]:
    drawn = {model: plots.training_plot(model, curves) for model, curves in run.training.items()}
    return {model: plot for model, plot in drawn.items() if plot}
