"""One training run: the weighted model and its control, trained, then exported."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_transform as tft

from heft import features as f
from heft.errors import TrainingError
from heft.examples import Feature, iterate_columns
from heft.importance.estimate import SUMMARY_FILE
from heft.model.export import ServedModel, export
from heft.model.network import InputSizes
from heft.model.settings import ModelSettings
from heft.model.training import Trained, train
from heft.text.encoder import load_encoder
from heft.text.table import TextTable
from heft.transform import TransformSettings

__all__ = ["HISTORY_FILE", "TrainingRun", "train_and_export"]

HISTORY_FILE = "history.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """Where a run reads and writes.

    Attributes:
        train_files, tune_files: weighted shards, or patterns of them.
        transform_uri, embeddings_uri, importance_uri: artifacts of earlier nodes.
        model_dir: the served SavedModel goes here.
        control_dir: the control's SavedModel; untouched where there is no control.
        log_dir: TensorBoard logs and `history.json`.
    """

    train_files: Sequence[str]
    tune_files: Sequence[str]
    transform_uri: str
    embeddings_uri: str
    importance_uri: str
    model_dir: str
    control_dir: str
    log_dir: str


def train_and_export(
    run: TrainingRun, settings: ModelSettings, transform_settings: TransformSettings
) -> None:
    """Trains on the weight pairs, then without weights, and writes what is served.

    Raises:
        TrainingError: no clicks to learn from, or the loss is not finite.
    """
    transform_output = tft.TFTransformOutput(run.transform_uri)
    table = TextTable.load(run.embeddings_uri)
    train_paths, tune_paths = _expand(run.train_files), _expand(run.tune_files)
    sizes = input_sizes(train_paths, transform_output, transform_settings)
    importance = json.loads((Path(run.importance_uri) / SUMMARY_FILE).read_text())
    clicks = importance["clicks"]
    lines = np.array([clicks["slope"], clicks["offset"]], np.float32).T
    encoder = load_encoder(table.settings)
    layer = transform_output.transform_features_layer()
    histories = {}
    models = {"weighted": (run.model_dir, lines)}
    if settings.control:
        models["control"] = (run.control_dir, np.array([[1, 0]], np.float32))
    for name, (path, line) in models.items():
        trained = _train(name, train_paths, tune_paths, table, sizes, settings, run.log_dir)
        histories[name] = trained.history
        served = ServedModel(
            trained.core,
            encoder,
            table,
            layer,
            transform_output.raw_feature_spec(),
            sizes,
            line,
            settings.reference_position,
        )
        export(served, transform_settings, path)
    (Path(run.log_dir) / HISTORY_FILE).write_text(json.dumps(histories, indent=1))


def input_sizes(
    train_paths: Sequence[str], output: tft.TFTransformOutput, settings: TransformSettings
) -> InputSizes:
    """What the network is shaped by, from Transform's vocabularies and one pass of labels."""
    rows = clicks = conversions = 0
    for batch in iterate_columns(train_paths, [Feature(f.CLICK, int), Feature(f.CONVERSION, int)]):
        rows += len(batch[f.CLICK])
        clicks += int(batch[f.CLICK].sum())
        conversions += int(batch[f.CONVERSION].sum())
    if not clicks:
        raise TrainingError(
            f"none of {rows} training impressions was clicked: expected both clicked and "
            "unclicked ones; check the clicks stream and click_window"
        )
    # One row beyond the vocabulary is the out-of-vocabulary bucket.
    categorical = {
        f.categorical_id(name): output.vocabulary_size_by_name(name) + 1
        for name in settings.categorical
    }
    numeric = tuple(f.numeric_value(name) for name in settings.numeric)
    return InputSizes(categorical, numeric, clicks / rows, conversions / rows, rows)


def _train(
    name: str,
    train_paths: Sequence[str],
    tune_paths: Sequence[str],
    table: TextTable,
    sizes: InputSizes,
    settings: ModelSettings,
    log_dir: str,
) -> Trained:
    def report(epoch: int, logs: dict[str, float]) -> None:
        log.info("%s epoch %d/%d: %s", name, epoch, settings.epochs, logs)

    return train(
        train_paths,
        tune_paths,
        table,
        sizes,
        settings,
        weighted=name == "weighted",
        log_dir=Path(log_dir) / name,
        on_epoch=report,
    )


def _expand(patterns: Sequence[str]) -> list[str]:
    """Shards by name order; TFX hands over patterns that end in an asterisk."""
    paths = sorted(
        str(p) for pattern in patterns for p in Path(pattern).parent.glob(Path(pattern).name)
    )
    if not paths:
        raise TrainingError(f"no examples match {list(patterns)}")
    return paths
