"""Mid-ranks among the rows of a sample, for any rows."""

from dataclasses import dataclass
from typing import Self

import numpy as np

__all__ = ["RankTable", "Ranks"]

Array = np.ndarray


@dataclass(frozen=True)
class RankTable:
    """The distribution of the values of one label, ties and all.

    Attributes:
        values: (m,) sorted and distinct.
        below: (m,) float64, share of mass below each value.
        at: (m,) float64, share of mass at each value.
        least: half the smallest share; the rank of what is below all values.
    """

    values: Array
    below: Array
    at: Array
    least: float

    @classmethod
    def of(cls, values: Array, mass: Array | None = None) -> Self | None:
        """None without rows, or where no row has mass. O(n log n)."""
        if not len(values) or (mass is not None and not mass.any()):
            return None
        distinct, inverse = np.unique(values, return_inverse=True)
        at = np.bincount(inverse, weights=mass).astype(np.float64)
        total = at.sum()
        below = (np.cumsum(at) - at) / total
        at = at / total
        return cls(distinct, below, at, float(at[at > 0].min() / 2))

    def rank(self, values: Array) -> Array:
        """(n,) in (0, 1): the share below, and half of that at, each value.

        Exact for values of the sample; another lies between its neighbours. O(n log m).
        """
        index = np.searchsorted(self.values, values)
        inside = np.minimum(index, len(self.values) - 1)
        known = self.values[inside] == values
        below = np.where(index < len(self.values), self.below[inside], 1.0)
        rank = np.where(known, self.below[inside] + self.at[inside] / 2, below)
        return np.where(known, rank, np.clip(rank, self.least, 1 - self.least))


@dataclass(frozen=True)
class Ranks:
    """A table for each label; None for a label that the sample does not have."""

    tables: tuple[RankTable | None, RankTable | None]

    @classmethod
    def of(cls, values: Array, label: Array, mass: Array | None = None) -> Self:
        """Tables of the `values` with label 0 and 1, by `mass` (ones if None)."""
        negative, positive = (
            RankTable.of(values[label == k], None if mass is None else mass[label == k])
            for k in (0, 1)
        )
        return cls((negative, positive))

    def rank(self, values: Array, label: Array) -> Array:
        """(n,) in (0, 1); ones for a label without a table, as in `attention`."""
        result = np.ones(len(values))
        for k, table in enumerate(self.tables):
            rows = np.flatnonzero(label == k)
            if table is not None and len(rows):
                result[rows] = table.rank(values[rows])
        return result
