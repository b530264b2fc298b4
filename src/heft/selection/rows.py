"""A sample of training rows that does not depend on how they lie in shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.errors import DataError
from heft.examples import Feature, iterate_columns
from heft.passes import Passes

__all__ = ["SampledRows", "sample_rows"]

Array = np.ndarray
Columns = dict[str, Array]

_KEY = "#key"
_ROWS_AT_ONCE = 65_536
_KEYED_BY = (f.REQUEST_KEY, f.QUERY_ID, f.TITLE_ID, f.POSITION, f.TIMESTAMP)


@dataclass(frozen=True)
class SampledRows:
    """Columns of the rows that were drawn, of `of` there are."""

    columns: Columns
    of: int

    @property
    def rows(self) -> int:
        """How many were drawn."""
        return len(self.columns[f.CLICK])


def sample_rows(
    passes: Passes, shards: Sequence[str], features: Sequence[Feature], most: int, seed: int
) -> SampledRows:
    """The `most` rows whose hash is least, in the order of their hash.

    Each shard gives its own least rows, so that memory is that of 2 · `most` rows
    however many there are.

    Args:
        passes: to run on.
        shards: of the weighted train split.
        features: the columns wanted; the label of clicks among them.
        most: at least 1.
        seed: another one draws other rows.

    Raises:
        DataError: there is no row.
    """
    read = {feature.name: feature for feature in features}
    for name in _KEYED_BY:
        read.setdefault(name, Feature(name, int, f.OOV))
    sizes = [int(tf.io.gfile.stat(path).length) for path in shards]
    work = _Work(str(passes.folder), tuple(read.values()), most, seed)
    found = passes.run("sample", _of_shard, list(enumerate(shards)), sizes, work, unit="bytes")
    kept: Columns = {}
    for path, _ in found:
        with np.load(path, allow_pickle=False) as stored:
            kept = _least(kept, {name: stored[name] for name in stored.files}, most)
    rows = sum(count for _, count in found)
    if not rows:
        raise DataError(
            f"0 rows in {len(shards)} shards of the train split: expected weighted impressions; "
            "check the split shares of the logs"
        )
    kept.pop(_KEY)
    return SampledRows({feature.name: kept[feature.name] for feature in features}, rows)


@dataclass(frozen=True)
class _Work:
    folder: str
    features: tuple[Feature, ...]
    most: int
    seed: int


def _of_shard(work: _Work, element: tuple[int, str]) -> tuple[str, int]:
    number, path = element
    kept: Columns = {feature.name: feature.empty() for feature in work.features}
    kept[_KEY] = np.empty(0, np.uint64)
    rows = 0
    for columns in iterate_columns([path], work.features, _ROWS_AT_ONCE):
        rows += len(columns[f.CLICK])
        kept = _least(kept, columns | {_KEY: _keys(columns, work.seed)}, work.most)
    stored = Path(work.folder) / f"sampled-{number:05d}.npz"
    np.savez(stored, **kept)  # type: ignore[arg-type]
    return str(stored), rows


def _least(kept: Columns, new: Columns, most: int) -> Columns:
    """The rows of both with the least keys, by key; equal keys are equal rows to any purpose."""
    both = {n: np.concatenate([kept[n], x]) if kept else x for n, x in new.items()}
    order = np.argsort(both[_KEY], kind="stable")[:most]
    return {name: values[order] for name, values in both.items()}


def _keys(columns: Columns, seed: int) -> Array:
    """(n,) uint64, SplitMix64 over what tells rows apart."""
    key = np.full(len(columns[f.CLICK]), seed, np.uint64)
    for name in _KEYED_BY:
        key = key ^ columns[name].astype(np.int64).view(np.uint64)
        key = key + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return key
