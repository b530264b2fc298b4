"""The loss on weight pairs, for both tasks of ESMM.

A pair (w⁺, w⁻) says how much a sample counts as a positive and as a negative:
w⁺·(−log p) + w⁻·(−log(1 − p)). `reference_losses` in the tests is the same in NumPy.
"""

import keras
import tensorflow as tf

__all__ = ["EsmmPairLoss", "log_ctcvr", "pair_loss"]


def pair_loss(positive: tf.Tensor, negative: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """w⁺·softplus(−z) + w⁻·softplus(z), per row; all of shape (batch,)."""
    return positive * tf.nn.softplus(-logit) + negative * tf.nn.softplus(logit)


def log_ctcvr(click_logit: tf.Tensor, conversion_logit: tf.Tensor) -> tf.Tensor:
    """log(pCTR·pCVR), (batch,), at most −1e-6 so that log(1 − p) stays finite."""
    log_p = -tf.nn.softplus(-click_logit) - tf.nn.softplus(-conversion_logit)
    return tf.minimum(log_p, -1e-6)


class EsmmPairLoss(keras.losses.Loss):
    """Click loss plus conversion loss over all impressions (ESMM, Ma et al. 2018).

    The conversion head is trained through the product pCTCVR = pCTR·pCVR, so
    that it learns from every impression and not from clicks alone.

    `y_true` is (batch, 4): click w⁺, click w⁻, conversion w⁺, conversion w⁻.
    `y_pred` is (batch, 2): the click and the conversion logit.

    Args:
        cvr_weight: weight of the conversion loss, at least 0.
    """

    def __init__(self, cvr_weight: float = 1.0, name: str = "esmm_pair_loss") -> None:
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.cvr_weight = cvr_weight

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Per-row loss, (batch,)."""
        click, conversion = y_pred[:, 0], y_pred[:, 1]
        log_p = log_ctcvr(click, conversion)
        log_not_p = tf.math.log(-tf.math.expm1(log_p))
        ctcvr = -y_true[:, 2] * log_p - y_true[:, 3] * log_not_p
        return pair_loss(y_true[:, 0], y_true[:, 1], click) + self.cvr_weight * ctcvr
