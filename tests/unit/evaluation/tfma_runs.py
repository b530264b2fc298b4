"""Predictions through TFMA's own pipeline, without a model."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.api import model_eval_lib, types
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util
from tfx_bsl.tfxio import tf_example_record

from heft import features as f
from heft.examples import write_columns

HEADS = {f.CTR: f.CLICK, f.CTCVR: f.CONVERSION}


def rows(count: int = 3_000, seed: int = 0, page: int = 10) -> dict[str, np.ndarray]:
    """Whole pages with clicks, conversions and predictions of two models, tied here and there."""
    rng = np.random.default_rng(seed)
    request = np.repeat(np.arange(count // page), page)
    truth = rng.normal(size=count) - 1
    click = (rng.random(count) < _sigmoid(truth)).astype(np.int64)
    columns: dict[str, np.ndarray] = {
        f.REQUEST_ID: _ids("r", request),
        f.USER_ID: np.where(request % 7 == 0, b"", _ids("u", request % 97)).astype(object),
        f.CLICK: click,
        f.CONVERSION: click * (rng.random(count) < 0.3),
        "device": rng.choice([b"phone", b"desktop"], count, p=[0.8, 0.2]).astype(object),
        f.CATEGORY: _ids("c", rng.integers(0, 5, count)),
    }
    for model, noise in (("candidate", 0.3), ("baseline", 1.0)):
        ctr = np.round(_sigmoid(truth + noise * rng.normal(size=count)), 2).astype(np.float32)
        columns[f"{model}_ctr"], columns[f"{model}_ctcvr"] = ctr, (0.3 * ctr).astype(np.float32)
    return columns


def evaluated(
    columns: dict[str, np.ndarray], config: config_pb2.EvalConfig, folder: Path, baseline: bool
) -> Path:
    """Runs TFMA on predictions that stand in columns `{model}_{head}`; returns its output."""
    write_columns(columns, folder / "rows" / "part-0.gz")
    config = config_util.update_eval_config_with_defaults(
        config, has_baseline=baseline, rubber_stamp=True
    )
    models = [
        types.EvalSharedModel(
            model_name=spec.name,
            model_type=constants.MATERIALIZED_PREDICTION,
            is_baseline=spec.is_baseline,
            rubber_stamp=not baseline,
        )
        for spec in config.model_specs
    ]
    for spec in config.model_specs:
        model = "baseline" if spec.is_baseline else "candidate"
        spec.ClearField("signature_name")
        for head in HEADS:
            spec.prediction_keys[head] = f"{model}_{head}"
    reader = tf_example_record.TFExampleRecord(
        str(folder / "rows" / "*"), raw_record_column_name="raw"
    )
    arguments = ["--runner=FnApiRunner", "--direct_running_mode=in_memory"]
    with beam.Pipeline(argv=arguments) as pipeline:
        _ = (
            pipeline
            | reader.BeamSource()
            | model_eval_lib.ExtractEvaluateAndWriteResults(
                eval_shared_model=models,
                eval_config=config,
                output_path=str(folder / "evaluation"),
            )
        )
    return folder / "evaluation"


def metrics(output: Path) -> pd.DataFrame:
    """What TFMA wrote: slice, model, output, name, value, low, high, diff."""
    found: list[dict[str, Any]] = []
    for part in model_eval_lib.load_metrics(str(output)):
        key = tuple(
            (single.column, single.bytes_value.decode())
            for single in part.slice_key.single_slice_keys
        )
        for metric in part.metric_keys_and_values:
            interval = metric.confidence_interval
            there = metric.HasField("confidence_interval")
            found.append(
                {
                    "slice": key,
                    "model": metric.key.model_name,
                    "output": metric.key.output_name,
                    "name": metric.key.name,
                    "diff": metric.key.is_diff,
                    "value": metric.value.double_value.value,
                    "low": interval.lower_bound.double_value.value if there else np.nan,
                    "high": interval.upper_bound.double_value.value if there else np.nan,
                }
            )
    return pd.DataFrame(found)


def _ids(prefix: str, numbers: np.ndarray) -> np.ndarray:
    return np.array([f"{prefix}{number}".encode() for number in numbers], object)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
