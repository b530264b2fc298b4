"""Slow twins of the last layer: the formula written out, and training anew."""

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from heft.importance.base import ImportanceData

from .conftest import make_data


def losses(layer, data):
    """(n,) logistic loss of each row, straight from the definition."""
    logit = layer.inputs(data.features) @ layer.coefficients
    return np.logaddexp(0, logit) - data.label * logit


def fixed_scale(data):
    """Features with mean 0 and deviation 1, so that leaving a row out hardly moves them."""
    return (data.features - data.features.mean(0)) / data.features.std(0)


def retrained(x, label, keep, l2=1.0):
    """(d + 1,) minimum over the rows `keep`, by another library; the bias last."""
    h, y = np.column_stack([x, np.ones(len(x))])[keep], label[keep]
    centre = np.zeros(h.shape[1])
    centre[-1] = np.log((y.sum() + 1) / (len(y) - y.sum() + 1))

    def loss(b):
        z, away = h @ b, b - centre
        slope = h.T @ (1 / (1 + np.exp(-z)) - y) + l2 * away
        return (np.logaddexp(0, z) - y * z).sum() + l2 / 2 * away @ away, slope

    return minimize(loss, centre, jac=True, method="BFGS", options={"gtol": 1e-6}).x


def small(rows=240, seed=0, width=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)).astype(np.float32)
    label = (rng.random(rows) < 1 / (1 + np.exp(-1.5 * x[:, 0] + x[:, 1] + 0.5))).astype(int)
    return ImportanceData.of(x, label)


def reference(rows=800, seed=9):
    found, _ = make_data(rows=rows, seed=seed)
    return replace(found, group=found.group + 10**9)


def explicit(data, l2=1.0):
    """h (n, d + 1), r (n,) and H (d + 1, d + 1) at scikit-learn's minimum."""
    x = fixed_scale(data).astype(float)
    coefficients = retrained(x, data.label, slice(None), l2)
    h = np.column_stack([x, np.ones(len(x))])
    p = 1 / (1 + np.exp(-h @ coefficients))
    penalty = l2 * np.eye(x.shape[1] + 1)
    return h, p - data.label, (h * (p * (1 - p))[:, None]).T @ h + penalty
