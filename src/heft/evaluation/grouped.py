"""Ranking metrics that are means over groups: result pages, queries or users.

Arrays have shape (rows,). Groups in which the metric is undefined are left
out and counted, never scored as 0 or 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from heft.errors import DataError
from heft.evaluation.metrics import FloatArray, IntArray, Values, checked, ratio

__all__ = ["GroupMean", "gauc", "group_codes", "ndcg_at_k"]


class GroupMean:
    """A weighted mean of one value for each group.

    Attributes:
        values: the metric of each group that counts, shape (groups,).
        weights: what each of them weighs in the mean, shape (groups,).
        left_out: groups in which the metric is undefined.
    """

    def __init__(
        self,
        values: FloatArray,
        weights: FloatArray,
        first_row: IntArray,
        defined: npt.NDArray[Any],
    ) -> None:
        self.values, self.weights = values[defined], weights[defined]
        self.left_out = int(np.count_nonzero(~defined))
        self._first_row = first_row[defined]

    @property
    def mean(self) -> float:
        """The metric over all groups that count; NaN without any."""
        return ratio(float(self.weights @ self.values), float(self.weights.sum()))

    def value(self, weight: FloatArray) -> float:
        """The mean with groups repeated, as `Metric`.

        A group is repeated as often as its first row says: in a bootstrap over
        groups, or over anything that keeps groups whole, all its rows agree.
        """
        weights = self.weights * weight[self._first_row]
        return ratio(float(weights @ self.values), float(weights.sum()))


def group_codes(keys: Values) -> tuple[IntArray, int]:
    """Keys as integers from 0 in key order, and how many there are.

    Raises:
        DataError: a key is missing.
    """
    codes, names = pd.factorize(np.asarray(keys), sort=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise DataError(f"the group key of row {row} is missing: every row needs its group")
    return codes.astype(np.int64), len(names)


def gauc(label: Values, score: Values, group: Values) -> GroupMean:
    """AUC within each group, averaged by the rows of the group (Zhu et al. 2017).

    Tied scores count one half. Groups of one class are left out.

    Raises:
        DataError: as `heft.evaluation.metrics`; a key is missing.
    """
    y, s = checked(label, score)
    codes, count = _codes(group, y)
    order = np.lexsort((s, codes))
    y, s, sorted_codes = y[order], s[order], codes[order]
    starts = _run_starts(sorted_codes, s)
    positive, negative = _run_sums(y, starts), _run_sums(1 - y, starts)
    run_group = sorted_codes[starts]
    positives = np.bincount(run_group, positive, count)
    negatives = np.bincount(run_group, negative, count)
    earlier = (np.cumsum(negatives) - negatives)[run_group]
    below = np.cumsum(negative) - earlier - 0.5 * negative
    pairs = positives * negatives
    won = np.bincount(run_group, positive * below, count)
    values = np.divide(won, pairs, out=np.zeros(count), where=pairs > 0)
    size = np.bincount(codes, minlength=count).astype(np.float64)
    return GroupMean(values, size, _first_rows(codes, count), pairs > 0)


def ndcg_at_k(grade: Values, score: Values, group: Values, k: int = 10) -> GroupMean:
    """NDCG@k of each group with gain 2^grade - 1, averaged over groups.

    Discounts are 1/log2(1 + rank) (Järvelin and Kekäläinen 2002, with the gain
    of Burges et al. 2005). Tied scores share the mean of their gains, which is
    the expectation over their orders (McSherry and Najork 2008). Groups without
    any gain are left out. A click is a grade of 1.

    Raises:
        DataError: shapes differ, a value is not finite, a grade is negative.
    """
    grades, scores = np.asarray(grade, np.float64), np.asarray(score, np.float64)
    if grades.shape != scores.shape or not np.isfinite(grades + scores).all():
        raise DataError("grades and scores must be finite and of one shape (rows,)")
    if grades.size and grades.min() < 0:
        raise DataError(f"grade={grades.min()}: expected grades from 0 up")
    codes, count = _codes(group, grades)
    gain = np.exp2(grades) - 1
    ideal = _dcg(gain, gain, codes, count, k)
    reached = _dcg(gain, scores, codes, count, k)
    values = np.divide(reached, ideal, out=np.zeros(count), where=ideal > 0)
    return GroupMean(values, np.ones(count), _first_rows(codes, count), ideal > 0)


def _dcg(gain: FloatArray, score: FloatArray, codes: IntArray, count: int, k: int) -> FloatArray:
    order = np.lexsort((-score, codes))
    gain, score, sorted_codes = gain[order], score[order], codes[order]
    size = np.bincount(codes, minlength=count)
    rank = np.arange(codes.size) - np.repeat(np.cumsum(size) - size, size)
    discount = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
    starts = _run_starts(sorted_codes, score)
    length = np.diff(np.append(starts, codes.size))
    run = _run_sums(gain, starts) / length * _run_sums(discount, starts)
    return np.asarray(np.bincount(sorted_codes[starts], run, count), np.float64)


def _codes(group: Values, rows: FloatArray) -> tuple[IntArray, int]:
    if len(group) != len(rows):
        raise DataError(f"{len(group)} group keys for {len(rows)} rows: expected one a row")
    return group_codes(group)


def _run_starts(*sorted_keys: Values) -> IntArray:
    """Indices where a run of equal keys begins, shape (runs,)."""
    if not sorted_keys[0].size:
        return np.empty(0, np.int64)
    change = np.zeros(sorted_keys[0].size, bool)
    change[0] = True
    for key in sorted_keys:
        change[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(change)


def _run_sums(values: FloatArray, starts: IntArray) -> FloatArray:
    return np.asarray(np.add.reduceat(values, starts)) if starts.size else values


def _first_rows(codes: IntArray, count: int) -> IntArray:
    first = np.empty(count, np.int64)
    # Written backwards, so that the first row of a group is the one that stays.
    first[codes[::-1]] = np.arange(codes.size)[::-1]
    return first
