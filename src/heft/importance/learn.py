"""What the weighing step learns, from samples of bounded size: curves, models, estimators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heft import features as f
from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.click_model import ClickModel
from heft.importance.examination import Examination
from heft.importance.fitting import (
    Debias,
    FittedTask,
    fit_by_clicks,
    fit_task,
    fit_tune,
    with_human,
)
from heft.importance.gather import Block, Shard
from heft.importance.registry import parameters
from heft.importance.rows import importance_data
from heft.importance.sample import Sample, choose
from heft.importance.settings import ImportanceSettings
from heft.importance.weigh import estimate_click_models, estimate_examination

__all__ = ["Gathered", "learn", "needs_features"]

Array = np.ndarray
Columns = dict[str, Array]

# A split with fewer positives says too little of what is clean.
_LEAST_REFERENCE = 50


@dataclass(frozen=True)
class Gathered:
    """One split: its shards and, for each, its blocks; and its rows by hash of their request."""

    shards: list[Shard]
    blocks: list[list[Block]]
    hashes: Array

    @property
    def flat(self) -> list[Block]:
        """Blocks of all shards, in order."""
        return [block for own in self.blocks for block in own]

    @property
    def rows(self) -> int:
        """Of all blocks."""
        return sum(block.rows for block in self.flat)

    def positives(self, task: str) -> int:
        """Rows whose label of the task is 1."""
        return sum(block.positives[task] for block in self.flat)

    def sample(self, most: int) -> tuple[Columns, Array]:
        """Columns and proxy features of whole requests, at most so many rows."""
        return choose(self.hashes, most).load(self.flat)


def learn(
    splits: Mapping[str, Gathered], sample: Sample, settings: ImportanceSettings, latest: int
) -> tuple[Examination, dict[str, FittedTask], dict[str, Debias], dict[str, Any]]:
    """Everything that is learned, from samples of bounded size."""
    columns, inputs = sample.load(splits[f.TRAIN].flat)
    data = {task: importance_data(columns, inputs, task, settings, latest) for task in f.TASKS}
    shared = fit_by_clicks(data[f.CTR], settings)
    examination, models = _curves(splits, data[f.CTR], shared, settings, latest)
    curves = dict.fromkeys(f.TASKS, examination)
    if f.CVR in models:
        # On the scale of what the click head predicts.
        curves[f.CVR] = models[f.CVR].as_examination()
    tuned = splits[f.TUNE].sample(settings.fit_rows)
    fitted, fitted_tune, references = {}, {}, {}
    for task in f.TASKS:
        name, reference = _reference(splits, task, settings, latest)
        fitted[task] = fit_task(
            data[task], data[f.CTR], task, curves[task], settings, reference, models.get(task),
            shared,
        )  # fmt: skip
        own = importance_data(*tuned, task, settings, latest)
        fitted_tune[task] = fit_tune(own, curves[task], settings, task, fitted[task])
        references[task] = {"split": name, "rows": 0 if reference is None else len(reference)}
    facts = {"rows": sample.rows, "of": sample.of, "reference": references}
    return examination, fitted, fitted_tune, facts


def _curves(
    splits: Mapping[str, Gathered],
    clicks: ImportanceData,
    shared: Mapping[str, Any],
    settings: ImportanceSettings,
    latest: int,
) -> tuple[Examination, dict[str, ClickModel]]:
    """Examination, and the click models where they are asked for; by people's clicks."""
    shuffled, parts = None, [with_human(clicks, clicks, shared)]
    if f.HARVEST in splits and splits[f.HARVEST].rows:
        shuffled, inputs = splits[f.HARVEST].sample(settings.fit_rows)
        if settings.asks_for_click_model(f.CTR):
            more = importance_data(shuffled, inputs, f.CTR, settings, latest)
            parts.append(with_human(more, more, shared))
    examination = estimate_examination(clicks, shuffled, settings)
    return examination, estimate_click_models(parts, examination, settings)


def needs_features(split: str, settings: ImportanceSettings) -> bool:
    """Tune and shuffled pages are read without, unless something is asked about their rows."""
    of_clicks = split == f.HARVEST and settings.asks_for_click_model(f.CTR)
    return split == f.TRAIN or of_clicks or _may_refer_to(split, settings)


def _may_refer_to(split: str, settings: ImportanceSettings) -> bool:
    """Whether estimators that ask for clean samples may be given those of `split`."""
    used = {*settings.exponents, *settings.corrections}
    asked = any("reference" in parameters(name) for name in used)
    return asked and split != f.TRAIN and settings.reference in ("auto", split)


def _reference(
    splits: Mapping[str, Gathered], task: str, settings: ImportanceSettings, latest: int
) -> tuple[str, ImportanceData | None]:
    """The clean samples of a task and the name of their split; none where nothing asks."""
    for split in (f.HARVEST, f.TUNE):
        if not _may_refer_to(split, settings):
            continue
        found = splits.get(split)
        positives = found.positives(task) if found else 0
        if found and positives >= (_LEAST_REFERENCE if settings.reference == "auto" else 1):
            columns, inputs = found.sample(settings.reference_rows)
            return split, importance_data(columns, inputs, task, settings, latest)
        if settings.reference == split:
            raise DataError(
                f"reference={split!r} has {positives} positives of {task}: expected at least 1; "
                "use another split, or reference: none"
            )
    return "none", None
