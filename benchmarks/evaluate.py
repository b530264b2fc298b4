"""How long judging takes: the Evaluator and the comparison with a control, on many rows.

    .venv/bin/python -m benchmarks.evaluate

Rows of result pages are made with clicks and conversions, and two small models that rank them,
so that what is measured is the judging and not the model. Then TFX's Evaluator runs on both models,
for clicks and conversions, on every slice, as the pipeline has it; and WeightingJudge's comparison,
with its bootstrap. What is made beforehand is not counted, nor are imports. The last line is one
JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.console import quiet
from heft.evaluation import EvaluationSettings
from heft.evaluation.judging import judge_models
from heft.examples import write_columns

PAGE, USERS, CATEGORIES = 10, 5_000, 40
SLICES = ("category", "device", "query_frequency", "item_novelty")


def main() -> None:
    """Makes rows and models, judges them, and prints seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(prefix="heft-evaluate-") as folder:
        place = Path(folder)
        write_rows(place / "examples", options.rows, options.seed)
        for name, noise in (("weighted", 0.4), ("control", 0.8)):
            write_model(place / name, noise)
        evaluate = evaluator(place)  # TFX takes its time to import
        began = time.monotonic()
        evaluate()
        evaluated = time.monotonic()
        judge(place)
        ended = time.monotonic()
    facts = {
        "rows": options.rows,
        "evaluator_seconds": round(evaluated - began, 1),
        "judge_seconds": round(ended - evaluated, 1),
        "seconds": round(ended - began, 1),
    }
    print(json.dumps(facts))


def write_rows(folder: Path, rows: int, seed: int) -> None:
    """Whole pages of logged examples, with the columns of a real one."""
    rng = np.random.default_rng(seed)
    rows -= rows % PAGE
    request = np.repeat(np.arange(rows // PAGE), PAGE)
    attraction, noise = rng.normal(size=rows), rng.normal(size=(2, rows))
    position = np.tile(np.arange(1, PAGE + 1), rows // PAGE)
    click = rng.random(rows) < _sigmoid(attraction - 1 - 0.2 * position)
    conversion = click & (rng.random(rows) < 0.15)
    columns = {
        f.IMPRESSION_ID: _ids("i", np.arange(rows)),
        f.REQUEST_ID: _ids("r", request),
        f.USER_ID: _ids("u", (request * 7919) % USERS),
        f.ITEM_ID: _ids("p", rng.integers(0, 20_000, rows)),
        f.QUERY: _ids("query ", rng.zipf(1.3, rows // PAGE).clip(max=10_000)[request]),
        f.TITLE: _ids("title of a product ", rng.integers(0, 20_000, rows)),
        f.POSITION: position,
        f.TIMESTAMP: 1_700_000_000_000 + np.arange(rows),
        f.CATEGORY: _ids("category ", rng.integers(0, CATEGORIES, rows)),
        f.BRAND: _ids("brand ", rng.integers(0, 200, rows)),
        f.PRICE: rng.gamma(2, 30, rows),
        "device": rng.choice([b"desktop", b"phone", b"tablet", b"tv"], rows).astype(object),
        "query_frequency": rng.choice([b"head", b"torso", b"tail", b"unseen"], rows).astype(object),
        "item_novelty": rng.choice([b"known", b"new"], rows).astype(object),
        "attraction": attraction,
        "noise": noise[0],
        f.CLICK: click.astype(np.int64),
        f.CONVERSION: conversion.astype(np.int64),
        f.CLICK_DELAY: np.where(click, 3.0, -1.0),
        f.CONVERSION_DELAY: np.where(conversion, 60.0, -1.0),
        f.CONVERSION_VALUE: np.where(conversion, 20.0, 0.0),
        f.OBSERVATION: np.full(rows, 1e5),
    }
    for shard, part in enumerate(np.array_split(np.arange(rows), 4)):
        path = folder / f"Split-{f.NATURAL}" / f"part-{shard}.gz"
        write_columns({name: values[part] for name, values in columns.items()}, path)


class _Scorer(tf.Module):
    """Attraction and position, seen through noise."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = tf.constant(noise)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec: dict[str, Any] = {
            name: tf.io.FixedLenFeature([], tf.float32) for name in ("attraction", "noise")
        }
        spec[f.POSITION] = tf.io.FixedLenFeature([], tf.int64, 1)
        row = tf.io.parse_example(examples, spec)
        seen = row["attraction"] + self.noise * row["noise"]
        click = tf.sigmoid(seen - 1 - 0.2 * tf.cast(row[f.POSITION], tf.float32))
        return {f.CTR: click, f.CVR: 0.15 * tf.ones_like(click), f.CTCVR: 0.15 * click}


def write_model(folder: Path, noise: float) -> None:
    """A SavedModel where TFX looks for one."""
    scorer = _Scorer(noise)
    path = str(folder / "Format-Serving")
    tf.saved_model.save(scorer, path, signatures={"examples": scorer.examples})


def evaluator(place: Path, stock: bool = False) -> Callable[[], None]:
    """The street's executor on what `write_rows` and `write_model` wrote, ready to run.

    The control stands in for the last blessed model. `stock` is for TFX's own executor.
    """
    from tfx.components.evaluator.executor import Executor as Stock
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import json_utils, proto_utils

    from components.log_evaluator.executor import Executor
    from pipeline.beam import beam_args
    from pipeline.config import Thresholds
    from pipeline.evaluation import eval_config

    examples = standard_artifacts.Examples()
    examples.uri = str(place / "examples")
    examples.split_names = artifact_utils.encode_split_names([f.NATURAL])
    models = {"model": "weighted", "baseline_model": "control"}
    inputs = {"examples": [examples]}
    for key, name in models.items():
        artifact = standard_artifacts.Model()
        artifact.uri = str(place / name)
        inputs[key] = [artifact]
    outputs = {
        "evaluation": [standard_artifacts.ModelEvaluation()],
        "blessing": [standard_artifacts.ModelBlessing()],
    }
    for key, [artifact] in outputs.items():
        artifact.uri = str(place / key)
    properties = {
        "eval_config": proto_utils.proto_to_json(eval_config(Thresholds(), SLICES)),
        "example_splits": json_utils.dumps([f.NATURAL]),
    }
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=beam_args(), tmp_dir=str(place / "tmp"), unique_id="1"
    )

    def run() -> None:
        (Stock if stock else Executor)(context).Do(inputs, outputs, properties)

    return run


def judge(place: Path) -> None:
    """WeightingJudge's comparison of the same."""
    judge_models(
        {f.NATURAL: str(place / "examples" / f"Split-{f.NATURAL}")},
        str(place / "weighted" / "Format-Serving"),
        str(place / "control" / "Format-Serving"),
        SLICES,
        EvaluationSettings(max_slices=CATEGORIES),
        str(place / "verdict"),
    )


def _ids(prefix: str, numbers: np.ndarray) -> np.ndarray:
    return np.array([f"{prefix}{number}".encode() for number in numbers], object)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


if __name__ == "__main__":
    main()
