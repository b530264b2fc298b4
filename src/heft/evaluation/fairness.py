"""Does the model treat groups alike? The largest gap between the groups of a column.

Two figures of clicks on natural pages: calibration (predicted over observed), which is whether
a group is promised more than it gets, and the false-negative rate, the share of its clicks that
the model did not expect, where it expects as many clicks as there are, the likeliest ones
(equality of opportunity, Hardt et al. 2016).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from heft.evaluation.bootstrap import BootstrapSettings, interval_of, resamples
from heft.evaluation.grouped import group_codes
from heft.evaluation.metrics import FloatArray, IntArray, Values
from heft.evaluation.results import FairnessGap, GroupRate, Model
from heft.evaluation.settings import EvaluationSettings
from heft.evaluation.views import ViewData
from heft.features import CTR

__all__ = ["fairness_gaps"]

Measure = Literal["calibration", "false_negative_rate"]


def fairness_gaps(view: ViewData, settings: EvaluationSettings) -> tuple[FairnessGap, ...]:
    """The gaps of each configured column that has two groups with enough clicks.

    Args:
        view: with clicks, and the columns among its slices.
        settings: columns, limits, and how intervals are made.
    """
    limits: dict[Measure, float | None] = {
        "calibration": settings.fairness.maximum_calibration_gap,
        "false_negative_rate": settings.fairness.maximum_false_negative_gap,
    }
    found = []
    for column in settings.fairness.columns:
        groups = _Groups.of(view, column, settings.fairness.min_clicks)
        if groups is not None:
            found += [
                groups.gap(column, measure, limit, settings) for measure, limit in limits.items()
            ]
    return tuple(found)


@dataclass(frozen=True)
class _Groups:
    """Rows of the groups that count.

    Attributes:
        codes: the group of each row, (rows,).
        names: of the groups.
        click: (rows,) 0 or 1.
        scores: (rows,) by model.
        expected: (rows,) by model, True where it expects a click.
        request: the request of each row as an integer, (rows,).
    """

    codes: IntArray
    names: list[str]
    click: FloatArray
    scores: dict[Model, FloatArray]
    expected: dict[Model, Values]
    request: IntArray

    @classmethod
    def of(cls, view: ViewData, column: str, min_clicks: int) -> "_Groups | None":
        click = np.asarray(view.click, np.float64)
        codes, names = pd.factorize(text_values(view.slices[column]), sort=True)
        clicks = np.bincount(codes, click, len(names))
        chosen = np.flatnonzero(clicks >= min_clicks)
        if len(chosen) < 2:
            return None
        kept = np.isin(codes, chosen)
        scores = {m: np.asarray(heads[CTR], np.float64) for m, heads in view.models.items()}
        return cls(
            codes=np.searchsorted(chosen, codes[kept]),
            names=[str(names[k]) for k in chosen],
            click=click[kept],
            scores={model: score[kept] for model, score in scores.items()},
            # Of all rows, so that one bar holds for all groups.
            expected={m: _likeliest(score, int(click.sum()))[kept] for m, score in scores.items()},
            request=group_codes(np.asarray(view.group)[kept])[0],
        )

    def gap(
        self, column: str, measure: Measure, limit: float | None, settings: EvaluationSettings
    ) -> FairnessGap:
        figures = {m: self._figures(m, measure, np.ones(self.click.size)) for m in self.scores}
        own = figures["weighted"]
        lowest, highest = int(np.argmin(own)), int(np.argmax(own))
        quick = settings.bootstrap.model_copy(update={"resamples": settings.slice_resamples})
        low, high = self._interval(column, measure, (lowest, highest), quick)
        control = figures.get("control")
        return FairnessGap(
            column=column,
            metric=measure,
            groups=self._rates(figures),
            lowest=self.names[lowest],
            highest=self.names[highest],
            gap=float(own[highest] - own[lowest]),
            low=low,
            high=high,
            control_gap=None if control is None else float(control.max() - control.min()),
            limit=limit,
        )

    def _rates(self, figures: Mapping[Model, FloatArray]) -> tuple[GroupRate, ...]:
        rows = np.bincount(self.codes, minlength=len(self.names))
        clicks = np.bincount(self.codes, self.click, len(self.names))
        control = figures.get("control")
        return tuple(
            GroupRate(
                value=name,
                rows=int(rows[k]),
                clicks=int(clicks[k]),
                weighted=float(figures["weighted"][k]),
                control=None if control is None else float(control[k]),
            )
            for k, name in enumerate(self.names)
        )

    def _figures(self, model: Model, measure: Measure, weight: FloatArray) -> FloatArray:
        """(groups,)"""
        clicks = weight * self.click
        if measure == "calibration":
            counted = weight * self.scores[model]
        else:
            counted = clicks * ~self.expected[model]
        count = len(self.names)
        below = np.bincount(self.codes, clicks, count)
        above = np.bincount(self.codes, counted, count)
        return np.divide(above, below, out=np.full(count, np.nan), where=below > 0)

    def _interval(
        self, column: str, measure: Measure, ends: tuple[int, int], settings: BootstrapSettings
    ) -> tuple[float | None, float | None]:
        drawn = []
        for weight in resamples(self.request, settings, f"fairness/{column}"):
            figures = self._figures("weighted", measure, weight)
            drawn.append(figures[ends[1]] - figures[ends[0]])
        low, high = interval_of(np.array(drawn), settings.confidence)
        return (low, high) if np.isfinite(low) else (None, None)


def text_values(values: Values) -> Values:
    """Bytes or other values as text, (rows,) objects."""
    decoded = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return np.array(decoded, object)


def _likeliest(score: FloatArray, count: int) -> Values:
    """(rows,) True for the `count` rows with the highest scores; ties join them."""
    if not 0 < count <= score.size:
        return np.full(score.size, count > 0)
    bar = np.partition(score, score.size - count)[score.size - count]
    return np.asarray(score >= bar)
