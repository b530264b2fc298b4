"""Calibration: planted distortions are undone, order stays, and little data changes nothing."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heft.errors import ConfigError, DataError
from heft.model.calibration import Calibration, Curve, fit_calibration

METHODS = ("platt", "isotonic")
LINES = np.array([[0.9, 0.05], [0.5, 0.02], [0.3, 0.0], [0.15, 0.0]])


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


class Shop:
    """Clicks and conversions by rates that a model knows up to a distortion of its logits."""

    def __init__(self, rows: int, seed: int, distort=lambda z: z) -> None:
        rng = np.random.default_rng(seed)
        self.true = np.stack([rng.normal(-1, 1.5, rows), rng.normal(-1.5, 1, rows)], axis=1)
        # Who is attracted buys more easily too: clicked rows are not like the others.
        self.true[:, 1] += 0.8 * (self.true[:, 0] + 1)
        position = rng.integers(0, 4, rows)
        self.lines = LINES[position]
        self.ctr = self.lines[:, 0] * _sigmoid(self.true[:, 0]) + self.lines[:, 1]
        self.cvr = _sigmoid(self.true[:, 1])
        self.click = (rng.random(rows) < self.ctr).astype(float)
        self.conversion = self.click * (rng.random(rows) < self.cvr)
        self.logits = distort(self.true)

    def fit(self, method: str) -> Calibration:
        return fit_calibration(method, self.logits, self.lines, self.click, self.conversion)

    def errors(self, calibration: Calibration) -> tuple[float, float]:
        """Mean absolute error of the two rates."""
        g = _sigmoid(calibration.click.apply(self.logits[:, 0]))
        h = _sigmoid(calibration.conversion.apply(self.logits[:, 1]))
        ctr = self.lines[:, 0] * g + self.lines[:, 1]
        return float(np.abs(ctr - self.ctr).mean()), float(np.abs(h - self.cvr).mean())


def test_platt_finds_the_scale_and_shift_that_were_planted() -> None:
    shop = Shop(200_000, 1, lambda z: (z - np.array([0.7, -0.4])) / np.array([1.6, 0.5]))
    found = shop.fit("platt")
    assert found.click.apply(np.array([0.0, 1.0])) == pytest.approx([0.7, 2.3], abs=0.06)
    assert found.conversion.apply(np.array([0.0, 1.0])) == pytest.approx([-0.4, 0.1], abs=0.06)
    assert not found.reasons


@pytest.mark.parametrize("method", METHODS)
def test_rates_of_fresh_rows_come_out_right(method: str) -> None:
    def distort(z: np.ndarray) -> np.ndarray:
        return 2.0 * z + 1.5 if method == "platt" else z + 2 * np.tanh(z) + 1

    found = Shop(60_000, 1, distort).fit(method)
    fresh = Shop(60_000, 2, distort)
    before, after = fresh.errors(Calibration()), fresh.errors(found)
    assert after[0] < before[0] / 8
    assert after[1] < before[1] / 4


def test_conversions_are_not_fitted_to_clicked_rows_alone() -> None:
    # The conversion logit says less than the truth, so clicked rows convert more often.
    shop = Shop(200_000, 3)
    shop.logits = np.stack([shop.true[:, 0], 0.2 * shop.true[:, 1]], axis=1)
    found = shop.fit("platt")
    predicted = shop.ctr * _sigmoid(found.conversion.apply(shop.logits[:, 1]))
    assert predicted.sum() == pytest.approx(shop.conversion.sum(), rel=0.01)
    clicked = shop.click == 1
    ones = np.tile([1.0, 0.0], (int(clicked.sum()), 1))
    naive = fit_calibration(
        "platt", shop.logits[clicked][:, ::-1], ones, shop.conversion[clicked],
        shop.conversion[clicked],
    )  # fmt: skip
    naive_sum = (shop.ctr * _sigmoid(naive.click.apply(shop.logits[:, 1]))).sum()
    assert naive_sum > 0
    assert abs(predicted.sum() - shop.conversion.sum()) <= abs(naive_sum - shop.conversion.sum())


@pytest.mark.parametrize("method", METHODS)
def test_order_is_kept(method: str) -> None:
    found = Shop(5_000, 4, lambda z: 3 * z).fit(method)
    logits = np.sort(np.random.default_rng(0).normal(0, 3, 10_000)).astype(np.float32)
    for curve in (found.click, found.conversion):
        out = curve.tensor(tf.constant(logits)).numpy()
        assert (np.diff(out) >= 0).all()
        assert len(np.unique(out)) > 0.99 * len(np.unique(logits))


@pytest.mark.parametrize("method", METHODS)
def test_the_graph_computes_what_numpy_does_and_json_keeps_it(method: str) -> None:
    found = Shop(5_000, 5).fit(method)
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found
    logits = np.random.default_rng(0).normal(0, 4, 1_000).astype(np.float32)
    for curve in (found.click, found.conversion):
        assert len(curve.x) <= 202
        np.testing.assert_allclose(
            curve.tensor(tf.constant(logits)).numpy(), curve.apply(logits), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("method", METHODS)
def test_too_few_positives_keep_the_logits_and_say_so(method: str) -> None:
    shop = Shop(5_000, 6)
    shop.conversion = np.zeros_like(shop.conversion)
    shop.conversion[:19] = 1
    found = shop.fit(method)
    assert found.conversion == Curve()
    assert found.click != Curve()
    assert found.reasons == {
        "conversion": "19 of 5000 rows of tune are positive: 20 of each kind are needed"
    }


def test_none_changes_nothing() -> None:
    assert Shop(100, 7).fit("none") == Calibration()
    z = np.array([-30.0, 0.0, 2.0])
    np.testing.assert_allclose(Curve().apply(z), z)


def test_bad_input_is_named() -> None:
    shop = Shop(100, 8)
    with pytest.raises(ConfigError, match="calibration='beta': expected one of none, platt"):
        shop.fit("beta")
    shop.logits = shop.logits.copy()
    shop.logits[3, 1] = np.nan
    with pytest.raises(DataError, match="in row 3: expected finite"):
        shop.fit("platt")
    shop.logits = shop.logits[:50]
    with pytest.raises(DataError, match=r"logits \(50, 2\)"):
        shop.fit("platt")


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(np.float64, (200, 2), elements=st.floats(-30, 30)),
    st.integers(0, 2**31 - 1),
    st.sampled_from(METHODS),
)
@example(np.concatenate([[[0.0, -1], [9.6e-262, -1]], np.full((198, 2), -1.0)]), 0, "isotonic")
def test_any_logits_give_an_increasing_finite_curve(
    logits: np.ndarray, seed: int, method: str
) -> None:
    rng = np.random.default_rng(seed)
    click = rng.integers(0, 2, 200)
    found = fit_calibration(method, logits, LINES[rng.integers(0, 4, 200)], click, click)
    z = np.linspace(-50, 50, 500)
    for curve in (found.click, found.conversion):
        out = curve.apply(z)
        assert np.isfinite(out).all()
        assert (np.diff(out) >= 0).all()
