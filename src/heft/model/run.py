"""One training run: the weighted model and its control, trained, then exported."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from heft.errors import EncoderError
from heft.model import targets as t
from heft.model.architectures import MODEL_TASKS
from heft.model.calibration import Calibration, fit_calibration
from heft.model.compression import compressed, compression_facts
from heft.model.export import ServedModel, export
from heft.model.inputs import evaluation_batches
from heft.model.ledger import together
from heft.model.materials import (
    FLAT,
    Materials,
    TrainingRun,
    base_of,
    base_weights,
    pack_rows,
)
from heft.model.network import POSITION_BIAS, InputSizes
from heft.model.packing import PackedRows
from heft.model.plan import TrainingRows
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.strategy import is_chief, several_workers, training_strategy
from heft.model.tracking import Tracker, tracked
from heft.model.training import Trained, Watch, distilled, train
from heft.model.warm_start import EXTRAS_DIR, WARM_START_DIR, save_base
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.table import TextTable
from heft.transform import TransformSettings

__all__ = [
    "CALIBRATION_FILE",
    "COMPRESSION_FILE",
    "ENCODER_FILE",
    "HISTORY_FILE",
    "PRIVACY_FILE",
    "SELECTION_FILE",
    "calibrated",
    "train_and_export",
]

HISTORY_FILE, CALIBRATION_FILE = "history.json", "calibration.json"
COMPRESSION_FILE, PRIVACY_FILE = "compression.json", "privacy.json"
SELECTION_FILE, ENCODER_FILE = "selection.json", "encoder.json"

Facts = dict[str, dict[str, Any]]


def train_and_export(
    run: TrainingRun, settings: ModelSettings, transform_settings: TransformSettings
) -> None:
    """Trains on the weight pairs, then without weights, and writes what is served.

    Of several workers the chief writes alone, and none goes on from an earlier start: their
    states would have to be of the same epoch.

    Raises:
        TrainingError: no clicks to learn from, or the loss is not finite.
    """
    strategy = training_strategy(settings.strategy)  # before anything else is asked of TensorFlow
    if several_workers(strategy):
        run = replace(run, resume_dir=None)
    with tempfile.TemporaryDirectory(prefix="heft-worker-") as elsewhere:
        if not is_chief(strategy):
            run = replace(run, model_dir=elsewhere, control_dir=elsewhere, log_dir=elsewhere)
        _train_and_export(run, settings, transform_settings, strategy)


def _train_and_export(
    run: TrainingRun,
    settings: ModelSettings,
    transform_settings: TransformSettings,
    strategy: tf.distribute.Strategy,
) -> None:
    chief = is_chief(strategy)
    made = Materials.of(run, transform_settings, settings.history, settings.selection)
    encoder = _encoder(made.table)
    layer = made.transform.transform_features_layer()
    spec = made.transform.raw_feature_spec()
    facts: Facts = {HISTORY_FILE: {}, CALIBRATION_FILE: {}, COMPRESSION_FILE: {}, PRIVACY_FILE: {}}
    models = {"weighted": (run.model_dir, made.lines(settings))}
    if settings.control:
        models["control"] = (run.control_dir, FLAT)
    with tempfile.TemporaryDirectory(prefix="heft-rows-") as folder:
        rows = pack_rows(run, made.sizes, folder)
        # Rates of training rows would tell of them without noise.
        sizes = made.sizes.with_rates(rows.tune if settings.privacy else rows.train)
        for name, (path, line) in models.items():
            begin = base_weights(run, settings, name, made.lineage)
            trained, served = _fitted(
                run, settings, name, rows, made.table, sizes, line, begin, facts, strategy
            )
            if not chief:
                continue
            served = compressed(served, settings)
            rates = calibrated(served, rows.tune, sizes, settings, line)
            if served is not trained:
                facts[COMPRESSION_FILE][name] = compression_facts(
                    trained, served, rates, rows.tune, sizes, settings
                )
            facts[CALIBRATION_FILE][name] = rates.calibration.to_json()
            kind = settings.compression.table
            whole = ServedModel(served.core, encoder, made.table, layer, spec, sizes, rates, kind)
            export(whole, transform_settings, path)
            # The pushed model carries both, since what follows it trains both.
            _write(Path(path) / EXTRAS_DIR, ENCODER_FILE, _encoder_facts(made.table))
            place = Path(run.model_dir) / WARM_START_DIR / name
            save_base(trained.core, made.lineage, place, base_of(run, settings, name))
            if trained.privacy is not None:
                _write(Path(path) / EXTRAS_DIR, PRIVACY_FILE, trained.privacy)
    if made.selection is not None:
        facts[SELECTION_FILE] = asdict(made.selection)
    if facts[PRIVACY_FILE]:
        facts[PRIVACY_FILE] = together(facts[PRIVACY_FILE])
    for file, content in facts.items():
        if content:
            _write(Path(run.log_dir), file, content)
    if run.resume_dir:
        shutil.rmtree(run.resume_dir, ignore_errors=True)


def _encoder(table: TextTable) -> TextEncoder:
    """The encoder of a table's vectors, for the texts that it lacks.

    Raises:
        EncoderError: what lies there is another one by now.
    """
    encoder = load_encoder(table.settings)
    if encoder.fingerprint != table.fingerprint:
        raise EncoderError(
            f"encoder={table.settings.encoder!r} has the fingerprint "
            f"{encoder.fingerprint[:12]}, and the text table was made with "
            f"{table.fingerprint[:12]}: new texts would get vectors of another kind; run the "
            "whole street again, or put that encoder back"
        )
    return encoder


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
    strategy: tf.distribute.Strategy,
) -> tuple[Trained, Trained]:
    """What was trained, and what is served: its student, or itself. Adds to `facts`."""
    weighted, common = name == "weighted", (rows, table, sizes, settings)
    with tracked(settings, name, run.log_dir) as tracker:
        watch = _watch(run, name, tracker)
        trained = train(
            *common, watch, weighted=weighted, clicks=clicks.tolist(), prepare=prepare,
            strategy=strategy,
        )  # fmt: skip
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


def _encoder_facts(table: TextTable) -> dict[str, Any]:
    """Whose vectors a model has learned from, for those who explain it."""
    return {"text": table.settings.model_dump(mode="json"), "fingerprint": table.fingerprint}


def _watch(run: TrainingRun, name: str, tracker: Tracker) -> Watch:
    resume = f"{run.resume_dir}/{name}" if run.resume_dir else None
    return Watch(f"{run.log_dir}/{name}", resume, tracker.callbacks, name)


def _write(folder: Path, file: str, content: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(content, indent=1))
