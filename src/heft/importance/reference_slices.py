"""Slices of a reference set: by column, or found in its features."""

import warnings
from typing import Self

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.keys import row_order
from heft.importance.stacked import Scaling, threads

__all__ = ["ReferenceSlices"]

_SAMPLE = 20_000
_BLOCK = 4096


class ReferenceSlices:
    """Which slice of a reference set a row falls into.

    Args:
        most: clusters, or most values of the column (the most frequent ones).
        random_state: of the clusters, found by k-means on 20,000 standardised rows.

    Attributes:
        count: how many slices there are; a row of none has this number.
    """

    def __init__(self, most: int, random_state: int = 0) -> None:
        self.most = most
        self.random_state = random_state

    def fit(self, reference: ImportanceData, scaling: Scaling, by_column: bool) -> Self:
        """Finds the slices.

        Args:
            reference: at least one row.
            scaling: of the features.
            by_column: values of `slice` in place of clusters.
        """
        self.by_column_ = by_column
        if by_column:
            values, rows = np.unique(need_column(reference, "slice", "tracin"), return_counts=True)
            self.values_ = np.sort(values[np.argsort(-rows, kind="stable")[: self.most]])
            self.count = len(self.values_)
            return self
        self.scaling_ = scaling
        # By hash of the keys, so that the order of the rows does not matter.
        rows = row_order(reference, self.random_state)[:_SAMPLE]
        inputs = scaling.rows(np.ascontiguousarray(reference.features, np.float32), rows)
        self.count = min(self.most, len(rows))
        means = KMeans(self.count, n_init=1, max_iter=30, random_state=self.random_state)
        with threads(), warnings.catch_warnings():
            # Fewer different rows than clusters: some clusters are the same, and one is used.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.centres_ = means.fit(inputs).cluster_centers_.astype(np.float32)
        return self

    def of(self, data: ImportanceData) -> np.ndarray:
        """(n,) int64 in [0, count]; `count` for a value that the reference does not have."""
        check_fitted(self, "by_column_")
        if self.by_column_:
            column = need_column(data, "slice", "tracin")
            at = np.minimum(np.searchsorted(self.values_, column), self.count - 1)
            return np.where(self.values_[at] == column, at, self.count)
        if self.count == 1:
            return np.zeros(len(data), np.int64)
        features = np.ascontiguousarray(data.features, np.float32)
        half = np.einsum("cd,cd->c", self.centres_, self.centres_) / 2
        nearest = np.empty(len(data), np.int64)

        def find(start: int) -> None:
            rows = np.arange(start, min(start + _BLOCK, len(data)))
            inputs = self.scaling_.rows(features, rows)
            nearest[rows] = np.argmax(inputs @ self.centres_.T - half, axis=1)

        with threads() as pool:
            list(pool.map(find, range(0, len(data), _BLOCK)))
        return nearest
