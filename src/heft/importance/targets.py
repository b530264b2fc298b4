"""What rows pull a network towards, from labels or from weight pairs."""

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.stacked import Targets

__all__ = ["base_rates", "check_labels", "targets_of"]

Array = np.ndarray

_LEAST = 5  # rows of the rarer label without which a network stays at the base rate


def targets_of(data: ImportanceData, pairs: Array | None = None) -> Targets:
    """(y, 1 − y) and `observed`; or the pairs, of which nothing is hidden.

    Raises:
        DataError: pairs of another shape or not finite.
    """
    if pairs is None:
        label = data.label.astype(np.float32)
        return Targets(label, 1 - label, data.observation())
    if np.shape(pairs) != (len(data), 2):
        raise DataError(f"pairs has the shape {np.shape(pairs)}: expected ({len(data)}, 2)")
    if not np.isfinite(pairs).all():
        row = int(np.flatnonzero(~np.isfinite(pairs).all(axis=1))[0])
        raise DataError(f"pairs={pairs[row].tolist()} in row {row}: expected finite numbers")
    positive, negative = np.ascontiguousarray(pairs.T, np.float32)
    return Targets(positive, negative, np.ones(len(data), np.float32))


def base_rates(targets: Targets, fold: Array, folds: int) -> tuple[float, Array, Array]:
    """Of all rows; (K,) of the rows outside each fold; (K,) whether it is all they can teach."""

    def outside(values: Array) -> Array:
        inside = np.bincount(fold, values, minlength=folds)
        return inside.sum() - inside

    positive = targets.positive.astype(np.float64)
    # Σw⁺ positives of the Σ(w⁺ + θw⁻) rows that could have shown one.
    shown = positive * targets.observed + targets.observed * targets.negative
    least = np.minimum(outside(targets.positive != 0), outside(targets.negative != 0))
    rates = (outside(positive) + 1) / np.maximum(outside(shown) + 2, 1e-9)
    overall = (positive.sum() + 1) / max(shown.sum() + 2, 1e-9)
    return float(np.clip(overall, 1e-6, 1 - 1e-6)), rates, least < _LEAST


def check_labels(targets: Targets) -> None:
    """Raises DataError unless there are rows of both labels."""
    rows = len(targets.positive)
    if not rows:
        raise DataError("received 0 rows: expected samples of both labels to fit on")
    for value, weight in ((0, targets.positive), (1, targets.negative)):
        if not weight.any():
            raise DataError(
                f"all {rows} labels are {value}: expected both 0 and 1 to score samples; use more "
                "data or drop the estimator for this task"
            )
