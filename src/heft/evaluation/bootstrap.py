"""Paired bootstrap over groups: is the difference of two models more than luck?

Rows of one result page (or query) hang together, so whole groups are drawn
(cluster bootstrap, Field and Welsh 2007), and all models are judged on the
same draw, which removes what they have in common (paired). Metrics sort their
rows once; a draw only changes how often each row counts, so that a resample
costs O(rows).
"""

import math
import zlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pydantic import Field

from heft.evaluation.metrics import FloatArray, IntArray, Metric
from heft.settings import Settings

__all__ = [
    "BootstrapSettings", "Drawn", "PairedDifference", "draw_metrics", "interval_of",
    "paired_bootstrap", "resamples",
]  # fmt: skip

Key = TypeVar("Key", bound=Hashable)


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


@dataclass(frozen=True)
class Drawn:
    """One metric of one model: its value, and those of the resamples, (resamples,)."""

    value: float
    resampled: FloatArray


def draw_metrics(
    metrics: Mapping[Key, Metric], codes: IntArray, settings: BootstrapSettings, name: str = ""
) -> dict[Key, Drawn]:
    """Each metric on the same resamples of groups.

    Args:
        metrics: over the same rows.
        codes: the group of each row, integers from 0, shape (rows,); in key
            order, so that the order of the rows does not change the result.
        settings: resamples, seed.
        name: what is resampled; draws depend on it and on the seed.

    Returns:
        By name; without resamples if there are fewer than two groups.
    """
    whole = np.ones(codes.size)
    found: dict[Key, list[float]] = {key: [] for key in metrics}
    for weight in resamples(codes, settings, name):
        for key, metric in metrics.items():
            found[key].append(metric.value(weight))
    return {
        key: Drawn(metric.value(whole), np.array(found[key])) for key, metric in metrics.items()
    }


def resamples(codes: IntArray, settings: BootstrapSettings, name: str) -> Iterator[FloatArray]:
    """How often each row counts, (rows,), resample by resample; none of fewer than two groups."""
    groups = int(codes.max()) + 1 if codes.size else 0
    if groups < 2:
        return
    rng = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
    for _ in range(settings.resamples_for(codes.size)):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        yield times.astype(np.float64)[codes]


def interval_of(resampled: FloatArray, confidence: float) -> tuple[float, float]:
    """The percentile interval; NaN if more than one resample of ten is undefined, or all are."""
    defined = resampled[np.isfinite(resampled)]
    if not defined.size or defined.size < 0.9 * resampled.size:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def paired_bootstrap(
    pairs: Mapping[str, tuple[Metric, Metric]],
    codes: IntArray,
    settings: BootstrapSettings,
    name: str = "",
) -> dict[str, PairedDifference]:
    """Percentile intervals of the difference of each pair of metrics.

    Args:
        pairs: metrics of the weighted and of the control model, over the same rows.
        codes, settings, name: as of `draw_metrics`.

    Returns:
        One difference for each name of `pairs`. The interval is NaN with fewer
        than two groups, or if the metric was undefined in more than one
        resample of ten.
    """
    flat = {(side, key): pair[side] for key, pair in pairs.items() for side in (0, 1)}
    drawn = draw_metrics(flat, codes, settings, name)
    result = {}
    for key in pairs:
        weighted, control = drawn[0, key], drawn[1, key]
        low, high = interval_of(weighted.resampled - control.resampled, settings.confidence)
        difference = weighted.value - control.value
        result[key] = PairedDifference(weighted.value, control.value, difference, low, high)
    return result
