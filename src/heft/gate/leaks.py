"""Columns that know the label too well to have been there before it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from heft import features as f
from heft.examples import Feature, iterate_columns
from heft.gate.anomaly import Anomaly, said
from heft.gate.offences import is_there
from heft.gate.settings import LeakSettings

__all__ = ["KnownLabel", "column_auc", "leaks", "measure_columns"]

_BINS = 32
_NUMBERS_IN_MEMORY = 20_000_000  # of the sample
LABELS = {f.CTR: (f.CLICK, "clicks"), f.CVR: (f.CONVERSION, "conversions")}

Array = np.ndarray
Columns = dict[str, Array]


@dataclass(frozen=True)
class KnownLabel:
    """How well one column alone tells a label.

    Attributes:
        feature: column; of a vector its best number, such as `image[7]`.
        task: `ctr` or `cvr`.
        auc: in [0.5, 1].
        rows, positives: looked at.
        examples: values that go with positives, where the column is suspicious.
    """

    feature: str
    task: str
    auc: float
    rows: int
    positives: int
    examples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `gate.json`."""
        return asdict(self)


def column_auc(values: Array, label: Array) -> float:
    """The best AUC that one column alone gives, in [0.5, 1].

    A number counts by its rank, up or down, with absent ones at either end; any column counts
    also by the share of positives among equal values, or numbers of one of 32 bins, as seen in
    the other half of the rows, so that a column with a value for each row knows nothing.

    Args:
        values: (rows,) float with NaN where absent, int, or bytes.
        label: (rows,) bool, with rows of both kinds.
    """
    if values.dtype.kind == "f":
        absent = np.isnan(values)
        ends = (-np.inf, np.inf) if absent.any() else (0.0,)
        by_rank = [_auc(np.where(absent, end, values), label) for end in ends]
        best = max(max(auc, 1 - auc) for auc in by_rank)
        return max(best, _auc(_share_elsewhere(_binned(values, absent), label), label))
    _, codes = np.unique(values, return_inverse=True)
    return max(0.5, _auc(_share_elsewhere(codes, label), label))


def _auc(score: Array, label: Array) -> float:
    return float(_auc_of_ranks(rankdata(score), label))


def _auc_of_ranks(ranks: Array, label: Array) -> Array:
    """Mann & Whitney's U over its largest value; ties count half. (rows,) or (rows, d) ranks."""
    positives = int(label.sum())
    above = ranks[label].sum(axis=0) - positives * (positives + 1) / 2
    area: Array = above / (positives * (len(label) - positives))
    return area


def _binned(values: Array, absent: Array) -> Array:
    ranks = rankdata(np.where(absent, np.inf, values), method="min") - 1
    bins = np.floor(ranks * _BINS / len(values)).astype(np.int64)
    return np.where(absent, _BINS, bins)


def _share_elsewhere(codes: Array, label: Array) -> Array:
    """Of positives among rows of the same code in the other half, drawn to the mean of all."""
    score = np.empty(len(codes))
    half = np.random.default_rng(0).random(len(codes)) < 0.5
    size, mean = int(codes.max(initial=0)) + 1, label.mean()
    for own in (half, ~half):
        rows = np.bincount(codes[~own], minlength=size)
        positives = np.bincount(codes[~own], label[~own], size)
        score[own] = ((positives + mean) / (rows + 1))[codes[own]]
    return score


def measure_columns(
    shards: Sequence[str],
    rows: int,
    columns: Sequence[Feature],
    settings: LeakSettings,
    pii: Collection[str] = (),
    examples: int = 3,
) -> list[KnownLabel]:
    """Every column and label, the closest first; labels with too few positives are left out.

    Args:
        shards: of the train split.
        rows: that they have; of more than are asked for every so many'th is read.
        columns: that the model sees; a wide one counts by its single numbers.
        settings: see there.
        pii: columns whose values are not shown.
        examples: values to show.
    """
    width = sum(max(column.width, 1) for column in columns) + len(LABELS)
    most = max(1, min(settings.rows, _NUMBERS_IN_MEMORY // width))
    sample = _sampled(shards, columns, -(-rows // most))
    labels = {
        task: label
        for task, (name, _) in LABELS.items()
        for label in [sample[name] == 1]
        if settings.minimum_positives <= label.sum() < len(label)
    }
    found = []
    for column in columns:
        values = sample[column.name]
        for task, (which, auc) in _best(column.name, values, labels).items():
            shown: tuple[str, ...] = ()
            if auc >= settings.suspicious_auc:
                shown = said(column.name, _of_positives(values, labels[task], examples), pii)
            positives = int(labels[task].sum())
            found.append(KnownLabel(which, task, auc, len(values), positives, shown))
    return sorted(found, key=lambda one: (-one.auc, one.feature, one.task))


def _sampled(shards: Sequence[str], columns: Sequence[Feature], every: int) -> Columns:
    wanted = [*columns, Feature(f.CLICK, int, 0), Feature(f.CONVERSION, int, 0)]
    parts: list[Columns] = []
    seen = 0
    for batch in iterate_columns(shards, wanted):
        first = -seen % every
        seen += len(batch[f.CLICK])
        parts.append({name: values[first::every] for name, values in batch.items()})
    if not parts:
        return {feature.name: feature.empty() for feature in wanted}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _best(name: str, values: Array, labels: Mapping[str, Array]) -> dict[str, tuple[str, float]]:
    """By task the column, or its best number, and its AUC."""
    if values.ndim == 1:
        return {task: (name, column_auc(values, label)) for task, label in labels.items()}
    # By rank alone: there may be thousands of numbers.
    ranks = rankdata(np.where(np.isnan(values), -np.inf, values), axis=0)
    found = {}
    for task, label in labels.items():
        aucs = _auc_of_ranks(ranks, label)
        aucs = np.maximum(aucs, 1 - aucs)
        best = int(np.argmax(aucs))
        found[task] = (f"{name}[{best}]", float(aucs[best]))
    return found


def _of_positives(values: Array, label: Array, most: int) -> list[object]:
    """The values most common among positives; numbers of a list are nothing to look at."""
    if values.ndim > 1:
        return []
    there = values[label & is_there(values)]
    distinct, counts = np.unique(there, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [value if isinstance(value, bytes) else f"{value:g}" for value in distinct[order]]


def leaks(known: Sequence[KnownLabel], settings: LeakSettings) -> list[Anomaly]:
    """Columns that are suspiciously close to a label."""
    return [
        Anomaly(
            f.TRAIN,
            one.feature,
            "label leak",
            f"AUC of {LABELS[one.task][1]} by this column alone below {settings.suspicious_auc:g}",
            f"{one.auc:.4f}, with {one.positives:,} {LABELS[one.task][1]}",
            one.rows,
            one.examples,
        )
        for one in known
        if one.auc >= settings.suspicious_auc
    ]
