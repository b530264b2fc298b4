"""Training one trial, the way a run trains its model."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from heft.model.inputs import evaluation_batches
from heft.model.losses import PairLoss
from heft.model.network import InputSizes
from heft.model.settings import ModelSettings
from heft.model.training import Trained, TrainingRows, Watch, train
from heft.text.table import TextTable

__all__ = ["Beat", "TrialTrainer", "tune_loss"]

_BATCH = 8192


@dataclass(frozen=True)
class Beat:
    """How far a trial is.

    Attributes:
        number: of the trial, from 0.
        epochs: that are done, of at most `of`.
        of: the most epochs.
        rows_per_second: of training, so far in this trial.
    """

    number: int
    epochs: int
    of: int
    rows_per_second: float


@dataclass(frozen=True)
class TrialTrainer:
    """Trains a model by `heft.model.training.train` and takes its loss on `tune`.

    Attributes:
        rows: packed splits, with weight pairs.
        table: embeddings.
        sizes: with the base rates of the rows.
        clicks: (positions, 2) slope and offset of the click rate.
        folder: for the state of the trial that is trained; a trial that was killed
            goes on from there.
        prepare: gives a new core the weights to begin with.
        on_beat: called after each epoch.
    """

    rows: TrainingRows
    table: TextTable
    sizes: InputSizes
    clicks: Sequence[Sequence[float]]
    folder: Path
    prepare: Callable[[keras.Model], object] | None = None
    on_beat: Callable[[Beat], None] = lambda beat: None

    def __call__(self, number: int, settings: ModelSettings) -> float:
        """The loss on `tune` of the best epoch.

        Raises:
            TrainingError: the loss became NaN or infinite.
        """
        # The state of another trial is of no use, and that of this one is needed until it ends.
        place = self.folder / f"trial-{number}"
        for path in self.folder.glob("trial-*"):
            if path != place:
                shutil.rmtree(path, ignore_errors=True)
        keras.backend.clear_session()
        watch = Watch(
            log_dir=place / "board",
            resume_dir=place / "state",
            callbacks=(_Watcher(self, number, settings.epochs),),
            name=f"trial {number + 1}",
        )
        found = train(
            self.rows, self.table, self.sizes, settings, watch,
            weighted=True, clicks=self.clicks, prepare=self.prepare,
        )  # fmt: skip
        loss = tune_loss(found, self.rows, self.sizes, settings, self.clicks)
        shutil.rmtree(place, ignore_errors=True)
        return loss


def tune_loss(
    found: Trained,
    rows: TrainingRows,
    sizes: InputSizes,
    settings: ModelSettings,
    clicks: Sequence[Sequence[float]],
) -> float:
    """The mean loss on the pairs of `tune`, without the penalty on weights.

    That penalty is a part of `val_loss`, which training stops by: a search that took it
    would find that no penalty is best.
    """
    positions = settings.position == "additive"
    batches = evaluation_batches(
        rows.tune, sizes, batch_size=_BATCH, weighted=True, positions=positions
    )
    loss, total = PairLoss.of(settings, clicks), 0.0
    for inputs, targets in batches:
        total += float(tf.reduce_sum(loss.call(targets, found.model(inputs, training=False))))
    return total / rows.tune.rows


class _Watcher(keras.callbacks.Callback):
    def __init__(self, trainer: TrialTrainer, number: int, epochs: int) -> None:
        super().__init__()
        self.trainer, self.number, self.epochs = trainer, number, epochs

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.began, self.seen = time.monotonic(), 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seen += self.trainer.rows.train.rows
        rate = self.seen / max(time.monotonic() - self.began, 1e-9)
        self.trainer.on_beat(Beat(self.number, epoch + 1, self.epochs, rate))
