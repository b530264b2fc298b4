"""Correlation and mutual information of features with a label, of rows that carry weight."""

from dataclasses import dataclass

import numpy as np

from heft.errors import DataError

__all__ = ["Masses", "Relations", "category_relations", "number_relations"]

Array = np.ndarray

_COLUMNS_AT_ONCE = 64


@dataclass(frozen=True)
class Masses:
    """How much each unit, a row or rows of one text, counts as a positive and a negative.

    Attributes:
        positive, negative: (n,) float64, at least 0; of a row that counts once (y, 1 − y).
        effective: equally weighted rows that would carry as much information.
    """

    positive: Array
    negative: Array
    effective: float

    @classmethod
    def of(cls, positive: Array, negative: Array) -> "Masses":
        """Of single rows; what an unbiased correction made negative counts as 0."""
        positive, negative = (
            np.maximum(np.asarray(x, np.float64), 0) for x in (positive, negative)
        )
        total = positive + negative
        squares = float(total @ total)
        return cls(positive, negative, float(total.sum()) ** 2 / squares if squares else 0.0)

    def grouped(self, unit: Array, units: int) -> "Masses":
        """The same rows by `unit` (n,), of which there are `units`."""
        positive, negative = (
            np.bincount(unit, x, minlength=units) for x in (self.positive, self.negative)
        )
        return Masses(positive, negative, self.effective)


@dataclass(frozen=True)
class Relations:
    """Of d features with a label, each (d,) float64; 0 where either is constant.

    Attributes:
        correlation: of a number Pearson's, which with a label of 0 and 1 is the
            point-biserial one, in [−1, 1]; of a category Cramér's V in [0, 1].
        rank_correlation: Spearman's, in [−1, 1]; of a category NaN.
        mutual_information: in nats, at least 0.
    """

    correlation: Array
    rank_correlation: Array
    mutual_information: Array


def number_relations(values: Array, masses: Masses, bins: int = 32) -> Relations:
    """Relations of numeric features; a unit of mass m counts as m rows would.

    Spearman's is Pearson's of mid-ranks (Spearman 1904). Mutual information is that of
    `bins` bins of equal mass, equal values in one bin, less its bias, (bins − 1) / 2n with n
    the effective rows (Miller 1955, *Note on the bias of information estimates*).

    Args:
        values: (n, d), finite.
        masses: of the n units.
        bins: at least 2.

    Raises:
        DataError: a value is not finite.

    Cost: a sort of each column. Memory: some n · 64 numbers.
    """
    if not np.isfinite(values).all():
        raise DataError(
            "a feature is not a finite number: expected none but Transform's columns and "
            "embeddings; run the nodes before again"
        )
    parts = [
        _block(np.asarray(values[:, start : start + _COLUMNS_AT_ONCE], np.float64), masses, bins)
        for start in range(0, values.shape[1], _COLUMNS_AT_ONCE)
    ]
    stacked = np.concatenate(parts, axis=1) if parts else np.zeros((3, 0))
    return Relations(*stacked)


def category_relations(category: Array, masses: Masses) -> Relations:
    """Relations of one categorical feature, arrays of length 1.

    Cramér's V less its bias (Bergsma 2013, *A bias-correction for Cramér's V*), and the
    mutual information of values and label, less its bias as in `number_relations`.

    Args:
        category: (n,) int, whatever they are.
        masses: of the n units.
    """
    _, places = np.unique(category, return_inverse=True)
    grouped = masses.grouped(places.ravel(), int(places.max(initial=-1)) + 1)
    table = np.stack([grouped.negative, grouped.positive], axis=1)
    table = table[table.sum(axis=1) > 0]
    information = _information(table[None], masses.effective)
    return Relations(np.array([_cramer(table, masses.effective)]), np.array([np.nan]), information)


def _block(values: Array, masses: Masses, bins: int) -> Array:
    """(3, d): correlation, rank correlation and mutual information."""
    total = masses.positive + masses.negative
    ranks = _mid_ranks(values, total)
    mass = total.sum()
    place = np.minimum((ranks / max(mass, 1e-300) * bins).astype(np.int64), bins - 1)
    columns = values.shape[1]
    cell = (place + bins * np.arange(columns)).ravel()
    counted = [
        np.bincount(cell, np.repeat(x, columns), bins * columns).reshape(columns, bins)
        for x in (masses.negative, masses.positive)
    ]
    information = _information(np.stack(counted, axis=2), masses.effective)
    return np.stack([_pearson(values, masses), _pearson(ranks, masses), information])


def _pearson(values: Array, masses: Masses) -> Array:
    total = masses.positive + masses.negative
    mass, share = total.sum(), masses.positive.sum()
    if not 0 < share < mass:
        return np.zeros(values.shape[1])
    centred = values - total @ values / mass
    variance = total @ centred**2 / mass
    covariance = masses.positive @ centred / mass
    scale = np.sqrt(variance * (share / mass) * (1 - share / mass))
    # What is left of a constant column is rounding.
    constant = variance <= 1e-14 * np.maximum(np.abs(values).max(axis=0, initial=0) ** 2, 1e-30)
    return np.where(constant, 0.0, covariance / np.where(constant, 1.0, scale))


def _mid_ranks(values: Array, total: Array) -> Array:
    """(n, d) mass below each value, and half of the mass at it."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    upto = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(total[order], axis=0)])
    n = len(values)
    rows = np.arange(n)[:, None]
    changes = ordered[1:] != ordered[:-1]
    edge = np.ones((1, values.shape[1]), bool)
    first = np.maximum.accumulate(np.where(np.concatenate([edge, changes]), rows, 0), axis=0)
    ends = np.where(np.concatenate([changes, edge]), rows, n)
    last = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    below = np.take_along_axis(upto, first, axis=0)
    through = np.take_along_axis(upto, last + 1, axis=0)
    ranks = np.empty_like(below)
    np.put_along_axis(ranks, order, (below + through) / 2, axis=0)
    return ranks


def _information(tables: Array, effective: float) -> Array:
    """(d,) nats of (d, values, 2) tables of mass, less the bias, at least 0."""
    mass = tables.sum(axis=(1, 2), keepdims=True)
    share = tables / np.where(mass > 0, mass, 1)
    expected = share.sum(axis=2, keepdims=True) * share.sum(axis=1, keepdims=True)
    there = share > 0
    ratio = np.where(there, share, 1) / np.where(there, expected, 1)
    nats = (share * np.log(ratio)).sum(axis=(1, 2))
    used = (tables.sum(axis=2) > 0).sum(axis=1)
    labels = (tables.sum(axis=1) > 0).sum(axis=1)
    bias = np.maximum(used - 1, 0) * np.maximum(labels - 1, 0) / (2 * max(effective, 1.0))
    return np.maximum(nats - bias, 0.0)


def _cramer(table: Array, effective: float) -> float:
    labels = int((table.sum(axis=0) > 0).sum())
    if len(table) < 2 or labels < 2 or effective <= 1:
        return 0.0
    share = table / table.sum()
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    square = float((share**2 / expected).sum()) - 1
    extra = (len(table) - 1) * (labels - 1) / (effective - 1)
    sides = [k - (k - 1) ** 2 / (effective - 1) for k in (len(table), labels)]
    least = min(sides) - 1
    return float(np.sqrt(min(max(square - extra, 0.0) / least, 1.0))) if least > 0 else 0.0
