"""Trainings as runs of an experiment tracker, for those who compare many; TensorBoard needs none.

`wandb` is an extra of Heft. It reads its key and its server from the environment by itself.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from heft.errors import ConfigError
from heft.model.settings import ModelSettings

__all__ = ["Tracker", "tracked"]


class Tracker:
    """Hands what happens to a run of Weights & Biases; to nobody where there is none.

    Args:
        run: of `wandb.init`, or None.
    """

    def __init__(self, run: Any = None) -> None:
        self.run = run

    @property
    def callbacks(self) -> tuple[keras.callbacks.Callback, ...]:
        """For `fit`."""
        return () if self.run is None else (_Epochs(self.run),)

    def summarise(self, history: dict[str, list[float]]) -> None:
        """The best epoch and its loss, and the epsilon of all epochs, as the run's summary."""
        if self.run is None:
            return
        losses = history["val_loss"]
        best = int(np.argmin(losses))
        facts = {"best_epoch": best + 1, "best_val_loss": losses[best], "epochs": len(losses)}
        if "epsilon" in history:
            facts["epsilon"] = history["epsilon"][-1]
        self.run.summary.update(facts)


class _Epochs(keras.callbacks.Callback):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.run.log({k: float(v) for k, v in (logs or {}).items()}, step=epoch + 1)


@contextmanager
def tracked(settings: ModelSettings, name: str, folder: str | Path) -> Iterator[Tracker]:
    """A tracker for one training; the run ends as failed if the training does.

    Args:
        settings: of the model; all of them become the run's config.
        name: of the model.
        folder: where an offline run is written, as `wandb/offline-run-…`.

    Raises:
        ConfigError: wandb is not installed, or does not want to begin.
    """
    asked = settings.tracking.wandb
    if asked is None:
        yield Tracker()
        return
    settings.tracking.check()
    wandb = importlib.import_module("wandb")
    config = settings.model_dump(mode="json", exclude={"tracking"})
    quiet = wandb.Settings(silent=True)
    try:
        run = wandb.init(
            project=asked.project, mode=asked.mode, name=name, dir=str(folder), config=config,
            settings=quiet,
        )  # fmt: skip
    except wandb.Error as error:
        raise ConfigError(
            f"model.tracking.wandb with mode={asked.mode}: {error}; expected its key in the "
            "environment (WANDB_API_KEY), or mode: offline"
        ) from error
    try:
        yield Tracker(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
