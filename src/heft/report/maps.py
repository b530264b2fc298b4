"""The map of titles, coloured by category and by importance."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from heft.report.parts import TitleMap
from heft.report.plots import FAINT, INK, svg
from heft.report.wording import plain

__all__ = ["map_plots"]

# Okabe and Ito's colours, told apart by colour-blind readers as well; the rest is grey.
_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100")
_OTHER = "#8a8f96"
# Light to heavy, readable on white and on black.
_STEPS = ("#2f6fb5", "#7fb2d9", "#9a9a9a", "#ee9468", "#c0362c")

Array = np.ndarray


def map_plots(titles: TitleMap) -> dict[str, Markup]:
    """Two plots by what colours them; no categories without at least two."""
    if len({len(part) for part in vars(titles).values()}) != 1 or not titles.x:
        return {}
    x, y = np.asarray(titles.x), np.asarray(titles.y)
    drawn = {}
    if len(set(titles.category)) > 1:
        groups = _by_category(titles.category)
        drawn["By category"] = svg("titles by category", lambda axes: _draw(axes, x, y, groups), 4)
    groups = _by_importance(np.asarray(titles.importance))
    drawn["By importance"] = svg("titles by importance", lambda axes: _draw(axes, x, y, groups), 4)
    return drawn


Groups = list[tuple[str, str, Array]]


def _by_category(category: list[str]) -> Groups:
    """The largest categories, and the rest first, so that it lies below."""
    values, counts = np.unique(category, return_counts=True)
    named = [str(v) for v in values[np.argsort(-counts, kind="stable")] if v not in ("", "other")]
    named = named[: len(_PALETTE)]
    array = np.asarray(category)
    rest = ~np.isin(array, named)
    groups = [("other", _OTHER, rest)] if rest.any() else []
    return groups + [
        (plain(name, 22), colour, array == name)
        for name, colour in zip(named, _PALETTE, strict=False)
    ]


def _by_importance(importance: Array) -> Groups:
    """Fifths of the titles, the lightest first."""
    edges = np.quantile(importance, np.linspace(0, 1, len(_STEPS) + 1))
    fifth = np.clip(np.searchsorted(edges, importance, side="right") - 1, 0, len(_STEPS) - 1)
    return [
        (f"{edges[k]:.2g} to {edges[k + 1]:.2g}", colour, fifth == k)
        for k, colour in enumerate(_STEPS)
        if (fifth == k).any()
    ]


def _draw(axes: Axes, x: Array, y: Array, groups: Groups) -> None:
    for label, colour, rows in groups:
        axes.plot(
            x[rows], y[rows], "o", color=colour, markersize=2.6, markeredgewidth=0, alpha=0.85,
            label=label,
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(visible=False)
    axes.set_facecolor("none")
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=8, markerscale=2.2,
        handletextpad=0.2, columnspacing=1.0,
    )  # fmt: skip
    for entry in legend.get_texts():
        entry.set_color(INK)
    axes.tick_params(color=FAINT)
