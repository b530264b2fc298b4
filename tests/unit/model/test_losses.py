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


def reference_counterfactual(
    y: np.ndarray, logits: np.ndarray, kind: str, clicks: list[list[float]]
) -> np.ndarray:
    """What ESCM² adds per row, (n,) float64, from probabilities; `y` as of `targets`."""
    y, z = y.astype(np.float64), logits.astype(np.float64)
    p = 1 / (1 + np.exp(-z))
    position = np.clip(y[:, 7].astype(int), 1, len(clicks)) - 1
    slope, offset = np.array(clicks)[position].T
    inverse = y[:, 4] / np.clip(slope * p[:, 0] + offset, 0.02, 1)
    error = -y[:, 2] * np.log(p[:, 1]) - y[:, 3] * np.log(1 - p[:, 1])
    if kind == "escm2_ips":
        return inverse * error
    imputed = -p[:, 2] * np.log(p[:, 1]) - (1 - p[:, 2]) * np.log(1 - p[:, 1])
    imputed *= y[:, 2] + y[:, 3]
    return imputed + inverse * (error - imputed) + inverse * (error - imputed) ** 2


def _targets(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    click = rng.integers(0, 2, rows)
    conversion = click * rng.integers(0, 2, rows)
    weight = rng.gamma(1.0, 1.0, rows)
    columns = [click, 1 - click, weight * conversion, weight * (1 - conversion), click, conversion]
    return np.stack([*columns, 0 * click, rng.integers(0, 6, rows), 0 * click], 1).astype(
        np.float32
    )


CLICKS = [[0.9, 0.05], [0.5, 0.02], [0.01, 0.0]]


@pytest.mark.parametrize("kind", ["escm2_ips", "escm2_dr"])
def test_the_counterfactual_risk_is_that_of_the_reference(kind: str) -> None:
    y = _targets(500, 0)
    logits = np.random.default_rng(1).normal(0, 2, (500, 3)).astype(np.float32)
    got = PairLoss(0.7, kind, 0.4, clicks=CLICKS).call(tf.constant(y), tf.constant(logits)).numpy()
    want = reference_losses(y[:, :4], logits[:, :2], 0.7)
    want += 0.4 * reference_counterfactual(y, logits, kind, CLICKS)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["escm2_ips", "escm2_dr"])
def test_inverse_click_rates_make_clicked_rows_stand_for_all(kind: str) -> None:
    """With the true click rate the risk of the conversion head is that over all impressions."""
    rng = np.random.default_rng(0)
    rows = 400_000
    rate = rng.uniform(0.05, 0.9, rows)
    buys = rng.random(rows) < 0.2 + 0.6 * rate  # those who click buy more easily
    click = rng.random(rows) < rate
    y = np.zeros((rows, 9), np.float32)
    y[:, 4], y[:, 5] = click, click & buys
    y[:, 2], y[:, 3] = y[:, 5], 1 - y[:, 5]
    logits = tf.constant(
        np.stack([np.log(rate / (1 - rate)), 0 * rate, 0.3 + 0 * rate], 1).astype(np.float32)
    )
    with tf.GradientTape() as tape:
        tape.watch(logits)
        added = PairLoss(0.0, kind, 1.0).call(tf.constant(y), logits)
        added -= PairLoss(0.0).call(tf.constant(y), logits)
    gradient = tape.gradient(added, logits).numpy()
    # At z = 0 the gradient of the full risk is 1/2 minus the share of those who would buy.
    assert gradient[:, 1].mean() == pytest.approx(0.5 - buys.mean(), abs=0.005)
    assert abs(gradient[click, 1].mean()) > 0
    assert (gradient[:, 0] == 0).all()
    if kind == "escm2_dr":
        assert (gradient[~click, 1] != 0).all()
        assert (gradient[~click, 2] == 0).all()


def test_kept_negatives_are_made_up_for_in_the_logit() -> None:
    """A constant logit that fits a log with a tenth of its negatives is right for all of them."""
    rng = np.random.default_rng(0)
    click = (rng.random(300_000) < 0.05).astype(np.float32)
    kept = (click == 1) | (rng.random(300_000) < 0.1)
    buys = click * (rng.random(300_000) < 0.3)
    y = np.stack([click, 1 - click, buys, 1 - buys], axis=1)[kept].astype(np.float32)
    logit = tf.Variable([0.0, 0.0])
    optimizer = keras.optimizers.Adam(0.05)
    loss = PairLoss(negative_rate=0.1)
    for _ in range(300):
        with tf.GradientTape() as tape:
            value = loss(y, tf.tile(logit[tf.newaxis], [len(y), 1]))
        optimizer.apply(tape.gradient(value, [logit]), [logit])
    rates = 1 / (1 + np.exp(-logit.numpy()))
    assert rates[0] == pytest.approx(click.mean(), rel=0.02)
    assert rates[1] == pytest.approx(buys.sum() / click.sum(), rel=0.02)


def test_a_loss_is_read_back_from_its_settings() -> None:
    loss = PairLoss(0.3, "escm2_ips", 0.2, 0.5, CLICKS)
    again = PairLoss.from_config(loss.get_config())
    y, logits = tf.constant(_targets(50, 3)), tf.random.normal((50, 2), seed=1)
    np.testing.assert_array_equal(loss.call(y, logits), again.call(y, logits))
