"""The last layer against another library's minimum and derivatives by differences."""

import numpy as np
import pytest

from heft.importance.logistic import fit_layer

from .conftest import make_data
from .retraining import fixed_scale, retrained, small


def test_the_layer_is_the_minimum_another_library_finds():
    data = small(300)
    layer = fit_layer(data.features, data.label, l2=2.0)
    x = fixed_scale(data).astype(float)
    assert layer.coefficients == pytest.approx(retrained(x, data.label, slice(None), 2.0), abs=1e-5)
    assert layer.inputs(data.features) == pytest.approx(
        np.column_stack([x, np.ones(300)]), abs=1e-5
    )


@pytest.mark.parametrize("rows", [300, 20_000, 120_000])
def test_the_gradient_is_nothing_and_the_hessian_that_of_the_formula(rows):
    """One block, several stripes, and a start found on a sample of the rows."""
    data = small(rows, seed=rows, width=4)
    layer = fit_layer(data.features, data.label, l2=2.0)
    h = layer.inputs(data.features)
    p = 1 / (1 + np.exp(-(h * layer.coefficients).sum(axis=1)))
    away = layer.coefficients - [0, 0, 0, 0, np.log((label := data.label.sum()) + 1)]
    away[-1] += np.log(rows - label + 1)
    gradient = ((p - data.label)[:, None] * h).sum(axis=0) + 2 * away
    assert np.abs(gradient).max() < 1e-5 * np.sqrt(rows)
    hessian = np.einsum("nd,n,ne->de", h, p * (1 - p), h) + 2 * np.eye(5)
    assert layer.factor @ layer.factor.T == pytest.approx(hessian, rel=1e-9)


def test_slopes_are_those_of_a_click_seen_with_a_probability():
    """First and second derivative of −log P by differences."""
    data = small()
    layer = fit_layer(data.features, data.label)
    h = layer.inputs(data.features)
    logit = h @ layer.coefficients
    seen = np.random.default_rng(1).uniform(0.05, 1.0, len(data))

    def loss(z):
        p = seen / (1 + np.exp(-z))
        return -np.log(np.where(data.label, p, 1 - p))

    residual, curvature = layer.slopes(h, data.label, seen)
    slope = (loss(logit + 1e-4) - loss(logit - 1e-4)) / 2e-4
    bend = (loss(logit + 1e-3) - 2 * loss(logit) + loss(logit - 1e-3)) / 1e-6
    assert residual == pytest.approx(slope, abs=1e-6)
    assert curvature == pytest.approx(bend, abs=1e-4)
    assert curvature.min() < 0


@pytest.mark.parametrize("seed", range(5))
def test_examination_that_is_wrong_still_has_a_minimum(seed):
    """More clicks than were seen: the likelihood has no best attractiveness, its penalty has."""
    data = small(seed=seed)
    seen = np.random.default_rng(seed).uniform(0.02, 0.3, len(data))
    for label in (data.label, 1 - data.label, np.ones(240, int), np.zeros(240, int)):
        layer = fit_layer(data.features, label, seen)
        h = layer.inputs(data.features)
        gradient = layer.slopes(h, label, seen)[0] @ h
        shown = max(seen.sum(), label.sum())
        centre = np.log((label.sum() + 1) / (shown - label.sum() + 1))
        away = layer.coefficients - [0, 0, 0, 0, 0, centre]
        assert np.abs(gradient + away).max() < 1e-3
        assert np.isfinite(layer.factor).all()


def test_examination_does_not_make_the_layer_underrate():
    """Clicks that are seen a third of the time: the coefficients are those of attractiveness."""
    data, _ = make_data(rows=40_000, seed=3)
    seen = np.where(np.arange(len(data)) % 2, 0.3, 1.0)
    clicked = data.label * (np.random.default_rng(0).random(len(data)) < seen)
    whole = fit_layer(data.features, data.label)
    found = fit_layer(data.features, clicked, seen)
    assert found.coefficients == pytest.approx(whole.coefficients, abs=0.25)
    blind = fit_layer(data.features, clicked)
    assert np.abs(blind.coefficients - whole.coefficients).max() > 1
