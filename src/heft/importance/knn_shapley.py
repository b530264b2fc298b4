"""What a row adds to a nearest-neighbour vote."""

from typing import Self

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.knn_values import KnnValues
from heft.importance.nearest import row_keys, salted
from heft.importance.proxy import fold_of
from heft.importance.registry import register

__all__ = ["KnnShapley", "check_labels", "check_reference"]

Array = np.ndarray


@register("knn_shapley")
class KnnShapley:
    """Shapley value of a row for a k-nearest-neighbour classifier, exact.

    The utility of a set S of rows is the vote it gives the reference rows,
    v(S) = mean over them of (1/k) Σ [label matches] over the min(k, |S|) rows of
    S nearest to them. With a training sample of N rows ranked by distance, and
    m_j = 1 where the labels match (Jia et al. 2019, *Efficient Task-Specific
    Data Valuation for Nearest Neighbor Algorithms*):

        s_N = m_N / max(k, N)
        s_i = s_{i+1} + (m_i − m_{i+1}) / max(k, i)

    A row's value is the mean over reference rows, in [−1/k, 1/k]; all values sum
    to v(all) − v(∅). Rows at the same distance are averaged over all their
    orders, so that equal rows have equal values.

    With `top` = T the T nearest distinct points of each reference row are told
    apart and the rest count as equally far. No value is off by more than 1 / T,
    and the sum stays exact.

    With no `reference`, groups are dealt to `folds` by hash. Each fold is a
    training sample of its own, and rows of the other folds are its reference: no
    row is judged by its own group. Of reference rows, given or not,
    `reference_rows` are used, half of each label where there are as many.

    `score` gives a row that equals one of the fitted sample (features and label)
    that row's value, and any other row the value it would have had, had it alone
    joined the sample; beyond the 2,048 nearest points of a reference row, or
    `top` if given, points count as equally far there.

    Cost: n · m · d multiplications for n rows and m reference rows. Exact, time
    O(n · m), memory O(n · d + 64 · n + 2048 · m); with `top`, memory
    O(n · d + m · top). `score` of other rows takes O(n · m · log top).

    Args:
        k: neighbours that vote, at least 1.
        reference: rows whose labels are right, or from the time that matters.
        top: nearest points told apart, at least k; all if None.
        standardise: scale features by mean and deviation of the fitted sample.
        folds: at least 2; used if no reference is given.
        reference_rows: most reference rows, at least 2; drawn by hash.
        random_state: seed of folds and of the drawn reference rows.

    Raises:
        ConfigError: a setting out of its range.
    """

    def __init__(
        self,
        k: int = 10,
        reference: ImportanceData | None = None,
        top: int | None = None,
        standardise: bool = True,
        folds: int = 4,
        reference_rows: int = 1000,
        random_state: int = 0,
    ) -> None:
        for name, value, least in (
            ("k", k, 1),
            ("folds", folds, 2),
            ("reference_rows", reference_rows, 2),
        ):
            if value < least:
                raise ConfigError(f"{name}={value}: expected at least {least}")
        if top is not None and top < k:
            raise ConfigError(f"top={top}: expected at least k={k}, since that many vote")
        self.k = k
        self.reference = reference
        self.top = top
        self.standardise = standardise
        self.folds = folds
        self.reference_rows = reference_rows
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Values every row of `data`.

        Raises:
            DataError: one label only in `data` or in the reference; other
                features in the reference; no reference and a single fold of groups.
        """
        check_labels(data.label, "training")
        self.shift_, self.scale_ = _scaling(data.features, self.standardise)
        keys, points = self._points(data)
        sample = (keys, points, data.label)
        everyone = np.arange(len(data))
        if self.reference is not None:
            check_reference(self.reference, data)
            judges = self._judges(self.reference, np.arange(len(self.reference)))
            self.values_ = [self._value(sample, everyone, judges)]
            return self
        fold = fold_of(data.group, self.folds, self.random_state)
        if len(np.unique(fold)) < 2:
            raise DataError(
                f"all {len(data)} rows are in one fold of groups: expected groups in at least 2 "
                "of them; use more groups or pass a reference"
            )
        # A fold without rows joins the next: its groups are strangers to any other fold too.
        self.values_ = []
        for k in range(self.folds):
            own = next(j % self.folds for j in range(k, k + self.folds) if j % self.folds in fold)
            judges = self._judges(data, np.flatnonzero(fold != own))
            self.values_.append(self._value(sample, np.flatnonzero(fold == own), judges))
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in [−1/k, 1/k]."""
        return self.values(data).astype(np.float32)

    def values(self, data: ImportanceData) -> Array:
        """(n,) float64: the scores before they are rounded."""
        check_fitted(self, "values_")
        if data.features.shape[1] != len(self.shift_):
            raise DataError(
                f"features={data.features.shape[1]}: expected {len(self.shift_)}, as in fit"
            )
        keys, points = self._points(data)
        folds = len(self.values_)
        fold = fold_of(data.group, folds, self.random_state)
        result = np.zeros(len(data))
        for k in range(folds):
            rows = np.flatnonzero(fold == k)
            result[rows] = self.values_[k].score(keys[rows], points[rows], data.label[rows])
        return result

    def _points(self, data: ImportanceData) -> tuple[Array, Array]:
        """(n,) keys and (n, d) float32 points of the rows."""
        features = np.ascontiguousarray(data.features, np.float32)
        points = features - self.shift_
        points /= self.scale_
        return row_keys(features), points

    def _judges(self, data: ImportanceData, rows: Array) -> tuple[Array, Array]:
        """Points and labels of the reference rows drawn from `rows`, in an order of their own."""
        keys, points = self._points(data.take(rows))
        label = data.label[rows].astype(np.int64)
        draw = salted(self.random_state, keys, data.group[rows])
        chosen = _balanced(np.arange(len(rows)), label, draw, self.reference_rows)
        # Sums over reference rows must not depend on their order in memory.
        chosen = chosen[np.lexsort((label[chosen], keys[chosen]))]
        return points[chosen], label[chosen]

    def _value(
        self,
        sample: tuple[Array, Array, Array],
        rows: Array,
        judges: tuple[Array, Array],
    ) -> KnnValues:
        if len(rows) < len(sample[0]):
            sample = tuple(column[rows] for column in sample)  # type: ignore[assignment]
        keys, points, label = sample
        return KnnValues.of(keys, points, label.astype(np.int64), *judges, self.k, self.top)


def check_labels(label: Array, what: str) -> None:
    """Raises DataError unless there are both labels."""
    positives = int(np.sum(label))
    if not len(label):
        raise DataError(f"the {what} sample has 0 rows: expected at least one of each label")
    if positives in (0, len(label)):
        raise DataError(
            f"all {len(label)} labels of the {what} sample are {int(positives > 0)}: expected both "
            "0 and 1; use more data or drop the estimator for this task"
        )


def check_reference(reference: ImportanceData, data: ImportanceData) -> None:
    """Raises DataError unless the reference has both labels and the data's features."""
    check_labels(reference.label, "reference")
    if reference.features.shape[1] != data.features.shape[1]:
        raise DataError(
            f"the reference has features={reference.features.shape[1]}: expected "
            f"{data.features.shape[1]}, as in the training sample"
        )


def _scaling(features: Array, standardise: bool) -> tuple[Array, Array]:
    """What to take from features and to divide them by; the mean keeps products small."""
    parts = np.array_split(features, len(features) // 65_536 + 1)
    shift = sum(x.sum(axis=0, dtype=np.float64) for x in parts) / len(features)
    scale = np.ones_like(shift)
    if standardise:
        squares = sum(((x - shift) ** 2).sum(axis=0) for x in parts)
        deviation = np.sqrt(squares / len(features))
        scale = np.where(deviation > 1e-6, deviation, 1.0)
    return shift.astype(np.float32), scale.astype(np.float32)


def _balanced(rows: Array, label: Array, draw: Array, most: int) -> Array:
    """At most `most` of `rows`, half of each label where there are as many, drawn by `draw`."""
    order = np.argsort(draw, kind="stable")
    negatives, positives = (rows[order[label[order] == value]] for value in (0, 1))
    wanted = min(len(positives), max(most // 2, most - len(negatives)))
    return np.concatenate([positives[:wanted], negatives[: most - wanted]])
