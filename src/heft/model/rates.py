"""From logits and a position to the rates that are served."""

from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.model.calibration import Calibration

__all__ = ["Rates"]


@dataclass(frozen=True)
class Rates:
    """ctr = α(position) · σ(g(z_click)) + β(position), cvr = σ(h(z_conversion)), and their product.

    Attributes:
        clicks: (positions, 2) slope α and offset β by position; `[[1, 0]]` for a control,
            whose click head already holds the average position.
        reference_position: used where no position is given.
        calibration: the curves g and h.
        position_bias: (1 + positions,) added to z_click, where position is `additive`.
    """

    clicks: np.ndarray
    reference_position: int = 1
    calibration: Calibration = field(default_factory=Calibration)
    position_bias: np.ndarray | None = None

    def tensors(self, logits: tf.Tensor, position: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """`ctr`, `cvr` and `ctcvr`, (batch,) float32 in [0, 1].

        Args:
            logits: (batch, 2) or wider, of the core.
            position: (batch,) int from 1, 0 where unknown; None where no row has one.
        """
        if position is None:
            position = tf.zeros_like(logits[:, 0], tf.int64)
        known = tf.cast(position, tf.int64)
        known = tf.where(known > 0, known, tf.cast(self.reference_position, tf.int64))
        click = logits[:, 0]
        if self.position_bias is not None:
            bias = tf.constant(self.position_bias, tf.float32)
            click += tf.gather(bias, tf.minimum(known, len(self.position_bias) - 1))
        line = tf.gather(
            tf.constant(self.clicks, tf.float32), tf.minimum(known, len(self.clicks)) - 1
        )
        attractiveness = tf.sigmoid(self.calibration.click.tensor(click))
        ctr = tf.clip_by_value(line[:, 0] * attractiveness + line[:, 1], 0.0, 1.0)
        cvr = tf.sigmoid(self.calibration.conversion.tensor(logits[:, 1]))
        return {f.CTR: ctr, f.CVR: cvr, f.CTCVR: ctr * cvr}

    def lines(self, position: np.ndarray) -> np.ndarray:
        """(n, 2) slope and offset at each position, (n,) int; at the reference where it is 0."""
        known = np.where(position > 0, position, self.reference_position)
        return self.clicks[np.minimum(known, len(self.clicks)) - 1]
