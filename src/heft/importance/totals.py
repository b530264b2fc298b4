"""`combine`, shard by shard: what depends on all rows is a handful of sums.

`combine` over all rows at once is what this is tested against.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from heft.errors import DataError
from heft.importance.combine import Mode, plain_pairs
from heft.importance.ranks import Ranks

__all__ = ["Factors", "Mixture", "Moments", "Spread", "choose_clip", "clips", "normaliser"]

Array = np.ndarray

_EDGE = 1e-6  # as in `combine`


@dataclass(frozen=True)
class Factors:
    """How scores become the product that is then normalised.

    Attributes:
        exponents: by estimator name; those of 0 play no part.
        ranks: by name, of estimators with another exponent.
        mode: see `combine`.
        product_ranks: of the product itself, with `formula_4_2`.
    """

    exponents: dict[str, float]
    ranks: dict[str, Ranks]
    mode: Mode = "pair"
    product_ranks: Ranks | None = None

    def product(self, scores: dict[str, Array], label: Array) -> Array:
        """(n,) float64 above 0: Π rank^exponent, or the rank of that."""
        product = np.ones(len(label))
        for name, ranks in self.ranks.items():
            product *= ranks.rank(scores[name], label) ** self.exponents[name]
        return product if self.product_ranks is None else self.product_ranks.rank(product, label)


@dataclass(frozen=True)
class Moments:
    """Sums over rows, by label, (2,) float64 each; they add up over shards.

    Attributes:
        rows: how many.
        mass: Σ r, of row weights as their estimators gave them.
        product: Σ product · r.
        plain: Σ product, for a label in which no row has mass.
    """

    rows: Array
    mass: Array
    product: Array
    plain: Array

    @classmethod
    def of(cls, product: Array, row: Array, label: Array) -> "Moments":
        """The sums of n rows."""
        ones = np.ones(len(label))
        return cls(*(_by_label(label, x) for x in (ones, row, product * row, product)))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(a + b for a, b in zip(_fields(self), _fields(other), strict=True)))


@dataclass(frozen=True)
class Mixture:
    """What turns a debias pair into the final one; f and r of `combine`.

    Attributes:
        mode: see `combine`.
        row_mean: mean of r over all rows.
        means: (2,) mean of the product by label; 0 where the label has no rows.
        clip: in force; 1 until it is known.
        clipped: (2,) mean of the clipped product by label.
    """

    mode: Mode
    row_mean: float
    means: Array
    clip: float = 1.0
    clipped: Array = field(default_factory=lambda: np.ones(2))

    def base(self, debias: Array, label: Array) -> Array:
        """(n, 2): the part of the debias pair that the mode uses."""
        if self.mode == "pair":
            return debias
        return np.maximum(debias, 0.0) * plain_pairs(label)

    def around_one(self, product: Array, label: Array, clip: float) -> Array:
        """(n,): the product over its mean within the label, clipped."""
        mean = self.means[label]
        ratio = product / np.where(mean > 0, mean, 1.0)
        return np.where(mean > 0, np.clip(ratio, 1 / clip, clip), 1.0)

    def factor(self, product: Array, label: Array) -> Array:
        """(n,): f; with `formula_4_2` s, in (0, 1)."""
        factor = self.around_one(product, label, self.clip) / self.clipped[label]
        return np.clip(factor / 2, _EDGE, 1 - _EDGE) if self.mode == "formula_4_2" else factor

    def pairs(self, debias: Array, product: Array, row: Array, label: Array) -> Array:
        """(n, 2) float64, w⁺ and w⁻."""
        scale = row / self.row_mean * self.factor(product, label)
        return self.base(debias, label) * scale[:, None]


@dataclass(frozen=True)
class Spread:
    """For each candidate clip, by label, (clips, 2) float64; they add up over shards.

    Attributes:
        clipped: Σ clipped · r, whose mean normalises.
        plain: Σ clipped, for a label in which no row has mass.
        mass: Σ of |w⁺| + |w⁻| before that normalisation.
        squares: Σ of its square.
    """

    clipped: Array
    plain: Array
    mass: Array
    squares: Array

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        candidates: Sequence[float],
        debias: Array,
        product: Array,
        row: Array,
        label: Array,
    ) -> "Spread":
        """The sums of n rows. Time O(n · clips), memory O(n)."""
        mass = np.abs(mixture.base(debias, label)).sum(axis=1) * row / mixture.row_mean
        found = []
        for clip in candidates:
            factor = mixture.around_one(product, label, clip)
            terms = (factor * row, factor, mass * factor, (mass * factor) ** 2)
            found.append([_by_label(label, x) for x in terms])
        return cls(*np.moveaxis(np.array(found), 1, 0))

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(*(a + b for a, b in zip(_fields(self), _fields(other), strict=True)))


def normaliser(total: Moments, mode: Mode) -> Mixture:
    """The means of r and of the product within each label.

    Raises:
        DataError: row weights are 0 for all rows.
    """
    rows = int(total.rows.sum())
    if rows and not total.mass.any():
        raise DataError(
            f"row weights of all {rows} rows multiply to 0: expected some above; see which "
            "estimators of row weights (fraud, sampling, domain, fairness) take them out"
        )
    means = _mean(total.product, total.plain, total)
    return Mixture(mode, float(total.mass.sum() / max(rows, 1)), means)


def clips(clip: float) -> list[float]:
    """The clips that are tried, as `combine` does: each halves the distance to 1."""
    tried = [clip]
    while tried[-1] > 1.01:
        tried.append(1 + (tried[-1] - 1) / 2)
    return tried


def choose_clip(
    mixture: Mixture, total: Moments, spread: Spread, candidates: Sequence[float], minimum: float
) -> Mixture:
    """The first clip under which the effective sample size is at least `minimum` · n.

    The last one, if there is none.
    """
    rows = total.rows.sum()
    for k, clip in enumerate(candidates):
        clipped = _mean(spread.clipped[k], spread.plain[k], total)
        clipped = np.where(mixture.means > 0, clipped, 1.0)
        mass = (spread.mass[k] / clipped).sum()
        squares = (spread.squares[k] / clipped**2).sum()
        ess = mass**2 / squares if squares > 0 else 0.0
        if ess >= minimum * rows or clip == candidates[-1]:
            break
    return Mixture(mixture.mode, mixture.row_mean, mixture.means, clip, clipped)


def _mean(weighted: Array, plain: Array, total: Moments) -> Array:
    """(2,): by row weight; plain for a label without mass, 0 for one without rows."""
    by_mass = weighted / np.where(total.mass > 0, total.mass, 1.0)
    by_rows = plain / np.maximum(total.rows, 1.0)
    return np.where(total.mass > 0, by_mass, by_rows)


def _by_label(label: Array, values: Array) -> Array:
    return np.bincount(label, weights=values, minlength=2).astype(np.float64)


def _fields(value: Moments | Spread) -> tuple[Array, ...]:
    return tuple(getattr(value, name) for name in value.__dataclass_fields__)
