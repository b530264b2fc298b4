"""What lets a killed training go on: everything that the next epoch depends on, on disk.

Keras' `BackupAndRestore` keeps weights and epoch. The next epoch also depends on the
random states of dropout and on what early stopping has seen, and a process that is
killed while it writes must not leave half a state behind.
"""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

__all__ = ["Checkpoints"]

_STATE = "state.json"


class Checkpoints(keras.callbacks.Callback):
    """Saves the state after each epoch, keeps the best weights, and stops when none gets better.

    Args:
        folder: of this training; states of another model there are refused by Keras.
        patience: epochs without a lower `val_loss` before training stops.
        begin_anew: forget what lies in the folder.

    Attributes:
        history: logs by name, of the epochs before a restart too.
        best_epoch: from 1; 0 before the first.
    """

    def __init__(self, folder: str | Path, patience: int, begin_anew: bool = False) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.patience = patience
        self.history: dict[str, list[float]] = {}
        self.best_epoch = 0
        self.finished = False
        self.folder.mkdir(parents=True, exist_ok=True)
        if begin_anew:
            (self.folder / _STATE).unlink(missing_ok=True)

    @property
    def epochs_done(self) -> int:
        """Epochs behind."""
        return len(self.history.get("val_loss", []))

    def restore(self, model: keras.Model) -> None:
        """Brings `model`, compiled and built, to where the last epoch left it, if there was one."""
        path = self.folder / _STATE
        if not path.is_file():
            return
        state = json.loads(path.read_text())
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        self.finished = state["finished"]
        model.load_weights(self._weights(self.epochs_done))
        for variable, value in zip(_small_state(model), state["small"], strict=True):
            variable.assign(np.array(value, dtype=variable.dtype))

    def restore_best(self, model: keras.Model) -> None:
        """The weights of the epoch with the lowest `val_loss`; as they are if none was finite."""
        if self.best_epoch:
            model.load_weights(self._weights(self.best_epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes weights first and the small state that names them last."""
        logs = logs or {}
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        done = epoch + 1
        losses = self.history["val_loss"]
        if not np.isfinite(losses[-1]) or not np.isfinite(logs.get("loss", 0.0)):
            self.model.stop_training = True
            return
        if not self.best_epoch or losses[-1] < losses[self.best_epoch - 1]:
            self.best_epoch = done
        self.finished = done - self.best_epoch >= self.patience
        self.model.stop_training |= self.finished
        self.model.save_weights(self._weights(done), overwrite=True)
        self._write_state()
        for path in self.folder.glob("epoch-*.weights.h5"):
            if path not in (self._weights(done), self._weights(self.best_epoch)):
                path.unlink()

    def _write_state(self) -> None:
        state = {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "finished": self.finished,
            "small": [np.asarray(v).tolist() for v in _small_state(self.model)],
        }
        draft = self.folder / f"{_STATE}.draft"
        draft.write_text(json.dumps(state))
        draft.replace(self.folder / _STATE)

    def _weights(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}.weights.h5"


def _small_state(model: keras.Model) -> list[keras.Variable]:
    """What Keras does not save with the weights: random states, and the net of learned weights."""
    seeds = [v for v in model.variables if "seed_generator_state" in v.path]
    teacher = getattr(model, "teacher", None)
    return seeds + ([*teacher.net.variables, *teacher.optimizer.variables] if teacher else [])
