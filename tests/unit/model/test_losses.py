"""The loss on weight pairs, held against the same in float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heft.model.losses import PairLoss

CLICKED = (1.0, 0.0)
UNCLICKED = (0.0, 1.0)


def reference_losses(pairs: np.ndarray, logits: np.ndarray, cvr_weight: float) -> np.ndarray:
    """Per-row loss (n,) in float64, from probabilities as the formula has them."""
    w = pairs.astype(np.float64)
    log_click = -np.logaddexp(0, -logits.astype(np.float64))
    log_click_not = -np.logaddexp(0, logits.astype(np.float64))
    log_both = np.minimum(log_click.sum(axis=1), -1e-6)
    log_not_both = np.log(-np.expm1(log_both))
    click = -w[:, 0] * log_click[:, 0] - w[:, 1] * log_click_not[:, 0]
    return click - cvr_weight * (w[:, 2] * log_both + w[:, 3] * log_not_both)


def _loss(pairs: np.ndarray, logits: np.ndarray, cvr_weight: float = 1.0) -> np.ndarray:
    values = PairLoss(cvr_weight).call(
        tf.constant(pairs, tf.float32), tf.constant(logits, tf.float32)
    )
    return np.asarray(values)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 20).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.float32, (n, 4), elements=st.floats(-8, 8, width=32)),
            hnp.arrays(np.float32, (n, 2), elements=st.floats(-6, 6, width=32)),
        )
    ),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_loss_is_that_of_the_reference(
    drawn: tuple[np.ndarray, np.ndarray], cvr_weight: float
) -> None:
    pairs, logits = drawn
    want = reference_losses(pairs, logits, cvr_weight)
    scale = 1 + np.abs(pairs).sum(axis=1) * 6  # terms that may cancel
    assert (np.abs(_loss(pairs, logits, cvr_weight) - want) / scale).max() < 1e-6


@pytest.mark.parametrize("click", [-40.0, 0.0, 40.0])
@pytest.mark.parametrize("conversion", [-40.0, 0.0, 40.0])
def test_extreme_logits_give_finite_losses_and_gradients(click: float, conversion: float) -> None:
    logits = tf.Variable([[click, conversion]] * 3)
    pairs = tf.constant([[1.0, 0, 1, 0], [0, 1, 0, 1], [20, -19, 5, -4]])
    with tf.GradientTape() as tape:
        loss = PairLoss().call(pairs, logits)
    assert np.isfinite(loss.numpy()).all()
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()
    want = reference_losses(pairs.numpy(), logits.numpy(), 1.0)
    np.testing.assert_allclose(loss.numpy(), want, rtol=1e-5, atol=1e-5)


def test_pairs_of_plain_labels_are_binary_cross_entropy_of_ctr_and_ctcvr() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (500, 2)).astype(np.float32)
    click = rng.integers(0, 2, 500).astype(np.float32)
    conversion = click * rng.integers(0, 2, 500).astype(np.float32)
    ctr, cvr = (1 / (1 + np.exp(-logits.astype(np.float64)))).T
    entropy = keras.losses.BinaryCrossentropy()
    want = float(entropy(click, ctr)) + float(entropy(conversion, ctr * cvr))
    pairs = np.stack([click, 1 - click, conversion, 1 - conversion], axis=1)
    # Through `__call__`, which takes the mean over the batch as `fit` does.
    assert float(PairLoss()(pairs, logits)) == pytest.approx(want, rel=1e-5)


def test_the_conversion_head_learns_from_unclicked_impressions() -> None:
    logits = tf.Variable([[0.3, -0.2], [0.3, -0.2]])
    pairs = tf.constant([[*CLICKED, *UNCLICKED], [*UNCLICKED, *UNCLICKED]])
    with tf.GradientTape() as tape:
        loss = PairLoss().call(pairs, logits)
    gradient = tape.gradient(loss, logits).numpy()
    ctr, cvr = 1 / (1 + np.exp([-0.3, 0.2]))
    want = ctr * cvr * (1 - cvr) / (1 - ctr * cvr)  # of −log(1 − pCTR·pCVR)
    assert gradient[1, 1] == pytest.approx(want, rel=1e-5)
    assert gradient[0, 1] == pytest.approx(want, rel=1e-5)


def test_the_conversion_weight_scales_the_conversion_loss_alone() -> None:
    pairs, logits = np.array([[1.0, 0, 0, 1]]), np.array([[0.4, 0.7]])
    alone, both, double = (_loss(pairs, logits, weight)[0] for weight in (0.0, 1.0, 2.0))
    assert alone == pytest.approx(np.log1p(np.exp(-0.4)), rel=1e-6)
    assert double - both == pytest.approx(both - alone, rel=1e-5)
