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
from heft.model.compression import compressed, compression_facts
from heft.model.export import ServedModel, export
from heft.model.inputs import evaluation_batches
from heft.model.ledger import together
from heft.model.network import POSITION_BIAS, InputSizes
from heft.model.packing import Layout, PackedRows, pack
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.tracking import Tracker, tracked
from heft.model.training import Trained, TrainingRows, Watch, distilled, train
from heft.model.warm_start import (
    EXTRAS_DIR,
    WARM_START_DIR,
    Lineage,
    load_base,
    save_base,
    warm_start,
)
from heft.text.encoder import load_encoder
from heft.text.table import TextTable
from heft.transform import TransformSettings

__all__ = [
    "CALIBRATION_FILE", "COMPRESSION_FILE", "HISTORY_FILE", "PRIVACY_FILE", "TrainingRun",
    "calibrated", "train_and_export",
]  # fmt: skip

HISTORY_FILE, CALIBRATION_FILE = "history.json", "calibration.json"
COMPRESSION_FILE, PRIVACY_FILE = "compression.json", "privacy.json"

Facts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TrainingRun:
    """Where a run reads and writes.

    Attributes:
        train_files, tune_files: weighted shards, or patterns of them.
        transform_uri, embeddings_uri, importance_uri: artifacts of earlier nodes.
        model_dir: the served SavedModel goes here.
        control_dir: the control's SavedModel; untouched where there is no control.
        log_dir: TensorBoard logs, `history.json`, `calibration.json` and, if there is
            something to say, `compression.json` and `privacy.json`.
        resume_dir: where a run that is started again finds how far it was.
        base_model: SavedModel of an earlier run, to go on from with `warm_start`.
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


def train_and_export(
    run: TrainingRun, settings: ModelSettings, transform_settings: TransformSettings
) -> None:
    """Trains on the weight pairs, then without weights, and writes what is served.

    Raises:
        TrainingError: no clicks to learn from, or the loss is not finite.
    """
    transform_output = tft.TFTransformOutput(run.transform_uri)
    table = TextTable.load(run.embeddings_uri)
    sizes = input_sizes(transform_output, transform_settings, settings.history)
    importance = json.loads((Path(run.importance_uri) / SUMMARY_FILE).read_text())
    clicks = importance["clicks"]
    lines = np.array([clicks["slope"], clicks["offset"]], np.float32).T
    encoder = load_encoder(table.settings)
    layer = transform_output.transform_features_layer()
    lineage = _lineage(table, transform_output, sizes, transform_settings)
    facts: Facts = {HISTORY_FILE: {}, CALIBRATION_FILE: {}, COMPRESSION_FILE: {}, PRIVACY_FILE: {}}
    # An additive bias and the control's average position take the place of the click model.
    flat = np.array([[1, 0]], np.float32)
    models = {"weighted": (run.model_dir, flat if settings.position == "additive" else lines)}
    if settings.control:
        models["control"] = (run.control_dir, flat)
    with tempfile.TemporaryDirectory(prefix="heft-rows-") as folder:
        rows = _pack(run, sizes, folder)
        # Rates of training rows would tell of them without noise.
        sizes = sizes.with_rates(rows.tune if settings.privacy else rows.train)
        for name, (path, line) in models.items():
            base = _base(run, settings, name, lineage)
            trained, served = _fitted(run, settings, name, rows, table, sizes, line, base, facts)
            served = compressed(served, settings)
            rates = calibrated(served, rows.tune, sizes, settings, line)
            if served is not trained:
                facts[COMPRESSION_FILE][name] = compression_facts(
                    trained, served, rates, rows.tune, sizes, settings
                )
            facts[CALIBRATION_FILE][name] = rates.calibration.to_json()
            spec, kind = transform_output.raw_feature_spec(), settings.compression.table
            whole = ServedModel(served.core, encoder, table, layer, spec, sizes, rates, kind)
            export(whole, transform_settings, path)
            # The pushed model carries both, since what follows it trains both.
            save_base(trained.core, lineage, Path(run.model_dir) / WARM_START_DIR / name)
            if trained.privacy is not None:
                _write(Path(path) / EXTRAS_DIR, PRIVACY_FILE, trained.privacy)
    if facts[PRIVACY_FILE]:
        facts[PRIVACY_FILE] = together(facts[PRIVACY_FILE])
    for file, content in facts.items():
        if content:
            _write(Path(run.log_dir), file, content)
    if run.resume_dir:
        shutil.rmtree(run.resume_dir, ignore_errors=True)


def _fitted(
    run: TrainingRun,
    settings: ModelSettings,
    name: str,
    rows: TrainingRows,
    table: TextTable,
    sizes: InputSizes,
    clicks: np.ndarray,
    prepare: Callable[[keras.Model], object] | None,
    facts: Facts,
) -> tuple[Trained, Trained]:
    """What was trained, and what is served: its student, or itself. Adds to `facts`."""
    weighted, common = name == "weighted", (rows, table, sizes, settings)
    with tracked(settings, name, run.log_dir) as tracker:
        watch = _watch(run, name, tracker)
        trained = train(*common, watch, weighted=weighted, clicks=clicks.tolist(), prepare=prepare)
        tracker.summarise(trained.history)
    facts[HISTORY_FILE][name] = trained.history
    if trained.privacy is not None:
        facts[PRIVACY_FILE][name] = trained.privacy
    if settings.student is None:
        return trained, trained
    own = f"{name}_student"
    with tracked(settings, own, run.log_dir) as tracker:
        student = distilled(trained, *common, _watch(run, own, tracker), weighted=weighted)
        tracker.summarise(student.history)
    facts[HISTORY_FILE][own] = student.history
    return trained, student


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
    return Lineage(table.fingerprint, sizes.dense, vocabularies, sizes.vectors, sizes.history > 0)


def _base(
    run: TrainingRun, settings: ModelSettings, name: str, lineage: Lineage
) -> Callable[[keras.Model], object] | None:
    """Hands on the weights of `name` in the base model; None on a first run."""
    if not settings.warm_start or run.base_model is None:
        return None
    base = load_base(Path(run.base_model) / WARM_START_DIR / name)
    return lambda core: warm_start(core, lineage, base)


def _write(folder: Path, file: str, content: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(content, indent=1))


def input_sizes(
    output: tft.TFTransformOutput, settings: TransformSettings, history: bool = False
) -> InputSizes:
    """What the network is shaped by, from what Transform learned; with or without the history."""
    # One row beyond the vocabulary is the out-of-vocabulary bucket.
    categorical = {
        f.categorical_id(name): output.vocabulary_size_by_name(name) + 1
        for name in settings.categorical
    }
    numeric = [f.numeric_value(name) for name in settings.numeric]
    numeric += [f.vector_present(name) for name in settings.vectors]
    spec = output.transformed_feature_spec()
    vectors = {
        f.vector_value(name): spec[f.vector_value(name)].shape[0] for name in settings.vectors
    }
    clicks = spec[f.HISTORY_IDS].shape[0] if history else 0
    return InputSizes(categorical, tuple(numeric), vectors=vectors, history=clicks)


def _pack(run: TrainingRun, sizes: InputSizes, folder: str) -> TrainingRows:
    layout = Layout.of(tuple(sizes.categorical), sizes.dense, sizes.vectors, sizes.history)
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


def _watch(run: TrainingRun, name: str, tracker: Tracker) -> Watch:
    resume = f"{run.resume_dir}/{name}" if run.resume_dir else None
    return Watch(f"{run.log_dir}/{name}", resume, tracker.callbacks, name)


def _expand(patterns: Sequence[str]) -> list[str]:
    """Shards by name order; TFX hands over patterns that end in an asterisk."""
    paths = sorted(
        str(p) for pattern in patterns for p in Path(pattern).parent.glob(Path(pattern).name)
    )
    if not paths:
        raise TrainingError(f"no examples match {list(patterns)}")
    return paths
