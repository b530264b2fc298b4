"""ImportanceEstimator's library function: transformed examples in, weighted examples out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heft import features as f
from heft.examples import Feature, read_columns, shard_paths, write_columns
from heft.importance.settings import ImportanceSettings
from heft.importance.weigh import (
    TaskWeights,
    estimate_examination,
    extremes,
    importance_data,
    summarise,
    weigh_task,
    weigh_tune,
)
from heft.model.interaction import TextInteraction
from heft.text.table import TextTable

__all__ = ["SUMMARY_FILE", "estimate_importance"]

SUMMARY_FILE = "importance.json"
SHARD_ROWS = 100_000

Array = np.ndarray
Columns = dict[str, Array]


def estimate_importance(
    split_uris: Mapping[str, str],
    table: TextTable,
    features: list[Feature],
    settings: ImportanceSettings,
    output_uris: Mapping[str, str],
    summary_uri: str,
) -> dict[str, Any]:
    """Weighs the training split, and writes train and tune again with their weights.

    Args:
        split_uris: folders of transformed examples; `train` and `tune`, and
            `harvest` where pages were shuffled.
        table: the embedding table that the text ids point to.
        features: all columns of the transformed examples.
        settings: estimators and combination.
        output_uris: a folder each for `train` and `tune`.
        summary_uri: folder of the SampleImportance artifact.

    Returns:
        What was written to `importance.json`.
    """
    train = _read(split_uris[f.TRAIN], features)
    tune = _read(split_uris[f.TUNE], features)
    harvest = _read(split_uris[f.HARVEST], features) if f.HARVEST in split_uris else None
    if settings.propensity != "logged":
        for columns in (train, tune):
            columns.pop(f.PROPENSITY, None)
    inputs = proxy_features(train, table, [x.name for x in features])
    data = {task: importance_data(train, inputs, task) for task in f.TASKS}
    examination = estimate_examination(data[f.CTR], harvest, settings)
    results = {task: weigh_task(data[task], examination, settings) for task in f.TASKS}
    empty = np.zeros((len(tune[f.CLICK]), 0), np.float32)
    tuned = {
        task: weigh_tune(importance_data(tune, empty, task), examination, settings)
        for task in f.TASKS
    }
    _write(train, results, output_uris[f.TRAIN])
    _write(tune, tuned, output_uris[f.TUNE])
    summary = summarise(results, examination, {task: data[task].label for task in f.TASKS})
    summary["samples"] = _samples(train, results[f.CTR], settings.samples)
    path = Path(summary_uri) / SUMMARY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=1))
    return summary


def proxy_features(columns: Columns, table: TextTable, names: list[str]) -> Array:
    """(n, d) float32: text interaction, lexical features and z-scores of each row.

    The text part is computed once per distinct query and title pair.
    """
    dense = [n for n in names if n in f.LEXICAL or n.endswith("_z")]
    pairs = np.stack([columns[f.QUERY_ID], columns[f.TITLE_ID]], axis=1)
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    interaction = TextInteraction.from_reduction(table.reduction)
    parts = [
        np.asarray(
            interaction([_rows(table.queries, chunk[:, 0]), _rows(table.titles, chunk[:, 1])])
        )
        for chunk in np.array_split(distinct, max(1, len(distinct) // 16_384))
    ]
    text = np.concatenate(parts)[index.ravel()]
    return np.concatenate([text, *(columns[name][:, None] for name in dense)], axis=1).astype(
        np.float32
    )


def _rows(matrix: Array, ids: Array) -> Array:
    """Rows of an embedding matrix; zeros for an id out of vocabulary."""
    return np.where((ids >= 0)[:, None], matrix[np.maximum(ids, 0)], 0).astype(np.float32)


def _read(uri: str, features: list[Feature]) -> Columns:
    return read_columns(shard_paths(uri), features)


def _write(columns: Columns, results: dict[str, TaskWeights], uri: str) -> None:
    for task, result in results.items():
        columns = columns | result.columns(task)
    rows = len(columns[f.CLICK])
    shards = max(1, -(-rows // SHARD_ROWS))
    for k, part in enumerate(np.array_split(np.arange(rows), shards)):
        name = f"weighted-{k:05d}-of-{shards:05d}.gz"
        write_columns({n: v[part] for n, v in columns.items()}, Path(uri) / name)


def _samples(
    columns: Columns, result: TaskWeights, how_many: int
) -> dict[str, list[dict[str, Any]]]:
    """The heaviest and lightest samples, one per query and title; texts by id."""
    pair = columns[f.QUERY_ID] * 2**32 + columns[f.TITLE_ID]
    heaviest, lightest = extremes(result.weights, how_many, pair)
    return {
        name: [_sample(columns, result, row) for row in rows]
        for name, rows in (("heaviest", heaviest), ("lightest", lightest))
    }


def _sample(columns: Columns, result: TaskWeights, row: int) -> dict[str, Any]:
    positive, negative = (float(x) for x in result.weights.pairs[row])
    return {
        "impression_id": columns[f.IMPRESSION_ID][row].decode(errors="replace"),
        "query_id": int(columns[f.QUERY_ID][row]),
        "title_id": int(columns[f.TITLE_ID][row]),
        "position": int(columns[f.POSITION][row]),
        "click": int(columns[f.CLICK][row]),
        "positive_weight": positive,
        "negative_weight": negative,
        "scores": {name: float(score[row]) for name, score in result.scores.items()},
    }
