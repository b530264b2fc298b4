"""Scores and a debias pair become the weight pair a model trains with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from heft.errors import ConfigError, DataError

__all__ = ["Mode", "Weights", "attention", "combine", "effective_sample_size", "plain_pairs"]

Array = np.ndarray
Mode = Literal["pair", "plain", "formula_4_2"]

# Keeps float32 away from 0 and 1, however many rows there are.
_EDGE = 1e-6


@dataclass(frozen=True)
class Weights:
    """The weight pairs of one task.

    Attributes:
        pairs: (n, 2) float32, columns w⁺ and w⁻.
        factor: (n,) float32, the part that quality and value contributed; with
            `formula_4_2` its w, in (0, 1).
        ess: effective sample size, in (0, n].
        clip: the clip in force; lower than asked if the bound on ess required it.
        row: (n,) float32, at least 0, the product of row weights, mean 1; None
            without any.
    """

    pairs: Array
    factor: Array
    ess: float
    clip: float
    row: Array | None = None


def plain_pairs(label: Array) -> Array:
    """(n, 2): (y, 1 − y), which is training without weights."""
    return np.stack([label, 1 - label], axis=1).astype(np.float64)


def effective_sample_size(weights: Array) -> float:
    """(Σw)²/Σw² (Kish 1965) of the mass |w⁺| + |w⁻| of each row; 0 if all are 0."""
    mass = np.abs(weights).sum(axis=1) if weights.ndim == 2 else np.abs(weights)
    squares = float((mass**2).sum())
    return float(mass.sum()) ** 2 / squares if squares > 0 else 0.0


def attention(scores: Array, label: Array, exponent: float) -> Array:
    """(n,) in (0, 1]: the mid-rank of each score within its label, to the power `exponent`.

    Ranks make scores of any scale comparable; within the label, so that
    attention moves between samples and not between classes.
    """
    if exponent == 0:
        return np.ones(len(scores))
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} scores are NaN or infinite")
    return _ranks(scores, label, np.ones(len(scores))) ** exponent


def combine(
    debias: Array,
    label: Array,
    factors: Sequence[Array],
    *,
    row_weights: Sequence[Array] = (),
    mode: Mode = "pair",
    clip: float = 5.0,
    minimum_ess: float = 0.1,
) -> Weights:
    """The pairs of one task; f = normalise(clip(Π factors)), r = Π row_weights / mean.

    - `pair`: r · f · (d⁺, d⁻), d the debias pair.
    - `plain`: one number per row, r · f · (y·d⁺, (1 − y)·d⁻): of the debias pair
      only the part that agrees with the label, never negative. Without debiasing
      r·f·(y, 1 − y); with inverse propensity the usual 1/θ of clicks.
    - `formula_4_2`: r · (w·y·d⁺, (1 − w)·(1 − y)·d⁻), the loss −[y·w·log p +
      (1 − y)(1 − w)·log(1 − p)] where nothing is debiased. w in (0, 1) says how
      far a row speaks for the positive: with s the mid-rank of Π factors within
      the label, clipped as f, of mean ½, w = s for positives and 1 − s for
      negatives, so that in both a row worth more weighs more.

    f has mean 1 within each label (under r, so that rows taken out do not
    count), and s mean ½: they move attention and not the base rate. r is about
    which rows count (fraud, sampling, domain, fairness): it has mean 1 over all
    rows and may move the base rate. Where the effective sample size falls below
    `minimum_ess` · n, the clip halves its distance to 1 until it does not; at 1
    f is 1 and s is ½. Factors that are 0 for all rows of a label leave f at 1.

    Args:
        debias: (n, 2), what is estimated; never normalised away.
        label: (n,) {0, 1}.
        factors: each (n,), finite and non-negative.
        row_weights: each (n,), finite and non-negative, as `Reweigher.weight` gives.
        mode: see above.
        clip: f is kept in [1/clip, clip] around its mean; at least 1.
        minimum_ess: share of n in [0, 1]. Debias pair and row weights alone may
            lie below it.

    Raises:
        ConfigError: unknown mode, clip < 1 or minimum_ess outside [0, 1].
        DataError: a factor or row weight is negative or not finite, or all row
            weights are 0.
    """
    _check_settings(mode, clip, minimum_ess)
    base = debias if mode == "pair" else np.maximum(debias, 0.0) * plain_pairs(label)
    product = _product(factors, len(label), "factors")
    row = _product(row_weights, len(label), "row weights")
    if len(row) and not row.any():
        raise DataError(
            f"row weights of all {len(row)} rows multiply to 0: expected some above; see which "
            "estimators of row weights (fraud, sampling, domain, fairness) take them out"
        )
    row = row / row.mean() if len(row) else row
    if mode == "formula_4_2":
        product = _ranks(product, label, row)
    while True:
        factor = _normalise(product, label, row, clip)
        if mode == "formula_4_2":
            strength = np.clip(factor / 2, _EDGE, 1 - _EDGE)
            factor = np.where(label == 1, strength, 1 - strength)
            pairs = base * (row * strength)[:, None]
        else:
            pairs = base * (row * factor)[:, None]
        ess = effective_sample_size(pairs)
        if ess >= minimum_ess * len(label) or clip <= 1.01:
            kept = row.astype(np.float32) if row_weights else None
            return Weights(pairs.astype(np.float32), factor.astype(np.float32), ess, clip, kept)
        clip = 1 + (clip - 1) / 2


def _check_settings(mode: str, clip: float, minimum_ess: float) -> None:
    if mode not in get_args(Mode):
        raise ConfigError(f"Expected one of {list(get_args(Mode))}, received: mode={mode!r}")
    if not clip >= 1:
        raise ConfigError(f"clip={clip} must be at least 1, which means no effect of scores")
    if not 0 <= minimum_ess <= 1:
        raise ConfigError(f"minimum_ess={minimum_ess} must be in [0, 1]")


def _product(columns: Sequence[Array], rows: int, what: str) -> Array:
    """(n,) float64, ones without columns; each column is scaled first, against overflow."""
    product = np.ones(rows)
    for column in columns:
        odd = ~(np.isfinite(column) & (column >= 0))
        if odd.any():
            raise DataError(
                f"{what}: {column[odd][0]} in {int(odd.sum())} rows, expected finite numbers, "
                "at least 0"
            )
        mean = np.mean(column, dtype=np.float64) if rows else 0.0
        product = product * (column / mean if mean > 0 else column)
    return product


def _normalise(product: Array, label: Array, row: Array, clip: float) -> Array:
    factor = np.ones(len(product))
    for value in (0, 1):
        rows = label == value
        # Rows that are taken out altogether do not say where the mean is.
        mass = row[rows] if row[rows].any() else np.ones(int(rows.sum()))
        if rows.any() and np.average(product[rows], weights=mass) > 0:
            around_one = product[rows] / np.average(product[rows], weights=mass)
            clipped = np.clip(around_one, 1 / clip, clip)
            factor[rows] = clipped / np.average(clipped, weights=mass)
    return factor


def _ranks(values: Array, label: Array, mass: Array) -> Array:
    """(n,) in [0, 1]: the mid-rank within the label; in (0, 1) for rows with mass."""
    result = np.ones(len(values))
    for value in (0, 1):
        rows = np.flatnonzero(label == value)
        if mass[rows].any():
            result[rows] = _mid_rank(values[rows], mass[rows])
    return result


def _mid_rank(values: Array, mass: Array) -> Array:
    """(n,): the share of mass below, and half of that at, each value; of mean ½ under `mass`."""
    _, inverse = np.unique(values, return_inverse=True)
    tied = np.bincount(inverse, weights=mass)
    return ((np.cumsum(tied) - tied / 2) / tied.sum())[inverse]
