"""How far a training is: rows per second and time left, and where a loss stopped being a number."""

import logging
import time
from typing import Any

import keras
import numpy as np

__all__ = ["Progress"]

log = logging.getLogger(__name__)


class Progress(keras.callbacks.Callback):
    """Says every few seconds how far training is, and stops it at a loss that is not finite.

    Args:
        name: of the model, for the log.
        rows: per epoch.
        steps: per epoch.
        epochs: at most.
        every: seconds between two lines.

    Attributes:
        broken_at: (epoch from 0, step from 0) of the first loss that is not finite.
    """

    def __init__(self, name: str, rows: int, steps: int, epochs: int, every: float = 10.0) -> None:
        super().__init__()
        self.name, self.rows, self.steps, self.epochs = name, rows, steps, epochs
        self.every = every
        self.broken_at: tuple[int, int] | None = None
        self._epoch = self._begun = 0
        self._start = self._said = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = self._said = time.monotonic()
        self._seen = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers where it is."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss, and at the clock."""
        self._seen += 1
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            self.broken_at = self.broken_at or (self._epoch, batch)
            self.model.stop_training = True
        now = time.monotonic()
        if now - self._said >= self.every:
            self._said = now
            log.info("%s: %s", self.name, self.line(batch + 1, now - self._start))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """The losses of an epoch."""
        losses = ", ".join(f"{k} {float(v):.5f}" for k, v in (logs or {}).items())
        log.info("%s: epoch %d of at most %d, %s", self.name, epoch + 1, self.epochs, losses)

    def line(self, steps: int, seconds: float) -> str:
        """`epoch 2/5, 43 %, 81,000 rows/s, at most 0:12 left`."""
        per_step = seconds / max(self._seen, 1)
        left = per_step * (self.steps * (self.epochs - self._epoch) - steps)
        rate = self.rows / self.steps / max(per_step, 1e-9)
        return (
            f"epoch {self._epoch + 1}/{self.epochs}, {steps / self.steps:.0%}, {rate:,.0f} rows/s, "
            f"at most {int(left // 60)}:{int(left % 60):02d} left"
        )
