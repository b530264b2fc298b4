"""Plots as inline SVG that take their colours from the page.

Matplotlib draws with stand-in colours, which become CSS variables, so that one
file is right in light and dark. Text stays text: it can be searched, and a
screen reader finds it.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heft.evaluation.results import MetricResult, ReliabilityCurve, ViewResult
from heft.report.parts import ClickLines, Examination, Histogram, Shap
from heft.report.wording import metric_label, plain

__all__ = [
    "click_plot", "difference_plot", "examination_plot", "histogram_plot", "reliability_plot",
    "seconds_plot", "shap_plot", "svg", "training_plot",
]  # fmt: skip

# Stand-in, and what the page's style sheet calls it.
INK, FAINT, WEIGHTED, CONTROL = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "--ink", FAINT: "--line", WEIGHTED: "--weighted", CONTROL: "--control"}
_COLOURS = {"weighted": WEIGHTED, "control": CONTROL, "baseline": INK}
_MOST_FEATURES = 20
_POINTS = 0.1  # correlations of a feature and its SHAP values below this point nowhere

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a dollar
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def difference_plot(view: ViewResult) -> Markup | None:
    """Differences of a view's ranking metrics with their intervals, one row a metric."""
    drawn = [
        (metric, metric.difference, metric.low, metric.high)
        for metric in view.metrics
        if any(kind in metric.name for kind in ("_auc", "_gauc", "_ndcg"))
        and metric.difference is not None
        and metric.low is not None
        and metric.high is not None
    ]
    if not drawn:
        return None

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1)
        for place, (metric, difference, low, high) in enumerate(drawn):
            axes.plot([low, high], [place, place], color=_side(metric), linewidth=3)
            axes.plot([difference], [place], "o", color=_side(metric), markersize=6)
        axes.set_yticks(range(len(drawn)), [metric_label(row[0].name) for row in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("weighted − control")
        axes.xaxis.set_major_locator(MaxNLocator(5))

    return svg(f"differences on {view.name} pages", draw, height=0.7 + 0.27 * len(drawn))


def histogram_plot(task: str, histogram: Histogram) -> Markup | None:
    """Share of each label's samples by weight."""
    edges = np.asarray(histogram.edges)
    series = (("positive", histogram.positive, WEIGHTED), ("negative", histogram.negative, CONTROL))
    drawn = [(n, np.asarray(c), colour) for n, c, colour in series if len(c) == len(edges) - 1]
    drawn = [(name, counts, colour) for name, counts, colour in drawn if counts.sum() > 0]
    if not drawn:
        return None

    def draw(axes: Axes) -> None:
        for name, counts, colour in drawn:
            share = counts / counts.sum()
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(share, edges, color=colour, label=f"{name} ({counts.sum():,.0f})")
        axes.set_xlabel("positive weight w⁺")
        axes.set_ylabel("share of its label")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend()

    return svg(f"weights of {task}", draw)


def examination_plot(curve: Examination) -> Markup | None:
    """Examination by position."""
    if not curve.values or len(curve.values) != len(curve.positions):
        return None

    def draw(axes: Axes) -> None:
        axes.plot(curve.positions, curve.values, "o-", color=WEIGHTED, markersize=4)
        axes.set_ylim(0, None)
        axes.set_xlabel("position on the page")
        axes.set_ylabel("looked at, first = 1")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return svg("examination by position", draw)


def click_plot(lines: ClickLines) -> Markup | None:
    """How often what attracts most and what attracts least is clicked, by position."""
    sizes = {len(lines.positions), len(lines.slope), len(lines.offset)}
    if len(sizes) != 1 or not lines.positions:
        return None
    offset = np.asarray(lines.offset)

    def draw(axes: Axes) -> None:
        most = offset + lines.slope
        axes.plot(
            lines.positions, most, "o-", color=WEIGHTED, markersize=4, label="attracts everybody"
        )
        axes.plot(
            lines.positions, offset, "o-", color=CONTROL, markersize=4, label="attracts nobody"
        )
        axes.set_ylim(0, None)
        axes.set_xlabel("position on the page")
        axes.set_ylabel("probability of a click")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return svg("clicks by position", draw)


def training_plot(model: str, curves: dict[str, list[float | None]]) -> Markup | None:
    """Losses of one model by epoch: solid for training, dashed for tuning data."""
    drawn = {name: values for name, values in curves.items() if name in ("loss", "val_loss")}
    if not any(drawn.values()):
        return None

    def draw(axes: Axes) -> None:
        for name, values in drawn.items():
            epochs = range(1, len(values) + 1)
            heights = np.array(values, np.float64)
            style = "o--" if name == "val_loss" else "o-"
            label = "tuning" if name == "val_loss" else "training"
            colour = _COLOURS.get(model, WEIGHTED)
            axes.plot(epochs, heights, style, color=colour, markersize=3, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return svg(f"training of {model}", draw)


def reliability_plot(head: str, curves: Sequence[ReliabilityCurve]) -> Markup | None:
    """Mean label against mean prediction in equal-mass bins; the diagonal is right."""
    # A model that says the same of every row has one point, and no curve.
    drawn = [curve for curve in curves if curve.head == head and len(curve.predicted) > 1]
    if not drawn:
        return None
    top = max(max(curve.predicted + curve.observed) for curve in drawn) * 1.05

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=INK, linewidth=0.8, linestyle=":")
        for curve in drawn:
            axes.plot(
                curve.predicted,
                curve.observed,
                "o-",
                color=_COLOURS[curve.model],
                label=curve.model,
                markersize=4,
                linewidth=1.2,
            )
        axes.set_xlabel("predicted")
        axes.set_ylabel("observed")
        axes.legend()

    return svg(f"reliability of {head}", draw)


def seconds_plot(seconds: dict[str, float]) -> Markup | None:
    """Seconds by node, in the order in which they ran."""
    if not seconds:
        return None
    names = [plain(name)[:28] for name in seconds]

    def draw(axes: Axes) -> None:
        places = range(len(names))
        bars = axes.barh(places, list(seconds.values()), color=WEIGHTED, height=0.6)
        axes.set_yticks(places, names)
        axes.bar_label(bars, [f" {value:,.1f} s" for value in seconds.values()])
        axes.margins(x=0.18)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds")

    return svg("seconds by node", draw, height=0.9 + 0.28 * len(names))


def shap_plot(shap: Shap) -> Markup | None:
    """Mean |SHAP| of the features that count most, coloured by which way they point."""
    drawn = shap.features[:_MOST_FEATURES]
    if not drawn:
        return None
    names = [plain(feature.name)[:34] for feature in drawn]
    colours = []
    for feature in drawn:
        way = feature.direction or 0.0
        colours.append(INK if abs(way) < _POINTS else WEIGHTED if way > 0 else CONTROL)

    def draw(axes: Axes) -> None:
        places = range(len(names))
        bars = axes.barh(places, [feature.mean for feature in drawn], color=colours, height=0.6)
        for bar, colour in zip(bars, colours, strict=True):
            bar.set_alpha(0.35 if colour == INK else 1)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("mean |SHAP|, log odds of a click")

    return svg("SHAP values by feature", draw, height=0.7 + 0.25 * len(names))


def _side(metric: MetricResult) -> str:
    return {"weighted": WEIGHTED, "control": CONTROL, None: INK}[metric.better]


def svg(title: str, draw: Callable[[Axes], None], height: float = 2.7) -> Markup:
    """One plot as an inline SVG element, `height` inches of 5.2 wide."""
    title = plain(title, 80)
    # The salt makes ids differ between plots and agree between runs.
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Markup(_inline(buffer.getvalue(), title))


def _inline(document: str, title: str) -> str:
    """The SVG element alone, its colours the page's, its ids only those that are used."""
    head, body = document[document.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    for colour, variable in _VARIABLES.items():
        body = re.sub(rf"\b(fill|stroke): {colour}", rf"\1: var({variable})", body)
    # Matplotlib's style sheet would reach the whole page.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", body)
    return f'<svg role="img" aria-label="{escape(title)}" {box[0] if box else ""}>{body}'
