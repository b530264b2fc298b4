"""What the trainer's network and TFMA predict for logged rows: the two sides of a skew test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.api import model_eval_lib
from tfx_bsl.tfxio import tf_example_record

from heft import features as f
from heft.model.calibration import Calibration
from heft.model.materials import Materials, TrainingRun
from heft.model.network import build_core
from heft.model.rates import Rates
from heft.model.warm_start import WARM_START_DIR, load_base, warm_start
from heft.text.encoder import load_encoder
from pipeline.beam import beam_args
from pipeline.config import PipelineConfig
from pipeline.evaluation import eval_config

Predictions = dict[str, np.ndarray]
OUTPUTS = (f.CTR, f.CVR, f.CTCVR)
RAW = constants.ARROW_INPUT_COLUMN


def artifact(folder: Path, node: str, output: str) -> Path:
    """Where the newest execution of a node wrote."""
    found = [path for path in (folder / "artifacts" / node / output).iterdir() if path.is_dir()]
    return max(found, key=lambda path: int(path.name))


class Trainer:
    """The trained network, as it was before anything was exported.

    Its weights are those that training handed on; vectors come from the table that it was
    trained with, and from the encoder in Keras for texts that the table lacks.
    """

    def __init__(self, folder: Path, config: PipelineConfig) -> None:
        run = TrainingRun(
            train_files=[], tune_files=[],
            transform_uri=str(artifact(folder, "Transform", "transform_graph")),
            embeddings_uri=str(artifact(folder, "TextEmbedder", "embeddings")),
            importance_uri=str(artifact(folder, "ImportanceEstimator", "importance")),
            model_dir="", control_dir="", log_dir="",
        )  # fmt: skip
        settings = config.model
        self.made = Materials.of(run, config.transform)
        self.core = build_core(self.made.table, self.made.sizes, settings)
        model = artifact(folder, "WeightedTrainer", "model") / "Format-Serving"
        warm_start(self.core, self.made.lineage, load_base(model / WARM_START_DIR / "weighted"))
        logged = artifact(folder, "WeightedTrainer", "model_run") / "calibration.json"
        curves = Calibration.from_json(json.loads(logged.read_text())["weighted"])
        self.rates = Rates(self.made.lines(settings), settings.reference_position, curves)
        self.encoder = load_encoder(self.made.table.settings)

    def predict(self, examples: Sequence[bytes], at_reference: bool) -> Predictions:
        """`ctr`, `cvr` and `ctcvr`, each (rows,); at each row's position or at the reference."""
        raw = tf.io.parse_example(list(examples), self.made.transform.raw_feature_spec())
        columns = self.made.transform.transform_features_layer()(raw)
        sizes, table = self.made.sizes, self.made.table
        inputs: dict[str, Any] = {name: columns[name].numpy() for name in sizes.categorical}
        inputs["dense"] = np.stack([columns[name].numpy() for name in sizes.dense], axis=1)
        for name, vectors, ids in (
            (f.QUERY, table.queries, f.QUERY_ID), (f.TITLE, table.titles, f.TITLE_ID),
        ):  # fmt: skip
            texts = [text_of(example, name) for example in examples]
            inputs[f"{name}_vector"] = self._vectors(texts, vectors, columns[ids].numpy())
        position = None if at_reference else columns[f.POSITION]
        return {k: v.numpy() for k, v in self.rates.tensors(self.core(inputs), position).items()}

    def new_texts(self, examples: Sequence[bytes]) -> set[bytes]:
        """Those that the table lacks."""
        table = self.made.table
        queries = {text_of(example, f.QUERY) for example in examples} - set(table.query_texts)
        titles = {text_of(example, f.TITLE) for example in examples} - set(table.title_texts)
        return queries | titles

    def _vectors(self, texts: list[bytes], table: np.ndarray, ids: np.ndarray) -> np.ndarray:
        rows = np.array(table[np.maximum(ids, 0)])
        new = np.flatnonzero(ids < 0)
        if len(new):
            rows[new] = self.encoder(tf.constant([texts[row] for row in new])).numpy()
        return rows


def text_of(example: bytes, name: str) -> bytes:
    """The one value of a text."""
    values = tf.train.Example.FromString(example).features.feature[name].bytes_list.value
    return values[0] if values else b""


def tfma_predictions(
    model: Path, examples: Sequence[bytes], config: PipelineConfig, folder: Path
) -> Predictions:
    """What TFMA's extractors have the model predict, under the config of the Evaluator."""
    settings = eval_config(config.thresholds, ())
    del settings.model_specs[1:], settings.metrics_specs[:]  # no baseline, nothing to compare
    shared = model_eval_lib.default_eval_shared_model(
        eval_saved_model_path=str(model), eval_config=settings, model_name="candidate"
    )
    extractors = model_eval_lib.default_extractors(eval_shared_model=shared, eval_config=settings)
    source = tf_example_record.TFExampleBeamRecord(
        telemetry_descriptors=["skew"], physical_format="inmem", raw_record_column_name=RAW,
    )  # fmt: skip

    def rows(extracts: dict[str, Any]) -> list[str]:
        raw = extracts[constants.INPUT_KEY]
        predictions = extracts[constants.PREDICTIONS_KEY]
        predictions = predictions.get("candidate", predictions)
        return [
            json.dumps([key.hex(), *(float(predictions[name][row]) for name in OUTPUTS)])
            for row, key in enumerate(raw)
        ]

    with beam.Pipeline(options=PipelineOptions(beam_args())) as pipeline:
        extracts = (
            pipeline
            | beam.Create(list(examples))
            | source.BeamSource()
            | model_eval_lib.BatchedInputsToExtracts()
        )
        for extractor in extractors:
            if "Slice" not in extractor.stage_name:
                extracts |= extractor.stage_name >> extractor.ptransform
        _ = extracts | beam.FlatMap(rows) | beam.io.WriteToText(str(folder / "tfma"))
    found = {}
    for path in folder.glob("tfma-*"):
        for line in path.read_text().splitlines():
            key, *values = json.loads(line)
            found[bytes.fromhex(key)] = values
    table = np.array([found[example] for example in examples], np.float64)
    return dict(zip(OUTPUTS, table.T, strict=True))


def columns_of(examples: Sequence[bytes], config: PipelineConfig) -> dict[str, list[Any]]:
    """The raw columns that a client sends for logged rows."""
    texts = (f.QUERY, f.TITLE, *config.transform.categorical)
    columns: dict[str, list[Any]] = {
        name: [text_of(example, name) for example in examples] for name in texts
    }
    for name in config.transform.numeric:
        columns[name] = []
        for example in examples:
            values = tf.train.Example.FromString(example).features.feature[name].float_list.value
            columns[name].append(values[0] if values else 0.0)
    return columns
