"""The loss on weight pairs, for both tasks.

A pair (w⁺, w⁻) says how much a sample counts as a positive and as a negative:
w⁺·(−log p) + w⁻·(−log(1 − p)). `reference_losses` in the tests is the same in NumPy.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from heft.model import targets as t
from heft.model.settings import ModelSettings

__all__ = ["PairLoss", "log_ctcvr", "pair_loss"]

_SMALLEST_PROPENSITY = 0.02


def pair_loss(positive: tf.Tensor, negative: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """w⁺·softplus(−z) + w⁻·softplus(z), per row; all of shape (batch,)."""
    return positive * tf.nn.softplus(-logit) + negative * tf.nn.softplus(logit)


def log_ctcvr(click_logit: tf.Tensor, conversion_logit: tf.Tensor) -> tf.Tensor:
    """log(pCTR·pCVR), (batch,), at most −1e-6 so that log(1 − p) stays finite."""
    log_p = -tf.nn.softplus(-click_logit) - tf.nn.softplus(-conversion_logit)
    return tf.minimum(log_p, -1e-6)


@keras.saving.register_keras_serializable("heft")
class PairLoss(keras.losses.Loss):
    """Click loss, plus conversion loss over all impressions, plus a risk over clicks if asked for.

    The conversion head is trained through the product pCTCVR = pCTR·pCVR (ESMM, Ma
    et al. 2018), so that it learns from every impression and not from clicks alone.

    `escm2_ips` adds mean(o/p̂ · ℓ) over impressions and `escm2_dr` mean(ê + o/p̂ · (ℓ − ê)) plus
    mean(o/p̂ · (ℓ − ê)²), where o is the click, p̂ its predicted rate at the logged
    position, ℓ the pair's loss of the conversion logit alone, and ê the same for the label that
    the third output imputes (ESCM², Wang et al. 2022, *Entire Space Counterfactual
    Multi-Task Model*). No gradient flows through p̂; below 0.02 it is raised to that.

    `y_true` is (batch, 4) pairs or more columns, as of `heft.model.targets`.
    `y_pred` is (batch, 2), the click and the conversion logit; (batch, 3) for `escm2_dr`.

    Args:
        cvr_weight: weight of the loss of the product, at least 0.
        cvr_loss: `esmm`, `escm2_ips` or `escm2_dr`.
        counterfactual_weight: weight of what ESCM² adds.
        negative_rate: share of unclicked impressions that were kept; the click
            logit that is compared with them is larger by −log of it.
        clicks: slope and offset of the click rate by position, for p̂.
    """

    def __init__(
        self,
        cvr_weight: float = 1.0,
        cvr_loss: str = "esmm",
        counterfactual_weight: float = 0.5,
        negative_rate: float = 1.0,
        clicks: Sequence[Sequence[float]] = ((1.0, 0.0),),
        name: str = "pair_loss",
    ) -> None:
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.cvr_weight = cvr_weight
        self.cvr_loss = cvr_loss
        self.counterfactual_weight = counterfactual_weight
        self.negative_rate = negative_rate
        self.clicks = [list(map(float, line)) for line in clicks]

    @classmethod
    def of(cls, settings: ModelSettings, clicks: Sequence[Sequence[float]]) -> "PairLoss":
        """The loss that the settings ask for."""
        return cls(
            settings.cvr_weight, settings.cvr_loss, settings.counterfactual_weight,
            settings.negative_rate, clicks,
        )  # fmt: skip

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Per-row loss, (batch,)."""
        pairs = y_true[:, t.PAIRS]
        click, conversion = y_pred[:, 0], y_pred[:, 1]
        kept = click - tf.math.log(tf.constant(self.negative_rate, click.dtype))
        log_p = log_ctcvr(kept, conversion)
        log_not_p = tf.math.log(-tf.math.expm1(log_p))
        product = -pairs[:, 2] * log_p - pairs[:, 3] * log_not_p
        loss = pair_loss(pairs[:, 0], pairs[:, 1], kept) + self.cvr_weight * product
        if self.cvr_loss == "esmm":
            return loss
        return loss + self.counterfactual_weight * self._counterfactual(y_true, y_pred)

    def _counterfactual(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        error = pair_loss(y_true[:, 2], y_true[:, 3], y_pred[:, 1])
        inverse = y_true[:, t.CLICK] / self._click_rate(y_true, y_pred)
        if self.cvr_loss == "escm2_ips":
            return inverse * error
        label = tf.sigmoid(y_pred[:, 2])
        mass = y_true[:, 2] + y_true[:, 3]
        # The head learns from imputed labels, and the imputation from the head's errors:
        # neither moves to make the other's part easier.
        fixed = tf.stop_gradient(label)
        imputed = mass * pair_loss(fixed, 1 - fixed, y_pred[:, 1])
        guess = mass * pair_loss(label, 1 - label, tf.stop_gradient(y_pred[:, 1]))
        miss = tf.square(tf.stop_gradient(error) - guess)
        return imputed + inverse * (error - imputed) + inverse * miss

    def _click_rate(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        lines = tf.constant(self.clicks, y_pred.dtype)
        last = len(self.clicks)
        place = tf.clip_by_value(tf.cast(y_true[:, t.POSITION], tf.int32), 1, last) - 1
        line = tf.gather(lines, place)
        rate = line[:, 0] * tf.sigmoid(y_pred[:, 0]) + line[:, 1]
        return tf.stop_gradient(tf.clip_by_value(rate, _SMALLEST_PROPENSITY, 1.0))

    def get_config(self) -> dict[str, object]:
        """What `__init__` takes."""
        return {
            "cvr_weight": self.cvr_weight,
            "cvr_loss": self.cvr_loss,
            "counterfactual_weight": self.counterfactual_weight,
            "negative_rate": self.negative_rate,
            "clicks": self.clicks,
            "name": self.name,
        }
