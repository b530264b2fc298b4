"""The weighing step over samples in memory: scores, pairs, and the curve of examination."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heft import features as f
from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.click_model import ClickModel, click_model_from_pairs
from heft.importance.combine import Weights, attention, combine, plain_pairs
from heft.importance.dual_learning import from_dual_learning
from heft.importance.examination import Examination, from_pairs, from_shuffled_pages
from heft.importance.fitting import FittedTask, fit_task, fit_tune
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.regression_em import from_regression_em
from heft.importance.rows import importance_data
from heft.importance.settings import ImportanceSettings

__all__ = [
    "TaskWeights",
    "combine_task",
    "estimate_click_models",
    "estimate_examination",
    "importance_data",
    "weigh_task",
    "weigh_tune",
]

Array = np.ndarray
Columns = dict[str, Array]


@dataclass(frozen=True)
class TaskWeights:
    """Weights and scores of one task.

    Attributes:
        weights: see `Weights`.
        scores: (n,) float32 by estimator name.
    """

    weights: Weights
    scores: dict[str, Array]

    def columns(self, task: str) -> Columns:
        """What is written beside each example."""
        pairs = self.weights.pairs
        columns = {f.positive_weight(task): pairs[:, 0], f.negative_weight(task): pairs[:, 1]}
        return columns | {f.score_column(name, task): s for name, s in self.scores.items()}


def estimate_examination(
    train: ImportanceData, shuffled: Columns | None, settings: ImportanceSettings
) -> Examination:
    """Examination from what `settings.examination` names.

    By default from shuffled pages if there are enough, else from repeated pairs.

    Raises:
        DataError: the source does not hold enough clicks.
    """
    if not any(settings.chain(task) for task in f.TASKS):
        return Examination(np.ones(1), 0, "none")
    if settings.propensity == "logged":
        return _logged(train)
    if settings.examination != "auto":
        return _named_source(train, shuffled, settings)
    enough = settings.minimum_shuffled_clicks
    if shuffled is not None and shuffled[f.CLICK].sum() >= enough:
        return from_shuffled_pages(shuffled[f.POSITION], shuffled[f.CLICK])
    return from_pairs(train.position, train.label, train.pair)


def estimate_click_models(
    parts: Sequence[ImportanceData], examination: Examination, settings: ImportanceSettings
) -> dict[str, ClickModel]:
    """Slopes and offsets by position for each task; empty where no debias asks for them.

    Without trust bias where the curve is known, or the click task does without.

    Args:
        parts: clicks of the train split and, if there is one, of shuffled pages.
        examination: the curve.
        settings: estimators.
    """
    if not any(settings.asks_for_click_model(task) for task in f.TASKS):
        return {}
    if settings.propensity == "logged" or not settings.asks_for_click_model(f.CTR):
        return dict.fromkeys(f.TASKS, ClickModel.of(examination))
    human = [np.ones(len(part)) if part.human is None else part.human for part in parts]
    position, click, pair = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("position", "label", "pair")
    )
    model = click_model_from_pairs(position, click, pair, weight=np.concatenate(human))
    return {f.CTR: model, f.CVR: model.of_conversions()}


def weigh_task(
    data: ImportanceData,
    examination: Examination,
    settings: ImportanceSettings,
    task: str = f.CTR,
    clicks: ImportanceData | None = None,
    reference: ImportanceData | None = None,
    click_model: ClickModel | None = None,
) -> TaskWeights:
    """All estimators the settings name, combined into pairs for the training split.

    A task whose labels are all the same has nothing to estimate: a log without
    conversions, say. Its pairs are (y, 1 − y), without scores.

    Args:
        data: samples of the task.
        examination: a known curve.
        settings: estimators and combination.
        task: whose chain of debias estimators.
        clicks: the same rows as samples of the click task, where that is another.
        reference: clean samples, for estimators that ask for some.
        click_model: known slopes and offsets, for debias estimators that ask for them.
    """
    clicks = data if clicks is None else clicks
    fitted = fit_task(data, clicks, task, examination, settings, reference, click_model)
    return combine_task(fitted, data, clicks, settings)


def combine_task(
    fitted: FittedTask, data: ImportanceData, clicks: ImportanceData, settings: ImportanceSettings
) -> TaskWeights:
    """Scores of fitted estimators, and their combination over all rows at once."""
    if fitted.constant:
        plain = combine(plain_pairs(data.label), data.label, [], minimum_ess=0.0)
        return TaskWeights(plain, {})
    judged = fitted.judge(data, clicks)
    factors = [
        attention(judged.scores[name], data.label, power)
        for name, power in settings.exponents.items()
    ]
    weights = combine(
        judged.pairs,
        data.label,
        factors,
        row_weights=list(judged.rows.values()),
        mode=settings.mode,
        clip=settings.clip,
        minimum_ess=settings.minimum_ess,
    )
    return TaskWeights(weights, judged.scores)


def weigh_tune(
    data: ImportanceData,
    examination: Examination,
    settings: ImportanceSettings,
    task: str = f.CTR,
) -> TaskWeights:
    """The inverse propensity pair alone.

    What early stopping watches is the target: no attention, and nothing that
    rests on a proxy model.
    """
    fitted = fit_tune(data, examination, settings, task)
    return TaskWeights(combine(fitted.pairs(data), data.label, [], minimum_ess=0.0), {})


def _named_source(
    train: ImportanceData, shuffled: Columns | None, settings: ImportanceSettings
) -> Examination:
    """The one that was asked for: no other takes its place."""
    if settings.examination == "shuffled_pages":
        if shuffled is None or not len(shuffled[f.CLICK]):
            raise DataError(
                "examination: shuffled_pages needs a harvest split of shuffled pages, received 0 "
                "rows; shuffle some and log `randomised`, or use examination: auto"
            )
        return from_shuffled_pages(shuffled[f.POSITION], shuffled[f.CLICK])
    if settings.examination == "pairs":
        return from_pairs(train.position, train.label, train.pair)
    if settings.examination == "regression_em":
        proxy = OutOfFoldProxy(settings.folds, settings.epochs, random_state=settings.seed)
        return from_regression_em(train, proxy, random_state=settings.seed)
    return from_dual_learning(train, random_state=settings.seed)


def _logged(train: ImportanceData) -> Examination:
    """The mean logged propensity by position, relative to the first: for reports and serving."""
    if not len(train):
        raise DataError("propensity: logged received 0 rows: expected impressions")
    missing = int((~np.isfinite(train.propensity)).sum())
    if missing:
        raise DataError(
            f"propensity: logged needs one in every row, received {missing} rows without; "
            "map the column, or use propensity: estimated"
        )
    clicks = int(train.label.sum())
    position = np.clip(train.position, 0, 500)
    total = np.bincount(position, weights=train.propensity)[1:]
    shown = np.bincount(position)[1:]
    if not shown.any():
        # No position is known: what is served has none either.
        return Examination(np.array([float(np.mean(train.propensity))]), clicks, "logged")
    # Not relative to position 1: the weights take the logged propensities as they are.
    known = np.flatnonzero(shown)
    mean = np.interp(np.arange(len(shown)), known, total[known] / shown[known])
    return Examination(np.clip(mean, 1e-3, 1.0), clicks, "logged")
