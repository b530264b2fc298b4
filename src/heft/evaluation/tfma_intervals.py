"""Intervals of TFMA's metrics, from whole groups left out one at a time."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy import stats
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.metrics import metric_types

from heft.evaluation.metrics import FloatArray, Metric
from heft.evaluation.tfma_rows import GROUPS, ROWS_KEY, SliceRows

__all__ = ["Jackknife", "PutBound", "PutInterval", "jackknife_interval", "replicates_key"]

Key: TypeAlias = metric_types.MetricKey
Values = dict[Key, Any]

# With fewer groups that hold rows a jackknife says nothing.
_FEWEST_GROUPS = 10


def replicates_key(key: Key) -> Key:
    """Under which a metric has its value and that without each group, (1 + GROUPS,)."""
    return key._replace(name=f"_{key.name}_replicates")


def jackknife_interval(replicates: FloatArray) -> types.ValueWithTDistribution | None:
    """A value with its standard error; None where there is none.

    Args:
        replicates: (1 + GROUPS,) the value, and that without each group.
    """
    point, without = float(replicates[0]), replicates[1:]
    if not np.isfinite(replicates).all():
        return None
    spread = float(np.sum((without - without.mean()) ** 2))
    error = math.sqrt((GROUPS - 1) / GROUPS * spread)
    return types.ValueWithTDistribution(point, error, GROUPS - 1, point)


class Jackknife:
    """Value and replicates of one key.

    Args:
        key: of a metric of one model and output.
        build: makes the metric from labels, scores and groups, (rows,) each.
        by_user: groups are users and not requests.
    """

    def __init__(self, key: Key, build: Callable[..., Metric], by_user: bool) -> None:
        self._key, self._build, self._by_user = key, build, by_user

    def replicates(self, values: Values) -> Values:
        """For TFMA: the value, and that without each group."""
        rows: SliceRows = values[ROWS_KEY]
        return {replicates_key(self._key): self._computed(rows)}

    def point(self, values: Values) -> Values:
        """For TFMA: the value."""
        return {self._key: float(values[replicates_key(self._key)][0])}

    def _computed(self, rows: SliceRows) -> FloatArray:
        kept = rows.known_users if self._by_user else np.ones(len(rows.packed), bool)
        ids = (rows.user if self._by_user else rows.request)[kept]
        found = np.full(1 + GROUPS, np.nan)
        if not ids.size:
            return found
        metric = self._build(
            rows.label(self._key.output_name)[kept],
            rows.prediction(self._key.model_name, self._key.output_name)[kept],
            ids,
        )
        found[0] = metric.value(np.ones(ids.size))
        group = (ids % np.uint64(GROUPS)).astype(np.int64)
        if np.count_nonzero(np.bincount(group, minlength=GROUPS)) >= _FEWEST_GROUPS:
            for left_out in range(GROUPS):
                found[1 + left_out] = metric.value((group != left_out).astype(np.float64))
        return found


class PutInterval:
    """Puts the interval beside a value, and beside its difference from the baseline's."""

    def __init__(self, key: Key, baseline: str | None) -> None:
        self._key, self._baseline = key, baseline

    def result(self, values: Values) -> Values:
        """For TFMA."""
        own = values[replicates_key(self._key)]
        found = {self._key: jackknife_interval(own)}
        difference = self._key.make_diff_key()
        if self._baseline is not None and difference in values:
            other = self._key.make_baseline_key(self._baseline)
            found[difference] = jackknife_interval(own - values[replicates_key(other)])
        return {key: value for key, value in found.items() if value is not None}


class PutBound:
    """One end of a one-sided interval."""

    def __init__(self, key: Key, of: str, most: bool, confidence: float) -> None:
        self._key, self._of = key, key._replace(name=of)
        self._steps = stats.t.ppf(confidence, GROUPS - 1) * (1 if most else -1)

    def result(self, values: Values) -> Values:
        """For TFMA."""
        found = jackknife_interval(values[replicates_key(self._of)])
        if found is None:
            return {self._key: math.copysign(math.inf, self._steps)}
        return {self._key: found.sample_mean + self._steps * found.sample_standard_deviation}
