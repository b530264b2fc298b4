"""Weights under which a label says nothing of the group it comes from."""

from typing import Literal, Self, get_args

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.registry import register

__all__ = ["FairnessReweighing", "Incomplete"]

Array = np.ndarray
Incomplete = Literal["raise", "leave"]


@register("fairness_reweighing")
class FairnessReweighing:
    """P(group) · P(label) / P(group, label), as counted in `fit`.

    Kamiran & Calders (2012), Data Preprocessing Techniques for Classification
    without Discrimination. Under these weights group and label are independent
    in the data of `fit`, exactly; every group and every label keeps its total,
    and the mean weight is 1. On other rows it holds as far as their shares are
    those of `fit`.

    A group that has only one of the labels cannot be made independent of it, and
    a group that `fit` has not seen has no weight. `incomplete` says what then.

    O(n log n) time, O(n) memory.

    Args:
        incomplete: `raise` a DataError; or `leave` such groups out: weight 1, and
            shares are those of the other groups.

    Raises:
        ConfigError: another value of `incomplete`.
    """

    def __init__(self, incomplete: Incomplete = "raise") -> None:
        if incomplete not in get_args(Incomplete):
            expected = list(get_args(Incomplete))
            raise ConfigError(f"Expected one of {expected}, received: incomplete={incomplete!r}")
        self.incomplete = incomplete

    def fit(self, data: ImportanceData) -> Self:
        """Counts rows by group and label.

        Raises:
            DataError: no column `protected`, no rows, or a group with one label
                only while `incomplete` is `raise`.
        """
        protected = need_column(data, "protected", "fairness_reweighing")
        if not len(data):
            raise DataError("fairness_reweighing got 0 rows: expected samples to count")
        groups, index = np.unique(protected, return_inverse=True)
        counts = np.bincount(index * 2 + data.label.astype(np.int64), minlength=2 * len(groups))
        counts = counts.reshape(len(groups), 2).astype(np.float64)
        whole = np.asarray((counts > 0).all(axis=1))
        if not whole.all() and self.incomplete == "raise":
            _refuse(groups, counts, whole)
        self.groups_ = groups
        self.weights_ = np.ones_like(counts)
        if whole.any():
            used = counts[whole]
            expected = used.sum(axis=1, keepdims=True) * used.sum(axis=0) / used.sum()
            self.weights_[whole] = expected / used
        return self

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32, above 0.

        Raises:
            DataError: a group that `fit` has not seen, while `incomplete` is `raise`.
        """
        check_fitted(self, "weights_")
        protected = need_column(data, "protected", "fairness_reweighing")
        index = np.minimum(np.searchsorted(self.groups_, protected), len(self.groups_) - 1)
        known = self.groups_[index] == protected
        if not known.all() and self.incomplete == "raise":
            raise DataError(
                f"protected={protected[~known][0]} in {int((~known).sum())} rows: expected one of "
                f"the {len(self.groups_)} groups of fit; fit on rows of every group, or set "
                "incomplete='leave' for a weight of 1"
            )
        found = self.weights_[index, data.label.astype(np.int64)]
        return np.where(known, found, 1.0).astype(np.float32)

    def score(self, data: ImportanceData) -> Array:
        """The weight."""
        return self.weight(data)


def _refuse(groups: Array, counts: Array, whole: Array) -> None:
    first = int(np.argmin(whole))
    present = int(counts[first, 1] > 0)
    raise DataError(
        f"all {int(counts[first].sum())} rows of protected={groups[first]} have label {present}, "
        f"as in {int((~whole).sum())} of {len(groups)} groups: expected both labels in every "
        "group; merge small groups, or set incomplete='leave' to leave them out"
    )
