"""What a run's weights are made of, as facts for reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heft import features as f
from heft.importance.click_model import ClickModel
from heft.importance.examination import Examination
from heft.importance.fitting import FittedTask
from heft.importance.scoring import Scored, WeightFacts

__all__ = [
    "Extreme", "click_facts", "edges_of", "examination_facts", "extremes", "histogram",
    "merge_extremes", "quantiles", "sample_facts", "task_facts",
]  # fmt: skip

Array = np.ndarray
Columns = dict[str, Array]

_POINTS = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
_BINS = 40


@dataclass(frozen=True)
class Extreme:
    """A row among the heaviest or lightest of its shard.

    Attributes:
        value: what rows are ordered by.
        row: number in the split.
        pair: query and title; of one pair only one row is kept.
        facts: for the report.
    """

    value: float
    row: int
    pair: int
    facts: dict[str, Any]


def extremes(value: Array, pair: Array, how_many: int) -> dict[str, list[tuple[float, int, int]]]:
    """(value, row, pair) of the heaviest and lightest rows, one per pair.

    Of equal rows the first counts as heavier. Those of a whole are among those
    of its parts.
    """
    order = np.argsort(-value, kind="stable")
    return {
        name: [
            (float(value[row]), row, int(pair[row]))
            for row in _first_distinct(rows, pair, how_many)
        ]
        for name, rows in (("heaviest", order), ("lightest", order[::-1]))
    }


def merge_extremes(
    parts: Sequence[dict[str, list[Extreme]]], how_many: int
) -> dict[str, list[Extreme]]:
    """The `how_many` heaviest and lightest rows of all parts, one per pair."""
    merged = {}
    for name, sign in (("heaviest", 1), ("lightest", -1)):
        rows = [extreme for part in parts for extreme in part[name]]
        rows.sort(key=lambda x: (-sign * x.value, sign * x.row))
        chosen: dict[int, Extreme] = {}
        for extreme in rows:
            if len(chosen) < how_many:
                chosen.setdefault(extreme.pair, extreme)
        merged[name] = list(chosen.values())
    return merged


def edges_of(positive: Array) -> Array:
    """Bin edges of w⁺, from 0 to its 99.9 % quantile."""
    top = float(np.quantile(positive, 0.999)) if len(positive) else 1.0
    return np.linspace(0.0, max(top, 1e-6), _BINS + 1)


def histogram(positive: Array, label: Array, edges: Array) -> Array:
    """(2, bins) rows by label and w⁺; what lies outside counts in the outer bins."""
    clipped = np.clip(positive, 0.0, edges[-1])
    return np.stack([np.histogram(clipped[label == value], edges)[0] for value in (0, 1)])


def quantiles(scores: Array, label: Array) -> dict[str, Any]:
    """Of one estimator's scores, by label."""
    return {
        name: np.quantile(scores[label == k], _POINTS).tolist() if (label == k).any() else []
        for name, k in (("positive", 1), ("negative", 0))
    } | {"points": _POINTS}


def task_facts(
    scored: Scored,
    task: str,
    weights: WeightFacts,
    rows: int,
    positives: int,
    edges: Array,
    counts: Array,
) -> dict[str, Any]:
    """One task; quantiles are those of the sample."""
    known = scored.tasks[task]
    label = scored.sampled(task, "#label")
    facts = {
        "rows": rows,
        "positives": positives,
        "ess": weights.ess,
        "clip": weights.clip,
        "histograms": {
            "edges": edges.tolist(),
            "positive": counts[1].tolist(),
            "negative": counts[0].tolist(),
        },
        "scores": {name: quantiles(scored.sampled(task, name), label) for name in known.scores},
    }
    if known.corrections:
        facts["row_weight_mean"] = weights.row_mean
        facts["corrections"] = {
            name: quantiles(scored.sampled(task, name), label)
            | {"mean": float(scored.sampled(task, name).mean(dtype=np.float64))}
            for name in known.corrections
        }
    return facts


def examination_facts(examination: Examination) -> dict[str, Any]:
    """The curve and what it rests on."""
    return {
        "positions": list(range(1, len(examination.values) + 1)),
        "values": examination.values.tolist(),
        "clicks": examination.clicks,
        "source": examination.source,
    }


def click_facts(fitted: FittedTask, examination: Examination) -> dict[str, Any]:
    """P(click) by position as a line in what the click head predicts: what serving needs."""
    model = getattr(fitted.debias.maker, "model_", None) or ClickModel.of(examination)
    return {
        "positions": list(range(1, len(model.slope) + 1)),
        "slope": np.asarray(model.slope).tolist(),
        "offset": np.asarray(model.offset).tolist(),
        "clicks": model.clicks,
        "source": model.source,
    }


def sample_facts(columns: Columns, row: int, task: str, scores: list[str]) -> dict[str, Any]:
    """One row of weighted columns; texts by id."""
    return {
        "impression_id": columns[f.IMPRESSION_ID][row].decode(errors="replace"),
        "query_id": int(columns[f.QUERY_ID][row]),
        "title_id": int(columns[f.TITLE_ID][row]),
        "position": int(columns[f.POSITION][row]),
        "click": int(columns[f.CLICK][row]),
        "positive_weight": float(columns[f.positive_weight(task)][row]),
        "negative_weight": float(columns[f.negative_weight(task)][row]),
        "scores": {name: float(columns[f.score_column(name, task)][row]) for name in scores},
    }


def _first_distinct(order: Array, distinct: Array, how_many: int) -> list[int]:
    chosen: dict[int, int] = {}
    for row in order:
        if len(chosen) == how_many:
            break
        chosen.setdefault(int(distinct[row]), int(row))
    return list(chosen.values())
