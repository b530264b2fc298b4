"""The models' predictions on every view, compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.evaluation.comparison import BASE_RATE, LAST_BLESSED, compare
from heft.evaluation.predicting import base_rates, predict_examples
from heft.evaluation.results import Comparison, Model
from heft.evaluation.settings import EvaluationSettings
from heft.evaluation.views import REWEIGHTED, VIEWS, ViewData
from heft.examples import Feature, read_columns, shard_paths

__all__ = ["VERDICT_FILE", "ClickLine", "click_line", "judge_models", "read_verdict"]

VERDICT_FILE = "verdict.json"
SUMMARY_FILE = "importance.json"  # of heft.importance.estimate, which takes long to import

Array = np.ndarray
Heads = dict[str, Array]


@dataclass(frozen=True)
class ClickLine:
    """P(click) = slope · attractiveness + offset by position, (positions,) each, from 1."""

    slope: tuple[float, ...]
    offset: tuple[float, ...] = field(default=())

    def mass(self, click: Array, position: Array, floor: float) -> Array:
        """How much of a positive each row is, (rows,): an unbiased estimate of attractiveness.

        Args:
            click: (rows,) 0 or 1.
            position: (rows,) from 1; 0 where it is not known, which is taken for the first.
            floor: slopes count as at least this share of the largest one.
        """
        slope = np.asarray(self.slope, np.float64)
        slope = np.maximum(slope, floor * slope.max())
        offset = np.asarray(self.offset or np.zeros(len(slope)), np.float64)
        place = np.clip(position, 1, len(slope)) - 1
        return (click - offset[place]) / slope[place]


def click_line(importance_uri: str) -> ClickLine | None:
    """How clicks depend on position, as ImportanceEstimator found; None if it found nothing."""
    path = Path(importance_uri) / SUMMARY_FILE
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    clicks = facts.get("clicks") or {}
    if not clicks.get("slope"):
        return None
    return ClickLine(tuple(clicks["slope"]), tuple(clicks["offset"]))


@dataclass(frozen=True)
class _Source:
    """A view of the data: its shards, and how it is predicted."""

    name: str
    paths: tuple[str, ...]

    @property
    def with_position(self) -> bool:
        # Where position has been taken out of the labels, items are ranked by attractiveness:
        # the weighted model must not profit from knowing where an item stood.
        return self.name not in (f.SHUFFLED, REWEIGHTED)


def judge_models(
    split_uris: Mapping[str, str],
    model_dir: str,
    control_dir: str | None,
    slices: Sequence[str],
    settings: EvaluationSettings,
    output_uri: str,
    last_dir: str | None = None,
    clicks: ClickLine | None = None,
) -> Comparison:
    """Compares the weighted model with its control on the views that the data has.

    The baseline beside them is the last blessed model, or the base rate of training.

    Args:
        split_uris: folders of raw examples by split.
        model_dir, control_dir, last_dir: SavedModels with an `examples` signature.
        slices: string columns to cut the views by.
        settings: see `compare`.
        output_uri: folder that `verdict.json` is written to.
        clicks: how clicks depend on position; where too few pages are shuffled, ranking is
            judged on natural pages with that taken out.
    """
    paths = {split: tuple(shard_paths(uri)) for split, uri in split_uris.items()}
    columns = dict.fromkeys((*slices, *settings.fairness.columns))
    views = {name: _Rows.read(name, paths[name], tuple(columns)) for name in VIEWS if name in paths}
    if clicks and f.NATURAL in views and not _enough(views.get(f.SHUFFLED), settings):
        views[REWEIGHTED] = views[f.NATURAL].reweighted(clicks, settings.propensity_floor)
    predictions: dict[str, dict[Model, Heads]] = {name: {} for name in views}
    models: dict[Model, str | None] = {
        "weighted": model_dir, "control": control_dir, "baseline": last_dir,
    }  # fmt: skip
    for model, path in models.items():
        if path:
            for name, heads in _predict_all(path, [rows.source for rows in views.values()]).items():
                predictions[name][model] = heads
    if not last_dir and f.NATURAL in paths:
        rates = base_rates(paths)
        for name, rows in views.items():
            # A grade has no rate of clicks.
            if name in (f.NATURAL, f.SHUFFLED):
                predictions[name]["baseline"] = {
                    h: np.full(rows.count, r) for h, r in rates.items()
                }
    data = {name: rows.view(predictions[name]) for name, rows in views.items()}
    comparison = compare(data, settings, LAST_BLESSED if last_dir else BASE_RATE)
    Path(output_uri).mkdir(parents=True, exist_ok=True)
    (Path(output_uri) / VERDICT_FILE).write_text(comparison.to_json())
    return comparison


def read_verdict(uri: str) -> Comparison:
    """What `judge_models` wrote."""
    return Comparison.from_json((Path(uri) / VERDICT_FILE).read_text())


@dataclass(frozen=True)
class _Rows:
    """A view without its predictions."""

    source: _Source
    columns: dict[str, Array]
    slices: dict[str, Array]
    mass: Array | None = None

    @classmethod
    def read(cls, name: str, paths: tuple[str, ...], slices: tuple[str, ...]) -> "_Rows":
        wanted = [Feature(n, bytes) for n in (f.QUERY, f.REQUEST_ID, f.USER_ID, *slices)]
        wanted += [Feature(n, int) for n in (f.CLICK, f.CONVERSION, f.POSITION)]
        columns = read_columns(list(paths), [*wanted, Feature(f.GRADE, float)])
        return cls(_Source(name, paths), columns, {name: columns[name] for name in slices})

    @property
    def count(self) -> int:
        return len(self.columns[f.QUERY])

    def reweighted(self, clicks: ClickLine, floor: float) -> "_Rows":
        mass = clicks.mass(self.columns[f.CLICK], self.columns[f.POSITION], floor)
        source = _Source(REWEIGHTED, self.source.paths)
        return _Rows(source, self.columns, {}, mass)

    def view(self, predictions: Mapping[Model, Heads]) -> ViewData:
        columns, logged = self.columns, self.source.name != f.GRADED
        return ViewData(
            name=self.source.name,
            weighted=predictions["weighted"],
            control=predictions.get("control"),
            baseline=predictions.get("baseline"),
            click=columns[f.CLICK] if logged else None,
            conversion=columns[f.CONVERSION] if logged else None,
            grade=None if logged else columns[f.GRADE],
            request=columns[f.REQUEST_ID] if logged else None,
            user=columns[f.USER_ID] if logged else None,
            query=columns[f.QUERY],
            mass=self.mass,
            slices=self.slices,
        )


def _enough(rows: _Rows | None, settings: EvaluationSettings) -> bool:
    """Whether ranking can be judged on a view."""
    if rows is None or rows.count < settings.min_rows:
        return False
    return len(np.unique(rows.columns[f.REQUEST_ID].astype(bytes))) >= settings.min_groups


def _predict_all(path: str, sources: Sequence[_Source]) -> dict[str, Heads]:
    # One model in memory at a time: each holds an encoder and a table.
    model = tf.saved_model.load(path)
    return {
        source.name: predict_examples(model, source.paths, with_position=source.with_position)
        for source in sources
    }
