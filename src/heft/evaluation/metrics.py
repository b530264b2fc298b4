"""Metrics of one prediction column against one label column.

Each metric exists twice: as a class that sorts its rows once and is then asked
for its value under many row weights (what a bootstrap needs, O(rows) a time),
and as a function for a single value (O(rows log rows)).

Labels are soft: a row with label y counts as y of a positive and 1 - y of a
negative. Labels in {0, 1} are the ordinary case. Arrays have shape (rows,),
labels and probabilities lie in [0, 1], weights are >= 0. Every function raises
DataError on other shapes or ranges and on values that are not finite, and
returns NaN where the metric is undefined, for example with one class only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from heft.errors import DataError

__all__ = [
    "Auc", "AucPr", "Bins", "Calibration", "Ece", "FloatArray", "IntArray", "LogLoss", "Metric",
    "Values", "auc", "auc_pr", "calibration", "checked", "ece", "err_gain", "log_loss", "ratio",
    "reliability",
]  # fmt: skip

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Values = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

# Probabilities are kept this far from 0 and 1, so that one sure and wrong
# prediction costs 16 nats and not infinity.
PROBABILITY_MARGIN = 1e-7


class Metric(Protocol):
    """A metric over fixed rows, waiting for row weights."""

    def value(self, weight: FloatArray) -> float:
        """The metric with row weights of shape (rows,); NaN where undefined."""
        ...


def checked(
    label: Values, score: Values, probability: bool = False, bounded: bool = True
) -> tuple[FloatArray, ...]:
    """Labels and scores as float64.

    Raises:
        DataError: shapes differ, a value is not finite, or a probability or `bounded` label is
            outside [0, 1].
    """
    y, s = np.asarray(label, np.float64), np.asarray(score, np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise DataError(f"labels {y.shape} and scores {s.shape} must both be of shape (rows,)")
    for name, values, within in (("label", y, bounded), ("score", s, probability)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{name}={values[row]} in row {row}: expected a finite number")
        if within and values.size and (values.min() < 0 or values.max() > 1):
            raise DataError(f"{name} in [{values.min()}, {values.max()}]: expected [0, 1]")
    return y, s


def ratio(numerator: float, denominator: float) -> float:
    """Their quotient, NaN if the denominator is not positive."""
    return float(numerator / denominator) if denominator > 0 else float("nan")


class _Ranked:
    """Labels and scores in score order, and how to bring row weights into it."""

    def __init__(self, label: Values, score: Values, *, descending: bool, **ranges: bool) -> None:
        y, s = checked(label, score, **ranges)
        self.order = np.argsort(-s if descending else s, kind="stable")
        self.label, self.score = y[self.order], s[self.order]


class Auc:
    """Area under the ROC curve; tied scores count one half.

    The probability that a random positive scores above a random negative
    (Hanley and McNeil 1982), with each row y of the one and 1 - y of the other.
    Labels that are not `bounded` are unbiased estimates of a label, such as a click over
    the probability that it was looked at, which lie outside [0, 1].
    """

    def __init__(self, label: Values, score: Values, bounded: bool = True) -> None:
        self._ranked = _Ranked(label, score, descending=False, bounded=bounded)

    def value(self, weight: FloatArray) -> float:
        """The AUC, in [0, 1] for bounded labels."""
        ranked = self._ranked
        return float(_auc(ranked.order, ranked.label, ranked.score, weight))


class AucPr:
    """Average precision: the step-wise area under the precision-recall curve.

    No interpolation, which would be optimistic (Davis and Goadrich 2006).
    """

    def __init__(self, label: Values, score: Values) -> None:
        self._ranked = _Ranked(label, score, descending=True)

    def value(self, weight: FloatArray) -> float:
        """The average precision in [0, 1]."""
        ranked = self._ranked
        return float(_average_precision(ranked.order, ranked.label, ranked.score, weight))


class LogLoss:
    """Mean cross-entropy in nats, probabilities kept 1e-7 from 0 and 1."""

    def __init__(self, label: Values, probability: Values) -> None:
        y, p = checked(label, probability, probability=True)
        p = np.clip(p, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
        self._loss = -(y * np.log(p) + (1 - y) * np.log1p(-p))

    def value(self, weight: FloatArray) -> float:
        """The mean loss, >= 0."""
        return ratio(float(weight @ self._loss), float(weight.sum()))


class Calibration:
    """Predicted positives over observed positives; 1 is right, above 1 too many."""

    def __init__(self, label: Values, probability: Values) -> None:
        self._label, self._probability = checked(label, probability, probability=True)

    def value(self, weight: FloatArray) -> float:
        """The ratio, >= 0; NaN without positives."""
        return ratio(float(weight @ self._probability), float(weight @ self._label))


@dataclass(frozen=True)
class Bins:
    """Weight, mean prediction and mean label of each bin that holds rows."""

    weight: FloatArray
    predicted: FloatArray
    observed: FloatArray


class Ece:
    """Expected calibration error over bins of equal mass (Naeini et al. 2015).

    Rows are binned by the middle of their place in score order, so that tied
    predictions share a bin and the order of the rows does not matter.
    """

    def __init__(self, label: Values, probability: Values, bins: int = 20) -> None:
        self._ranked = _Ranked(label, probability, descending=False, probability=True)
        self._bins = bins

    def bins(self, weight: FloatArray) -> Bins:
        """What is in each bin, lowest predictions first."""
        ranked = self._ranked
        sums = _bin_sums(ranked.order, ranked.label, ranked.score, weight, self._bins)
        total, predicted, observed = sums[:, sums[0] > 0]
        return Bins(total, predicted / total, observed / total)

    def value(self, weight: FloatArray) -> float:
        """The weighted mean gap between prediction and label, in [0, 1]."""
        bins = self.bins(weight)
        gap = np.abs(bins.predicted - bins.observed)
        return ratio(float(bins.weight @ gap), float(bins.weight.sum()))


def auc(label: Values, score: Values, weight: Values | None = None) -> float:
    """Area under the ROC curve; see `Auc`."""
    return Auc(label, score).value(_weights(label, weight))


def auc_pr(label: Values, score: Values, weight: Values | None = None) -> float:
    """Average precision; see `AucPr`."""
    return AucPr(label, score).value(_weights(label, weight))


def log_loss(label: Values, probability: Values, weight: Values | None = None) -> float:
    """Mean cross-entropy in nats; see `LogLoss`."""
    return LogLoss(label, probability).value(_weights(label, weight))


def calibration(label: Values, probability: Values, weight: Values | None = None) -> float:
    """Predicted over observed positives; see `Calibration`."""
    return Calibration(label, probability).value(_weights(label, weight))


def ece(label: Values, probability: Values, weight: Values | None = None, bins: int = 20) -> float:
    """Expected calibration error over equal-mass bins; see `Ece`."""
    return Ece(label, probability, bins).value(_weights(label, weight))


def reliability(label: Values, probability: Values, bins: int = 20) -> Bins:
    """The points of a reliability diagram, over the bins of `ece`."""
    return Ece(label, probability, bins).bins(_weights(label, None))


def err_gain(grade: Values, maximum: float) -> FloatArray:
    """Human grades as soft labels: (2^g - 1) / (2^maximum - 1), in [0, 1].

    The probability that a result satisfies, of expected reciprocal rank
    (Chapelle et al. 2009), scaled so that the highest grade is 1.

    Raises:
        DataError: a grade is outside [0, maximum].
    """
    grades = np.asarray(grade, np.float64)
    if not np.all((grades >= 0) & (grades <= maximum)):
        wrong = grades[~((grades >= 0) & (grades <= maximum))][0]
        raise DataError(f"grade={wrong}: expected 0 to {maximum}; set maximum_grade to the scale")
    return np.asarray((np.exp2(grades) - 1) / (np.exp2(maximum) - 1))


# The loops below are what a bootstrap spends its time in. In numpy each step
# would allocate arrays of all rows; compiled, a resample is one pass.


def _compiled(function: Function) -> Function:
    return cast(Function, njit(function, cache=True))


@_compiled
def _auc(order: IntArray, label: FloatArray, score: FloatArray, weight: FloatArray) -> float:
    won = below = positives = tied_positive = tied_negative = 0.0
    for place in range(order.size):
        if place and score[place] != score[place - 1]:
            won += tied_positive * (below + 0.5 * tied_negative)
            below += tied_negative
            positives += tied_positive
            tied_positive = tied_negative = 0.0
        mass = weight[order[place]]
        tied_positive += mass * label[place]
        tied_negative += mass * (1.0 - label[place])
    won += tied_positive * (below + 0.5 * tied_negative)
    pairs = (positives + tied_positive) * (below + tied_negative)
    return won / pairs if pairs > 0 else np.nan


@_compiled
def _average_precision(
    order: IntArray, label: FloatArray, score: FloatArray, weight: FloatArray
) -> float:
    area = shown = found = tied_positive = 0.0
    for place in range(order.size):
        mass = weight[order[place]]
        shown += mass
        tied_positive += mass * label[place]
        last_of_ties = place + 1 == order.size or score[place + 1] != score[place]
        if last_of_ties and shown > 0:
            found += tied_positive
            area += tied_positive * found / shown
            tied_positive = 0.0
    return area / found if found > 0 else np.nan


@_compiled
def _bin_sums(
    order: IntArray, label: FloatArray, score: FloatArray, weight: FloatArray, bins: int
) -> FloatArray:
    sums = np.zeros((3, bins))  # weight, weighted prediction, weighted label
    total = weight.sum()
    before = 0.0
    start = 0
    while start < order.size and total > 0:
        end, mass, positive = start, 0.0, 0.0
        while end < order.size and score[end] == score[start]:
            mass += weight[order[end]]
            positive += weight[order[end]] * label[end]
            end += 1
        place = min(int((before + 0.5 * mass) / total * bins), bins - 1)
        sums[0, place] += mass
        sums[1, place] += mass * score[start]
        sums[2, place] += positive
        before += mass
        start = end
    return sums


def _weights(label: Values, weight: Values | None) -> FloatArray:
    if weight is None:
        return np.ones(len(label))
    weights = np.asarray(weight, np.float64)
    if weights.shape != np.shape(label):
        raise DataError(f"weights {weights.shape} must have the labels' shape {np.shape(label)}")
    if not np.all(weights >= 0) or not np.isfinite(weights).all():
        raise DataError("weights must be finite and >= 0: drop or repair the rows that are not")
    return weights
