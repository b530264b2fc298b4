"""One training run: the weighted model and its control, trained, then exported."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow_transform as tft

from heft import features as f
from heft.errors import TrainingError
from heft.importance.estimate import SUMMARY_FILE
from heft.model import targets as t
from heft.model.architectures import MODEL_TASKS
from heft.model.calibration import Calibration, fit_calibration
from heft.model.export import ServedModel, export
from heft.model.inputs import evaluation_batches
from heft.model.network import POSITION_BIAS, InputSizes
from heft.model.packing import Layout, PackedRows, pack
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.training import Trained, TrainingRows, Watch, train
from heft.model.warm_start import WARM_START_DIR, Lineage, load_base, save_base, warm_start
from heft.text.encoder import load_encoder
from heft.text.table import TextTable
from heft.transform import TransformSettings

__all__ = [
    "CALIBRATION_FILE",
    "HISTORY_FILE",
    "Materials",
    "TrainingRun",
    "base_weights",
    "calibrated",
    "pack_rows",
    "train_and_export",
]

HISTORY_FILE, CALIBRATION_FILE = "history.json", "calibration.json"
# A control's click head learns the average position.
FLAT = np.array([[1, 0]], np.float32)


@dataclass(frozen=True)
class TrainingRun:
    """Where a run reads and writes.

    Attributes:
        train_files, tune_files: weighted shards, or patterns of them.
        transform_uri, embeddings_uri, importance_uri: artifacts of earlier nodes.
        model_dir: the served SavedModel goes here.
        control_dir: the control's SavedModel; untouched where there is no control.
        log_dir: TensorBoard logs, `history.json` and `calibration.json`.
        resume_dir: where a run that is started again finds how far it was.
        base_model: SavedModel of the last blessed run, to go on from with `warm_start`.
    """

    train_files: Sequence[str]
    tune_files: Sequence[str]
    transform_uri: str
    embeddings_uri: str
    importance_uri: str
    model_dir: str
    control_dir: str
    log_dir: str
    resume_dir: str | None = None
    base_model: str | None = None


@dataclass(frozen=True)
class Materials:
    """What a run's models are made from, rows aside.

    Attributes:
        transform: Transform's output.
        table: of text embeddings.
        sizes: of the inputs; base rates are those of no rows yet.
        clicks: (positions, 2) slope and offset of the click rate.
        lineage: what the weights of a model made from this mean.
    """

    transform: tft.TFTransformOutput
    table: TextTable
    sizes: InputSizes
    clicks: np.ndarray
    lineage: Lineage

    @classmethod
    def of(cls, run: TrainingRun, settings: TransformSettings) -> "Materials":
        """Reads the artifacts of earlier nodes."""
        output = tft.TFTransformOutput(run.transform_uri)
        table = TextTable.load(run.embeddings_uri)
        sizes = input_sizes(output, settings)
        importance = json.loads((Path(run.importance_uri) / SUMMARY_FILE).read_text())
        clicks = importance["clicks"]
        lines = np.array([clicks["slope"], clicks["offset"]], np.float32).T
        return cls(output, table, sizes, lines, _lineage(table, output, sizes, settings))

    def lines(self, settings: ModelSettings) -> np.ndarray:
        """(positions, 2) of the weighted model; an additive bias takes the click model's place."""
        return FLAT if settings.position == "additive" else self.clicks


def train_and_export(
    run: TrainingRun, settings: ModelSettings, transform_settings: TransformSettings
) -> None:
    """Trains on the weight pairs, then without weights, and writes what is served.

    Raises:
        TrainingError: no clicks to learn from, or the loss is not finite.
    """
    made = Materials.of(run, transform_settings)
    encoder = load_encoder(made.table.settings)
    layer = made.transform.transform_features_layer()
    histories, calibrations = {}, {}
    models = {"weighted": (run.model_dir, made.lines(settings))}
    if settings.control:
        models["control"] = (run.control_dir, FLAT)
    with tempfile.TemporaryDirectory(prefix="heft-rows-") as folder:
        rows = pack_rows(run, made.sizes, folder)
        sizes = made.sizes.with_rates(rows.train)
        for name, (path, line) in models.items():
            trained = train(
                rows,
                made.table,
                sizes,
                settings,
                _watch(run, name),
                weighted=name == "weighted",
                clicks=line.tolist(),
                prepare=base_weights(run, settings, name, made.lineage),
            )
            rates = calibrated(trained, rows.tune, sizes, settings, line)
            histories[name] = trained.history
            calibrations[name] = rates.calibration.to_json()
            served = ServedModel(
                trained.core,
                encoder,
                made.table,
                layer,
                made.transform.raw_feature_spec(),
                sizes,
                rates,
            )
            export(served, transform_settings, path)
            # The pushed model carries both, since what follows it trains both.
            save_base(trained.core, made.lineage, Path(run.model_dir) / WARM_START_DIR / name)
    _write(run, HISTORY_FILE, histories)
    _write(run, CALIBRATION_FILE, calibrations)
    if run.resume_dir:
        shutil.rmtree(run.resume_dir, ignore_errors=True)


def calibrated(
    trained: Trained,
    tune: PackedRows,
    sizes: InputSizes,
    settings: ModelSettings,
    clicks: np.ndarray,
) -> Rates:
    """What the model answers, calibrated on the rows of `tune` and their positions.

    Args:
        trained: a model.
        tune: packed rows with positions and labels.
        sizes, settings: of the model.
        clicks: (positions, 2) slope and offset of the click rate.
    """
    additive = settings.position == "additive"
    bias = trained.model.get_layer(POSITION_BIAS).get_weights()[0] if additive else None
    rates = Rates(clicks, settings.reference_position, position_bias=bias)
    if settings.calibration == "none":
        return rates
    if settings.negative_rate < 1:
        said = "tune holds a share of the negatives alone; the logit makes up for it"
        return replace(rates, calibration=Calibration(reasons=dict.fromkeys(MODEL_TASKS, said)))
    batches = evaluation_batches(tune, sizes, batch_size=8192, weighted=False, positions=additive)
    seen = [(trained.model(x, training=False).numpy(), y.numpy()) for x, y in batches]
    logits, targets = (np.concatenate(part) for part in zip(*seen, strict=True))
    lines = rates.lines(targets[:, t.POSITION].astype(np.int64))
    fitted = fit_calibration(
        settings.calibration, logits, lines, targets[:, t.CLICK], targets[:, t.CONVERSION]
    )
    return replace(rates, calibration=fitted)


def _lineage(
    table: TextTable, output: tft.TFTransformOutput, sizes: InputSizes, settings: TransformSettings
) -> Lineage:
    vocabularies = {
        f.categorical_id(name): tuple(
            value.decode("utf-8", "surrogateescape") for value in output.vocabulary_by_name(name)
        )
        for name in settings.categorical
    }
    return Lineage(table.fingerprint, sizes.dense, vocabularies)


def base_weights(
    run: TrainingRun, settings: ModelSettings, name: str, lineage: Lineage
) -> Callable[[keras.Model], object] | None:
    """Hands on the weights of `name` in the base model; None where there is none.

    The run's own last blessed model comes before one that the settings name.
    """
    path = (run.base_model if settings.warm_start else None) or settings.base_model
    if path is None:
        return None
    base = load_base(Path(path) / WARM_START_DIR / name)
    return lambda core: warm_start(core, lineage, base)


def _write(run: TrainingRun, name: str, facts: dict[str, Any]) -> None:
    (Path(run.log_dir) / name).write_text(json.dumps(facts, indent=1))


def input_sizes(output: tft.TFTransformOutput, settings: TransformSettings) -> InputSizes:
    """What the network is shaped by, from Transform's vocabularies."""
    # One row beyond the vocabulary is the out-of-vocabulary bucket.
    categorical = {
        f.categorical_id(name): output.vocabulary_size_by_name(name) + 1
        for name in settings.categorical
    }
    return InputSizes(categorical, tuple(f.numeric_value(name) for name in settings.numeric))


def pack_rows(run: TrainingRun, sizes: InputSizes, folder: str) -> TrainingRows:
    """The splits of a run as training reads them.

    Raises:
        TrainingError: no rows, or no clicks to learn from.
    """
    layout = Layout.of(tuple(sizes.categorical), sizes.dense)
    rows = TrainingRows(
        pack(_expand(run.train_files), layout, folder, f.TRAIN),
        pack(_expand(run.tune_files), layout, folder, f.TUNE),
    )
    if not 0 < rows.train.clicks < rows.train.rows:
        raise TrainingError(
            f"{rows.train.clicks} of {rows.train.rows} training impressions were clicked: expected "
            "both clicked and unclicked ones; check the clicks stream and click_window"
        )
    return rows


def _watch(run: TrainingRun, name: str) -> Watch:
    resume = f"{run.resume_dir}/{name}" if run.resume_dir else None
    return Watch(log_dir=f"{run.log_dir}/{name}", resume_dir=resume, name=name)


def _expand(patterns: Sequence[str]) -> list[str]:
    """Shards by name order; TFX hands over patterns that end in an asterisk."""
    paths = sorted(
        str(p) for pattern in patterns for p in Path(pattern).parent.glob(Path(pattern).name)
    )
    if not paths:
        raise TrainingError(f"no examples match {list(patterns)}")
    return paths
