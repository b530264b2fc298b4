"""Calibration after training: a curve per task that makes the tune split's rates come out right.

A model that was trained on weights predicts the rate of what the weights describe, early
stopping leaves it over- or under-confident, and `formula_4_2` moves the base rate. The curves
move attractiveness and conversion rate monotonically, so that order stays as it is:

    E[click]      = α(position) · g(z_click) + β(position)
    E[conversion] = E[click] · h(z_conversion)        over all impressions, clicked or not
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from heft.errors import ConfigError, DataError

__all__ = ["Calibration", "Curve", "fit_calibration"]

Array = np.ndarray

_FEWEST_POSITIVES = 20
_MOST_KNOTS = 200
_EDGE = 1e-5  # isotonic rates stay this far from 0 and 1
_TILT = 1e-3  # slope that isotonic's flat steps keep, so that order survives
_REACH = 10.0  # logits beyond the outer knots that the curve goes on at slope 1


@dataclass(frozen=True)
class Curve:
    """A piecewise linear, strictly increasing map of logits.

    Attributes:
        x, y: (knots,) increasing, at least two; beyond them the outer pieces go on.
    """

    x: tuple[float, ...] = (0.0, 1.0)
    y: tuple[float, ...] = (0.0, 1.0)

    def apply(self, logit: Array) -> Array:
        """(n,) → (n,) float64."""
        x, y = np.array(self.x), np.array(self.y)
        piece = np.clip(np.searchsorted(x, logit) - 1, 0, len(x) - 2)
        slope = np.diff(y) / np.diff(x)
        return y[piece] + slope[piece] * (np.asarray(logit, np.float64) - x[piece])

    def tensor(self, logit: tf.Tensor) -> tf.Tensor:
        """The same in a graph, (batch,) float32, with ops that every server has."""
        x, y = tf.constant(self.x, tf.float32), tf.constant(self.y, tf.float32)
        slope = tf.constant(np.diff(self.y) / np.diff(self.x), tf.float32)
        piece = tf.clip_by_value(tf.searchsorted(x, logit) - 1, 0, len(self.x) - 2)
        return tf.gather(y, piece) + tf.gather(slope, piece) * (logit - tf.gather(x, piece))


@dataclass(frozen=True)
class Calibration:
    """The curves of a model.

    Attributes:
        method: `none`, `platt` or `isotonic`.
        click, conversion: curves of the two logits.
        reasons: why a task kept its logits as they are, by task.
    """

    method: str = "none"
    click: Curve = field(default_factory=Curve)
    conversion: Curve = field(default_factory=Curve)
    reasons: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        curves = {
            name: {"x": list(c.x), "y": list(c.y)}
            for name, c in (("click", self.click), ("conversion", self.conversion))
        }
        return {"method": self.method, **curves, "reasons": self.reasons}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Calibration":
        """The calibration that `to_json` wrote."""
        click, conversion = (
            Curve(tuple(facts[name]["x"]), tuple(facts[name]["y"]))
            for name in ("click", "conversion")
        )
        return cls(facts["method"], click, conversion, facts["reasons"])


def fit_calibration(
    method: str,
    logits: Array,
    lines: Array,
    click: Array,
    conversion: Array,
) -> Calibration:
    """Curves under which the rows' clicks and conversions are as frequent as predicted.

    `platt` fits g(z) = σ(az + b), a > 0, by maximum likelihood (Platt 1999, *Probabilistic
    Outputs for Support Vector Machines*); `isotonic` the best increasing steps of
    (click − β)/α weighted with α² (Zadrozny & Elkan 2002), joined at their centres.
    Conversions are fitted to all impressions: those that were clicked are not like
    those that are not.

    Args:
        method: `none`, `platt` or `isotonic`.
        logits: (n, 2) or wider, of click and conversion.
        lines: (n, 2) slope α and offset β at each row's position.
        click, conversion: (n,) labels in {0, 1}.

    Returns:
        A task with fewer than 20 positives, or negatives, keeps its logits and says why.

    Raises:
        ConfigError: an unknown method.
        DataError: shapes differ, or a logit is not finite.
    """
    if method == "none":
        return Calibration()
    if method not in _METHODS:
        raise ConfigError(f"calibration={method!r}: expected one of none, {', '.join(_METHODS)}")
    _check(logits, lines, click, conversion)
    reasons: dict[str, str] = {}

    def fit(task: str, z: Array, slope: Array, offset: Array, label: Array) -> Curve:
        fewest = int(min(label.sum(), (1 - label).sum()))
        if fewest < _FEWEST_POSITIVES:
            reasons[task] = (
                f"{int(label.sum())} of {len(label)} rows of tune are positive: "
                f"{_FEWEST_POSITIVES} of each kind are needed"
            )
            return Curve()
        return _METHODS[method](z, slope, offset, label)

    z_click, z_conversion = (np.asarray(logits[:, k], np.float64) for k in (0, 1))
    slope, offset = np.asarray(lines, np.float64).T
    y_click, y_conversion = (np.asarray(y, np.float64) for y in (click, conversion))
    first = fit("click", z_click, slope, offset, y_click)
    rate = np.clip(slope * expit(first.apply(z_click)) + offset, 1e-6, 1.0)
    second = fit("conversion", z_conversion, rate, np.zeros_like(rate), y_conversion)
    return Calibration(method, first, second, reasons)


def _platt(z: Array, slope: Array, offset: Array, label: Array) -> Curve:
    def loss(parameters: Array) -> tuple[float, Array]:
        scale, shift = np.exp(parameters[0]), parameters[1]
        share = expit(scale * z + shift)
        rate = np.clip(slope * share + offset, 1e-7, 1 - 1e-7)
        value = -np.mean(label * np.log(rate) + (1 - label) * np.log1p(-rate))
        by_logit = (rate - label) / (rate * (1 - rate)) * slope * share * (1 - share)
        return float(value), np.array([np.mean(by_logit * scale * z), np.mean(by_logit)])

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-3, 3), (-20, 20)])
    scale, shift = float(np.exp(found.x[0])), float(found.x[1])
    return Curve((0.0, 1.0), (shift, scale + shift))


def _isotonic(z: Array, slope: Array, offset: Array, label: Array) -> Curve:
    z = np.round(z, 6)  # logits closer than that are ties, not knots with a slope of infinity
    weight = np.maximum(slope, 1e-6) ** 2
    target = (label - offset) / np.maximum(slope, 1e-6)
    fitted = IsotonicRegression(y_min=_EDGE, y_max=1 - _EDGE).fit_transform(
        z, target, sample_weight=weight
    )
    order = np.argsort(z, kind="stable")
    steps = np.cumsum(np.diff(fitted[order], prepend=fitted[order[0]]) > 0)
    # Neighbouring steps share a knot where there are too many.
    steps = np.minimum(steps, steps[-1]) * min(_MOST_KNOTS, steps[-1] + 1) // (steps[-1] + 1)
    mass = np.bincount(steps, weight[order])
    x = np.bincount(steps, (weight * z)[order]) / mass
    rate = np.bincount(steps, (weight * fitted)[order]) / mass
    y = np.log(rate) - np.log1p(-rate) + _TILT * x
    x = np.concatenate([[x[0] - _REACH], x, [x[-1] + _REACH]])
    y = np.concatenate([[y[0] - _REACH], y, [y[-1] + _REACH]])
    return Curve(tuple(x.tolist()), tuple(y.tolist()))


_METHODS: dict[str, Callable[[Array, Array, Array, Array], Curve]] = {
    "platt": _platt,
    "isotonic": _isotonic,
}


def _check(logits: Array, lines: Array, click: Array, conversion: Array) -> None:
    shapes = (len(logits), len(lines), len(click), len(conversion))
    if len(set(shapes)) != 1 or np.ndim(logits) != 2 or logits.shape[1] < 2:
        raise DataError(
            f"logits {np.shape(logits)}, lines {np.shape(lines)}, {len(click)} clicks and "
            f"{len(conversion)} conversions: expected (n, 2), (n, 2), n and n"
        )
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise DataError(f"logits {logits[bad[0]]} in row {bad[0]}: expected finite numbers")
