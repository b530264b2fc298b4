"""Paired bootstrap over groups: is the difference of two models more than luck?

Rows of one result page (or query) hang together, so whole groups are drawn
(cluster bootstrap, Field and Welsh 2007), and both models are judged on the
same draw, which removes what they have in common (paired). Metrics sort their
rows once; a draw only changes how often each row counts, so that a resample
costs O(rows).
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from heft.evaluation.metrics import FloatArray, IntArray, Metric
from heft.settings import Settings

__all__ = ["BootstrapSettings", "PairedDifference", "paired_bootstrap"]


class BootstrapSettings(Settings):
    """How intervals are made."""

    resamples: int = Field(default=500, ge=20, le=100_000)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    # Above this many rows x resamples, resamples are cut, down to the minimum.
    # Rows never are: an interval from fewer rows would be too wide.
    max_row_resamples: int = Field(default=200_000_000, ge=1)
    min_resamples: int = Field(default=100, ge=20)

    def resamples_for(self, rows: int) -> int:
        """How many resamples `rows` rows get."""
        allowed = max(self.min_resamples, self.max_row_resamples // max(rows, 1))
        return min(self.resamples, allowed)


@dataclass(frozen=True)
class PairedDifference:
    """One metric of two models; NaN where undefined.

    `low` and `high` bound the difference weighted - control at the confidence
    of the settings.
    """

    weighted: float
    control: float
    difference: float
    low: float
    high: float


def paired_bootstrap(
    pairs: Mapping[str, tuple[Metric, Metric]],
    codes: IntArray,
    settings: BootstrapSettings,
    name: str = "",
) -> dict[str, PairedDifference]:
    """Percentile intervals of the difference of each pair of metrics.

    Args:
        pairs: metrics of the weighted and of the control model, over the same rows.
        codes: the group of each row, integers from 0, shape (rows,); in key
            order, so that the order of the rows does not change the result.
        settings: resamples, confidence, seed.
        name: what is resampled; draws depend on it and on the seed.

    Returns:
        One difference for each name of `pairs`. The interval is NaN with fewer
        than two groups, or if the metric was undefined in more than one
        resample of ten.
    """
    whole = np.ones(codes.size)
    values = {key: (a.value(whole), b.value(whole)) for key, (a, b) in pairs.items()}
    drawn = _resampled(pairs, codes, settings, name)
    tail = (1 - settings.confidence) / 2
    result = {}
    for key, (weighted, control) in values.items():
        low, high = _interval(drawn[key], tail)
        result[key] = PairedDifference(weighted, control, weighted - control, low, high)
    return result


def _resampled(
    pairs: Mapping[str, tuple[Metric, Metric]],
    codes: IntArray,
    settings: BootstrapSettings,
    name: str,
) -> dict[str, FloatArray]:
    groups = int(codes.max()) + 1 if codes.size else 0
    if groups < 2:
        return {key: np.empty(0) for key in pairs}
    rng = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
    resamples = settings.resamples_for(codes.size)
    differences = {key: np.empty(resamples) for key in pairs}
    for index in range(resamples):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        weight = times.astype(np.float64)[codes]
        for key, (weighted, control) in pairs.items():
            differences[key][index] = weighted.value(weight) - control.value(weight)
    return differences


def _interval(differences: FloatArray, tail: float) -> tuple[float, float]:
    defined = differences[np.isfinite(differences)]
    if not defined.size or defined.size < 0.9 * differences.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
