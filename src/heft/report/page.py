"""The HTML page: facts in, one self-contained file out."""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heft.evaluation.results import ViewResult
from heft.report import maps, plots, wording
from heft.report.facts import Facts, parse_facts

__all__ = ["render"]

# The page must stay below 5 MB whatever the run holds.
MAX_SAMPLES = 50


def render(facts: Mapping[str, Any] | Facts) -> str:
    """The report of a run as one HTML document.

    It loads nothing and runs no script; a content security policy in its head
    forbids both, so that text from logs cannot.

    Args:
        facts: as `heft.report.facts.Facts`; absent parts are shown as such.

    Raises:
        DataError: a part is there and of another shape.
    """
    run = facts if isinstance(facts, Facts) else parse_facts(facts)
    views = _views(run)
    page = _environment().get_template("report.html.j2")
    return page.render(
        run=run,
        views=views,
        slices={view.name: _slices(view) for view in views},
        differences={view.name: plots.difference_plot(view) for view in views},
        reliability=_reliability(views),
        histograms=_histograms(run),
        examination=_examination(run),
        clicks=_clicks(run),
        samples=_samples(run),
        maps=maps.map_plots(run.ranking.map) if run.ranking and run.ranking.map else {},
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
    environment.globals |= {
        "headline": wording.headline,
        "why": wording.why,
        "view_text": wording.VIEW_TEXT,
        "sample_reason": wording.sample_reason,
        "shades": wording.shades,
    }
    return environment


def _views(run: Facts) -> list[ViewResult]:
    """The view the verdict rests on first."""
    views = list(run.comparison.views.values()) if run.comparison else []
    return sorted(views, key=lambda view: not run.verdict or view.name != run.verdict.view)


def _slices(view: ViewResult) -> list[dict[str, Any]]:
    """One table for each sliced column: its metrics and its rows."""
    tables = []
    for column in dict.fromkeys(part.column for part in view.slices):
        parts = [part for part in view.slices if part.column == column]
        names = [metric.name for metric in parts[0].metrics]
        tables.append({"column": column, "names": names, "parts": parts})
    return tables


def _reliability(views: list[ViewResult]) -> dict[str, list[Markup]]:
    found = {}
    for view in views:
        heads = dict.fromkeys(curve.head for curve in view.reliability)
        drawn = [plots.reliability_plot(head, view.reliability) for head in heads]
        found[view.name] = [plot for plot in drawn if plot]
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
