"""The weighing step over a run's examples: scores, pairs, and what to report of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from heft import features as f
from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.combine import Weights, attention, combine, plain_pairs
from heft.importance.examination import Examination, from_pairs, from_shuffled_pages
from heft.importance.examination_posterior import ExaminationPosterior
from heft.importance.inverse_propensity import InversePropensity
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import create
from heft.importance.settings import ImportanceSettings

__all__ = ["TaskWeights", "estimate_examination", "importance_data", "weigh_task", "weigh_tune"]

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


def importance_data(columns: Columns, features: Array, task: str) -> ImportanceData:
    """The samples of `task` from transformed columns and proxy features (n, d)."""
    missing = np.full(len(features), np.nan, np.float32)
    propensity = columns.get(f.PROPENSITY, missing).astype(np.float32)
    pair = columns[f.QUERY_ID].astype(np.int64) * 2**32 + columns[f.TITLE_ID].astype(np.int64)
    return ImportanceData(
        features=features,
        label=columns[f.label_of(task)],
        group=columns[f.REQUEST_KEY],
        position=columns[f.POSITION],
        propensity=np.where(propensity == 0, np.nan, propensity),
        pair=pair,
    )


def estimate_examination(
    train: ImportanceData, shuffled: Columns | None, settings: ImportanceSettings
) -> Examination:
    """Examination from shuffled pages if there are enough, else from repeated pairs.

    Raises:
        DataError: neither source holds enough clicks.
    """
    if settings.debias == "none":
        return Examination(np.ones(1), 0, "none")
    if settings.propensity == "logged":
        return _logged(train)
    enough = settings.minimum_shuffled_clicks
    if shuffled is not None and shuffled[f.CLICK].sum() >= enough:
        return from_shuffled_pages(shuffled[f.POSITION], shuffled[f.CLICK])
    return from_pairs(train.position, train.label, train.pair)


def weigh_task(
    data: ImportanceData, examination: Examination, settings: ImportanceSettings
) -> TaskWeights:
    """All estimators the settings name, combined into pairs for the training split.

    A task whose labels are all the same has nothing to estimate: a log without
    conversions, say. Its pairs are (y, 1 − y), without scores.
    """
    if len(np.unique(data.label)) < 2:
        plain = combine(plain_pairs(data.label), data.label, [], minimum_ess=0.0)
        return TaskWeights(plain, {})
    proxy = OutOfFoldProxy(settings.folds, settings.epochs, random_state=settings.seed)
    debias = _debiaser(examination, settings, proxy).fit(data)
    seen = data.with_observed(debias.propensity(data))
    exponents = {**settings.quality, **settings.value}
    scores = {name: create(name, proxy=proxy).fit(seen).score(seen) for name in exponents}
    factors = [attention(scores[name], data.label, power) for name, power in exponents.items()]
    pairs = plain_pairs(data.label) if settings.debias == "none" else debias.pairs(data)
    weights = combine(
        pairs, data.label, factors, clip=settings.clip, minimum_ess=settings.minimum_ess
    )
    return TaskWeights(weights, scores)


def weigh_tune(
    data: ImportanceData, examination: Examination, settings: ImportanceSettings
) -> TaskWeights:
    """The inverse propensity pair alone.

    What early stopping watches is the target: no attention, and nothing that
    rests on a proxy model.
    """
    if settings.debias == "none" or not len(data) or not data.label.any():
        pairs = plain_pairs(data.label)
    else:
        pairs = _inverse(examination, settings).fit(data).pairs(data)
    return TaskWeights(combine(pairs, data.label, [], minimum_ess=0.0), {})


def summarise(
    results: dict[str, TaskWeights], examination: Examination, labels: dict[str, Array]
) -> dict[str, Any]:
    """The facts of the SampleImportance artifact, ready for JSON."""
    return {
        "examination": {
            "positions": list(range(1, len(examination.values) + 1)),
            "values": examination.values.tolist(),
            "clicks": examination.clicks,
            "source": examination.source,
        },
        "tasks": {
            task: {
                "rows": len(labels[task]),
                "positives": int(labels[task].sum()),
                "ess": result.weights.ess,
                "clip": result.weights.clip,
                "histograms": _histograms(result.weights, labels[task]),
                "scores": {name: _quantiles(s, labels[task]) for name, s in result.scores.items()},
            }
            for task, result in results.items()
        },
    }


def extremes(weights: Weights, how_many: int, distinct: Array) -> tuple[Array, Array]:
    """Row numbers of the heaviest and the lightest samples, one per value of `distinct`.

    By |w⁺| + |w⁻|; where that is the same for all rows, by w⁺.
    """
    mass = np.abs(weights.pairs).sum(axis=1)
    if len(mass) and np.ptp(mass) < 1e-5 * mass.max():
        mass = weights.pairs[:, 0]
    order = np.argsort(-mass, kind="stable")
    return _first_distinct(order, distinct, how_many), _first_distinct(
        order[::-1], distinct, how_many
    )


def _debiaser(
    examination: Examination, settings: ImportanceSettings, proxy: OutOfFoldProxy
) -> ExaminationPosterior | InversePropensity:
    if settings.debias == "examination_posterior":
        return ExaminationPosterior(proxy, examination, settings.minimum_propensity)
    return _inverse(examination, settings)


def _inverse(examination: Examination, settings: ImportanceSettings) -> InversePropensity:
    return InversePropensity(
        examination,
        minimum=settings.minimum_propensity,
        variance_power=settings.variance_power,
        aggregate=settings.aggregate,
    )


def _logged(train: ImportanceData) -> Examination:
    """The mean logged propensity by position, relative to the first: for reports and serving."""
    missing = int((~np.isfinite(train.propensity)).sum())
    if missing:
        raise DataError(
            f"propensity: logged needs one in every row, received {missing} rows without; "
            "map the column, or use propensity: estimated"
        )
    position = np.minimum(train.position, 500)
    total = np.bincount(position, weights=train.propensity)[1:]
    shown = np.bincount(position)[1:]
    # Not relative to position 1: the weights take the logged propensities as they are.
    known = np.flatnonzero(shown)
    mean = np.interp(np.arange(len(shown)), known, total[known] / shown[known])
    return Examination(np.clip(mean, 1e-3, 1.0), int(train.label.sum()), "logged")


def _histograms(weights: Weights, label: Array, bins: int = 40) -> dict[str, Any]:
    """Counts of w⁺ by label, on common edges."""
    positive = weights.pairs[:, 0]
    top = float(np.quantile(positive, 0.999)) if len(positive) else 1.0
    edges = np.linspace(0.0, max(top, 1e-6), bins + 1)
    clipped = np.clip(positive, 0.0, edges[-1])
    counts = {
        name: np.histogram(clipped[label == value], edges)[0].tolist()
        for name, value in (("positive", 1), ("negative", 0))
    }
    return {"edges": edges.tolist(), **counts}


def _quantiles(scores: Array, label: Array) -> dict[str, Any]:
    points = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    return {
        name: np.quantile(scores[label == value], points).tolist() if (label == value).any() else []
        for name, value in (("positive", 1), ("negative", 0))
    } | {"points": points}


def _first_distinct(order: Array, distinct: Array, how_many: int) -> Array:
    chosen: list[int] = []
    seen: set[int] = set()
    for row in order:
        if len(chosen) == how_many:
            break
        if int(distinct[row]) not in seen:
            seen.add(int(distinct[row]))
            chosen.append(int(row))
    return np.array(chosen, np.int64)
