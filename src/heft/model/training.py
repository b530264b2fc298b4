"""The training loop: one model, or the weighted one and its control."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from heft.errors import TrainingError
from heft.importance.meta_weight_net import MetaWeightNet
from heft.model.inputs import dataset
from heft.model.learned import LearnedWeightsModel
from heft.model.losses import EsmmPairLoss
from heft.model.network import InputSizes, build_core, build_training_model
from heft.model.settings import ModelSettings
from heft.text.table import TextTable

__all__ = ["Trained", "train"]

History = dict[str, list[float]]

_STEPS_PER_EPOCH, _SMALLEST_BATCH = 100, 64


@dataclass(frozen=True)
class Trained:
    """A trained network and how it got there.

    Attributes:
        core: inputs as of `build_core`, with the weights of the best epoch.
        history: `loss` and `val_loss` by epoch.
        weights: the network of learned weights as it was at the end; None with
            `weights: loss` and for the control.
    """

    core: keras.Model
    history: History
    weights: MetaWeightNet | None = None


def train(
    train_paths: Sequence[str],
    tune_paths: Sequence[str],
    table: TextTable,
    sizes: InputSizes,
    settings: ModelSettings,
    *,
    weighted: bool,
    log_dir: str | Path,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Fits one model; the same seed and settings give the same weights.

    Args:
        train_paths, tune_paths: shards with weight columns.
        table: embeddings of the texts that the shards' ids point to.
        sizes: see `InputSizes`.
        settings: network and loop.
        weighted: on the weight pairs, or as control on (y, 1 − y).
        log_dir: TensorBoard's folder.
        on_epoch: called with the epoch (from 1) and its logs.

    Raises:
        TrainingError: a split is empty, or the loss became NaN or infinite.
    """
    _check_rows("train", train_paths)
    _check_rows("tune", tune_paths)
    keras.utils.set_random_seed(settings.seed)
    core = build_core(table, sizes, settings)
    model = build_training_model(table, core)
    size = min(settings.batch_size, max(sizes.rows // _STEPS_PER_EPOCH, _SMALLEST_BATCH))
    learned = weighted and settings.weights == "learned"
    rows = dataset(
        train_paths, sizes, batch_size=size, weighted=weighted, shuffle_seed=settings.seed,
        context=learned,
    )  # fmt: skip
    tune = dataset(tune_paths, sizes, batch_size=4 * size, weighted=weighted)
    if learned:
        clean = dataset(
            tune_paths, sizes, batch_size=size, weighted=True, shuffle_seed=settings.seed + 1
        )
        model = LearnedWeightsModel.over(model, clean, settings)
    optimizer = keras.optimizers.Adam(settings.learning_rate, clipnorm=settings.clip_norm)
    model.compile(optimizer, loss=EsmmPairLoss(settings.cvr_weight), jit_compile=False)
    best = keras.callbacks.EarlyStopping(
        "val_loss", patience=settings.patience, restore_best_weights=True
    )
    callbacks = [best, keras.callbacks.TerminateOnNaN(), keras.callbacks.TensorBoard(str(log_dir))]
    if on_epoch is not None:
        report = on_epoch
        callbacks.append(
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: report(epoch + 1, logs))
        )
    fitted = model.fit(
        rows, validation_data=tune, epochs=settings.epochs, callbacks=callbacks, verbose=0
    )
    history = {k: [float(x) for x in v] for k, v in fitted.history.items()}
    _check_finite(history, settings)
    return Trained(core, history, model.teacher.net if learned else None)


def _check_rows(split: str, paths: Sequence[str]) -> None:
    """Keras would fit on nothing, and stop early on nothing, without a word."""
    first = tf.data.TFRecordDataset(list(paths), compression_type="GZIP").take(1)
    if not list(first):
        raise TrainingError(
            f"the {split} split holds no rows: expected some in {', '.join(paths) or 'no shard'}; "
            "log more requests, or change logs.splits"
        )


def _check_finite(history: History, settings: ModelSettings) -> None:
    losses = history.get("loss", []) + history.get("val_loss", [])
    if not losses or not np.isfinite(losses).all():
        raise TrainingError(
            f"loss={losses[-1] if losses else 'none'} after {len(history.get('loss', []))} epochs: "
            f"expected a finite number; lower learning_rate={settings.learning_rate} or "
            f"clip_norm={settings.clip_norm}, or raise importance.minimum_propensity"
        )
