"""The last pass: shards again, each row with its weights beside it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heft import features as f
from heft.examples import Feature, write_columns
from heft.importance.fitting import Debias
from heft.importance.gather import FEATURES, Block, Shard, load_block, shard_blocks
from heft.importance.rows import importance_data
from heft.importance.scoring import Scored, TaskColumns, WeightedBlock
from heft.importance.settings import ImportanceSettings
from heft.importance.summary import Extreme, extremes, histogram, merge_extremes, sample_facts
from heft.passes import Passes

__all__ = ["Part", "Written", "parts_of", "publish", "write_train", "write_tune"]

Array = np.ndarray
Columns = dict[str, Array]


@dataclass(frozen=True)
class Part:
    """A shard and its blocks.

    Attributes:
        first: number of its first block in the split.
        row: number of its first row in the split.
    """

    shard: Shard
    blocks: tuple[Block, ...]
    first: int
    row: int


@dataclass(frozen=True)
class Written:
    """What was seen while a shard was written.

    Attributes:
        counts: (2, bins) by task, see `histogram`.
        extremes: heaviest and lightest rows of the click task.
    """

    counts: dict[str, Array]
    extremes: dict[str, list[Extreme]]


@dataclass(frozen=True)
class _Write:
    """What the pass carries; of `train` or of `tune`, by which of the last two is there."""

    folder: str
    total: int
    features: list[Feature]
    settings: ImportanceSettings
    tasks: dict[str, TaskColumns] | None = None
    edges: dict[str, Array] | None = None
    by_mass: bool = True
    tune: dict[str, Debias] | None = None


def parts_of(shards: Sequence[Shard], blocks: Sequence[Sequence[Block]]) -> list[Part]:
    """Shards with their blocks, numbered through."""
    parts = []
    first = row = 0
    for shard, own in zip(shards, blocks, strict=True):
        parts.append(Part(shard, tuple(own), first, row))
        first += len(own)
        row += sum(block.rows for block in own)
    return parts


def write_train(
    passes: Passes,
    parts: Sequence[Part],
    folder: str,
    features: list[Feature],
    scored: Scored,
    edges: dict[str, Array],
    by_mass: bool,
) -> list[Written]:
    """Writes the weighted train split, one file for each block of a shard."""
    work = _Write(folder, _total(parts), features, scored.settings, scored.tasks, edges, by_mass)
    return passes.run("write train", _write, parts, _sizes(parts), work)


def write_tune(
    passes: Passes,
    parts: Sequence[Part],
    folder: str,
    features: list[Feature],
    settings: ImportanceSettings,
    fitted: dict[str, Debias],
) -> None:
    """Writes the tune split with its pairs."""
    work = _Write(folder, _total(parts), features, settings, tune=fitted)
    passes.run("write tune", _write, parts, _sizes(parts), work)


def publish(staged: Path, uri: str) -> None:
    """Moves a whole folder to where it is looked for, in place of what was there."""
    target = Path(uri)
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(staged, target)


def _total(parts: Sequence[Part]) -> int:
    return sum(len(part.blocks) for part in parts)


def _sizes(parts: Sequence[Part]) -> list[int]:
    return [sum(block.rows for block in part.blocks) for part in parts]


def _write(work: _Write, part: Part) -> Written:
    counts = {task: np.zeros((2, len(e) - 1), np.int64) for task, e in (work.edges or {}).items()}
    ends: dict[str, list[Extreme]] = {"heaviest": [], "lightest": []}
    row = part.row
    columns_of = shard_blocks(part.shard, work.features)
    for number, (block, columns) in enumerate(zip(part.blocks, columns_of, strict=True)):
        if work.settings.propensity != "logged":
            columns.pop(f.PROPENSITY, None)
        columns |= _added(work, block)
        name = f"weighted-{part.first + number:05d}-of-{work.total:05d}.gz"
        write_columns(columns, Path(work.folder) / name)
        for task, edges in (work.edges or {}).items():
            positive = columns[f.positive_weight(task)]
            counts[task] += histogram(positive, columns[f.label_of(task)], edges)
        if work.tasks is not None:
            ends = merge_extremes([ends, _extremes(columns, work, row)], work.settings.samples)
        row += block.rows
    return Written(counts, ends)


def _added(work: _Write, block: Block) -> Columns:
    if work.tasks is not None:
        return WeightedBlock.load(block, work.tasks).columns
    kept = load_block(block.path)
    features = kept.pop(FEATURES)
    added: Columns = {}
    for task, fitted in (work.tune or {}).items():
        pairs = fitted.pairs(importance_data(kept, features, task, work.settings))
        pairs = np.asarray(pairs, np.float32)
        added |= {f.positive_weight(task): pairs[:, 0], f.negative_weight(task): pairs[:, 1]}
    return added


def _extremes(columns: Columns, work: _Write, first: int) -> dict[str, list[Extreme]]:
    """The heaviest and lightest rows of a block."""
    value = columns[f.positive_weight(f.CTR)].astype(np.float64)
    if work.by_mass:
        value = np.abs(value) + np.abs(columns[f.negative_weight(f.CTR)].astype(np.float64))
    pair = columns[f.QUERY_ID] * 2**32 + columns[f.TITLE_ID]
    scores = work.tasks[f.CTR].scores if work.tasks else []
    return {
        name: [Extreme(v, first + k, p, sample_facts(columns, k, f.CTR, scores)) for v, k, p in own]
        for name, own in extremes(value, pair, work.settings.samples).items()
    }
