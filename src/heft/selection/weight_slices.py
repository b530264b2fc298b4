"""How weights are spread in each slice of the training rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.selection.rows import SampledRows

__all__ = ["SLICES_FILE", "WeightSlice", "WeightSlices", "weigh_slices"]

SLICES_FILE = "weight_slices.json"
POINTS = (0.1, 0.5, 0.9)
_MOST = 12  # values of a column

Array = np.ndarray


@dataclass(frozen=True)
class WeightSlice:
    """The rows with one value in one column, as samples of clicks.

    Attributes:
        column, value: of the slice; of `position` the rank on the page.
        rows: of the sample.
        clicks: among them.
        mean: of the mass of a row, |w⁺| + |w⁻|, relative to that of all rows.
        quantiles: of the mass at `POINTS`.
        ess: effective sample size, (Σw)² / Σw², as a share of the rows.
    """

    column: str
    value: str
    rows: int
    clicks: int
    mean: float
    quantiles: tuple[float, ...]
    ess: float


@dataclass(frozen=True)
class WeightSlices:
    """The slices, the largest of each column first, and rows they are from."""

    slices: tuple[WeightSlice, ...]
    rows: int

    def save(self, uri: str) -> None:
        """Writes `weight_slices.json` into the folder `uri`."""
        tf.io.gfile.makedirs(uri)
        with tf.io.gfile.GFile(f"{uri}/{SLICES_FILE}", "w") as file:
            file.write(json.dumps(asdict(self)))

    @classmethod
    def load(cls, uri: str) -> "WeightSlices | None":
        """Reads what `save` wrote; None where there is nothing."""
        path = f"{uri}/{SLICES_FILE}"
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            facts: dict[str, Any] = json.loads(file.read())
        slices = [WeightSlice(**x | {"quantiles": tuple(x["quantiles"])}) for x in facts["slices"]]
        return cls(tuple(slices), facts["rows"])


def weigh_slices(
    sampled: SampledRows, columns: Sequence[str], names: Mapping[str, Sequence[str]]
) -> WeightSlices:
    """Weights of clicks by the values of categorical columns, and by position.

    Args:
        sampled: ids of the columns, click labels and weight pairs; position if there is one.
        columns: categorical columns, as logged.
        names: the values of each by id; further ids are "other".
    """
    rows = sampled.columns
    mass = sum(
        np.abs(rows[w(f.CTR)].astype(np.float64)) for w in (f.positive_weight, f.negative_weight)
    )
    assert isinstance(mass, np.ndarray)
    found = []
    if f.POSITION in rows:
        position = rows[f.POSITION].astype(np.int64)
        places = [str(place) for place in range(int(position.max(initial=0)) + 1)]
        found += _of_column(f.POSITION, position, places, mass, rows[f.CLICK])
        found.sort(key=lambda x: int(x.value))
    for name in columns:
        ids = rows[f.categorical_id(name)].astype(np.int64)
        found += _of_column(name, ids, names.get(name, ()), mass, rows[f.CLICK])
    return WeightSlices(tuple(found), len(mass))


def _of_column(
    column: str, ids: Array, names: Sequence[str], mass: Array, click: Array
) -> list[WeightSlice]:
    whole = float(mass.mean()) or 1.0
    values, counts = np.unique(ids, return_counts=True)
    found = []
    for k in np.argsort(-counts, kind="stable")[:_MOST]:
        value, own = int(values[k]), mass[ids == values[k]]
        square = float(own @ own)
        found.append(
            WeightSlice(
                column=column,
                value=names[value] if 0 <= value < len(names) else "other",
                rows=int(counts[k]),
                clicks=int(click[ids == values[k]].sum()),
                mean=round(float(own.mean()) / whole, 4),
                quantiles=tuple(np.quantile(own, POINTS).round(4).tolist()),
                ess=round(float(own.sum()) ** 2 / square / len(own), 4) if square else 0.0,
            )
        )
    return found
