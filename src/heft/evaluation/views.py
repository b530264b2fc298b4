"""The three views a model is judged on, and which metrics are right for each.

- natural: logged pages in the order they were shown. What users saw, biased by
  position: right for calibration and log loss, biased for ranking.
- shuffled: pages whose order was random: ranking of clicks without position bias.
- graded: human grades of query-item pairs: ranking of relevance itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from pydantic import Field

from heft.errors import DataError
from heft.evaluation.bootstrap import BootstrapSettings
from heft.evaluation.grouped import gauc, ndcg_at_k
from heft.evaluation.metrics import (
    Auc,
    AucPr,
    Calibration,
    Ece,
    FloatArray,
    LogLoss,
    Metric,
    Values,
    err_gain,
)
from heft.features import CTCVR, CTR, CVR, GRADED, NATURAL, SHUFFLED
from heft.settings import Settings

__all__ = ["HEADS", "VIEWS", "EvaluationSettings", "MetricBuilder", "ViewData", "view_metrics"]

VIEWS = (NATURAL, SHUFFLED, GRADED)
HEADS = (CTR, CVR, CTCVR)
GROUP_BY = {NATURAL: "request", SHUFFLED: "request", GRADED: "query"}

MetricBuilder = Callable[[Values], Metric]
Predictions = Mapping[str, Values]


class EvaluationSettings(Settings):
    """How two models are compared."""

    maximum_grade: float = Field(default=3.0, gt=0, description="top of the scale of human grades")
    relevant_grade: float = Field(
        default=2.0, gt=0, description="grades from here on count as relevant"
    )
    ndcg_at: int = Field(default=10, ge=1, description="ranks NDCG looks at")
    bins: int = Field(
        default=20, ge=2, le=1000, description="equal-mass bins of ECE and reliability"
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="loss of AUC to put up with before weighting is called harmful",
    )
    min_rows: int = Field(
        default=200, ge=1, description="rows an unbiased view needs to be judged on"
    )
    min_groups: int = Field(
        default=20, ge=2, description="groups an unbiased view needs to be judged on"
    )
    min_slice_rows: int = Field(default=200, ge=1, description="slices of fewer rows are not shown")
    max_slices: int = Field(
        default=20, ge=1, description="values of a column shown, most rows first"
    )
    slice_resamples: int = Field(default=100, ge=20, description="bootstrap resamples of a slice")
    bootstrap: BootstrapSettings = BootstrapSettings()


@dataclass(frozen=True)
class ViewData:
    """Rows of one view with the predictions of the weighted and the control model.

    All arrays have shape (rows,). `weighted` and `control` hold probabilities
    in [0, 1] under the names `ctr` and, where there are conversions, `ctcvr`
    (other heads are carried and not judged). `control` is None if no control
    model was trained. natural and shuffled need `click` and `request`, graded
    needs `grade` and `query`; `conversion` is optional. `slices` maps a column
    to its value in each row.

    Raises:
        DataError: the view is unknown, a column it needs is missing, or an
            array is of another length.
    """

    name: str
    weighted: Predictions
    control: Predictions | None
    click: Values | None = None
    conversion: Values | None = None
    grade: Values | None = None
    request: Values | None = None
    query: Values | None = None
    slices: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in VIEWS:
            raise DataError(f"view {self.name!r} is unknown: expected one of {', '.join(VIEWS)}")
        for column in (GROUP_BY[self.name], "grade" if self.name == GRADED else "click"):
            if getattr(self, column) is None:
                raise DataError(f"view {self.name!r} needs the column {column!r}: add it")
        for column, values in self._columns().items():
            if np.shape(values) != (self.rows,):
                raise DataError(
                    f"column {column!r} of view {self.name!r} has shape {np.shape(values)}: "
                    f"expected ({self.rows},), as {GROUP_BY[self.name]!r}"
                )
        for model, heads in (("weighted", self.weighted), ("control", self.control)):
            missing = set(self.judged) - set(heads) if heads is not None else set()
            if missing:
                raise DataError(
                    f"view {self.name!r} has no predictions {sorted(missing)} of the {model} "
                    f"model: expected {', '.join(self.judged)}"
                )

    @property
    def group(self) -> Values:
        """The key of the groups that hang together, shape (rows,)."""
        return np.asarray(getattr(self, GROUP_BY[self.name]))

    @property
    def rows(self) -> int:
        """How many rows the view has."""
        return len(self.group)

    @property
    def judged(self) -> tuple[str, ...]:
        """The heads this view has labels for."""
        if self.name != GRADED and self.conversion is not None:
            return (CTR, CTCVR)
        return (CTR,)

    def take(self, rows: Values) -> "ViewData":
        """The view of some rows only, without slices."""

        def pick(values: Values | None) -> Values | None:
            return None if values is None else values[rows]

        control = self.control and {head: p[rows] for head, p in self.control.items()}
        return ViewData(
            self.name,
            {head: p[rows] for head, p in self.weighted.items()},
            control,
            pick(self.click),
            pick(self.conversion),
            pick(self.grade),
            pick(self.request),
            pick(self.query),
        )

    def _columns(self) -> dict[str, Values]:
        labels = ("click", "conversion", "grade", "request", "query")
        columns = {name: getattr(self, name) for name in labels if getattr(self, name) is not None}
        columns |= {f"weighted {head}": p for head, p in self.weighted.items()}
        columns |= {f"control {head}": p for head, p in (self.control or {}).items()}
        return columns | {f"slice {name}": values for name, values in self.slices.items()}


def view_metrics(view: ViewData, settings: EvaluationSettings) -> dict[str, MetricBuilder]:
    """The metrics that are right for a view, by name (`ctr_auc`).

    Each value makes the metric of one model from its predictions for the head
    the name begins with.
    """
    if view.name == GRADED:
        return _graded_metrics(view, settings)
    builders: dict[str, MetricBuilder] = {}
    for head, label in _labels(view).items():
        builders[f"{head}_auc"] = partial(Auc, label)
        builders[f"{head}_gauc"] = partial(_gauc, label, view.group)
        if view.name == NATURAL:
            builders[f"{head}_auc_pr"] = partial(AucPr, label)
            builders[f"{head}_log_loss"] = partial(LogLoss, label)
            builders[f"{head}_calibration"] = partial(Calibration, label)
            builders[f"{head}_ece"] = partial(Ece, label, bins=settings.bins)
        elif head == CTR:
            name = f"{head}_ndcg_at_{settings.ndcg_at}"
            builders[name] = partial(_ndcg, label, view.group, settings.ndcg_at)
    return builders


def _labels(view: ViewData) -> dict[str, FloatArray]:
    columns = {CTR: view.click, CTCVR: view.conversion}
    return {head: np.asarray(columns[head], np.float64) for head in view.judged}


def _graded_metrics(view: ViewData, settings: EvaluationSettings) -> dict[str, MetricBuilder]:
    grade = np.asarray(view.grade, np.float64)
    gain = err_gain(grade, settings.maximum_grade)
    relevant = (grade >= settings.relevant_grade).astype(np.float64)
    return {
        f"{CTR}_auc": partial(Auc, gain),
        f"{CTR}_auc_relevant": partial(Auc, relevant),
        f"{CTR}_ndcg_at_{settings.ndcg_at}": partial(_ndcg, grade, view.group, settings.ndcg_at),
        f"{CTR}_ece": partial(Ece, gain, bins=settings.bins),
    }


def _gauc(label: Values, group: Values, score: Values) -> Metric:
    return gauc(label, score, group)


def _ndcg(label: Values, group: Values, k: int, score: Values) -> Metric:
    return ndcg_at_k(label, score, group, k)
