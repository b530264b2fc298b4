"""Transformed shards as blocks: what estimators read of each row, in columns on disk.

A block is part of one shard, so that neither the number of rows nor the size
of a shard sets how much memory a pass takes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from heft import features as f
from heft.examples import Feature, iterate_columns
from heft.importance.settings import ImportanceSettings
from heft.model.interaction import TextInteraction
from heft.text.links import PairLinks
from heft.text.table import TextTable

__all__ = [
    "BLOCK_ROWS",
    "FEATURES",
    "HASHES",
    "Block",
    "Gather",
    "Shard",
    "gather",
    "hash_of",
    "load_block",
    "load_hashes",
    "proxy_features",
    "shard_blocks",
]

Array = np.ndarray
Columns = dict[str, Array]

BLOCK_ROWS = 100_000
HASHES = 4096
FEATURES = "features"
_KEPT = (
    f.REQUEST_KEY, f.QUERY_ID, f.TITLE_ID, f.POSITION, f.CLICK, f.CONVERSION, f.USER_KEY,
    f.TIMESTAMP, f.CLICK_DELAY, f.CONVERSION_DELAY, f.OBSERVATION, f.RANDOMISED,
    f.SAMPLING,
)  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """One input file, `number` in its split, and how large it is."""

    split: str
    number: int
    path: str
    bytes: int


@dataclass(frozen=True)
class Block:
    """Facts of up to `BLOCK_ROWS` consecutive rows of a shard; they add up over blocks.

    Attributes:
        path: the file of its columns.
        rows: how many.
        positives: by task.
        unlogged: rows without a logged propensity.
        latest: the largest timestamp, 0 if there is none.
    """

    path: str
    rows: int
    positives: dict[str, int]
    unlogged: int
    latest: int


@dataclass(frozen=True)
class Gather:
    """What `gather` needs beside a shard: where tables are, what to read, where to write.

    Without `links_uri` there is no column `spoken`; with it the train split has one.
    """

    folder: str
    table_uri: str
    features: list[Feature]
    settings: ImportanceSettings
    with_features: tuple[str, ...]
    links_uri: str | None = None


def gather(work: Gather, shard: Shard) -> list[Block]:
    """Writes the blocks of a shard and returns their facts.

    Time O(rows · features), the text part once per distinct pair of a block;
    memory: a few blocks of `BLOCK_ROWS` rows.
    """
    table = TextTable.load(work.table_uri) if shard.split in work.with_features else None
    links = PairLinks.load(work.links_uri) if work.links_uri and shard.split == f.TRAIN else None
    names = [feature.name for feature in work.features]
    found = []
    hashes = np.zeros(HASHES, np.int64)
    for number, columns in enumerate(shard_blocks(shard, work.features)):
        kept = _kept(columns, work.settings)
        rows = len(columns[f.CLICK])
        kept[FEATURES] = (
            np.zeros((rows, 0), np.float32)
            if table is None
            else proxy_features(columns, table, names)
        )
        if links is not None:
            cosine = kept[FEATURES][:, 0]
            kept[f.SPOKEN] = links.of(kept[f.QUERY_ID], kept[f.TITLE_ID], cosine)
        path = f"{work.folder}/{shard.split}-{shard.number:05d}-{number:05d}.npz"
        np.savez(path, **kept)  # type: ignore[arg-type]
        found.append(_facts(path, kept))
        hashes += np.bincount(hash_of(kept[f.REQUEST_KEY]), minlength=HASHES)
    np.save(_hashes(work.folder, shard), hashes)
    return found


def load_hashes(folder: str, shards: Iterable[Shard]) -> Array:
    """(HASHES,) int64, rows of gathered shards by hash of their request."""
    total = np.zeros(HASHES, np.int64)
    for shard in shards:
        total += np.load(_hashes(folder, shard))
    return total


def shard_blocks(shard: Shard, features: list[Feature]) -> Iterator[Columns]:
    """The columns of a shard, `BLOCK_ROWS` rows at a time; once, and empty, if it is empty."""
    empty = True
    for columns in iterate_columns([shard.path], features, BLOCK_ROWS):
        empty = False
        yield columns
    if empty:
        yield {feature.name: feature.empty() for feature in features}


def load_block(path: str) -> Columns:
    """The columns of a block and its proxy features, (rows, d)."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def hash_of(request: Array) -> Array:
    """(n,) in [0, HASHES): the same for all rows of a request, whatever the data.

    Other bits than those that deal requests to folds.
    """
    key = np.asarray(request).astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (key >> np.uint64(52)).astype(np.int64)


def proxy_features(columns: Columns, table: TextTable, names: list[str]) -> Array:
    """(n, d) float32: text interaction, lexical features and z-scores of each row.

    The first column is the cosine of query and title. The text part is computed
    once per distinct query and title pair.
    """
    dense = [n for n in names if n in f.LEXICAL or n.endswith("_z")]
    pairs = np.stack([columns[f.QUERY_ID], columns[f.TITLE_ID]], axis=1)
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    interaction = TextInteraction.from_reduction(table.reduction)
    parts = [
        np.asarray(
            interaction([_rows(table.queries, chunk[:, 0]), _rows(table.titles, chunk[:, 1])])
        )
        for chunk in np.array_split(distinct, max(1, len(distinct) // 16_384))
    ]
    text = np.concatenate(parts)[index.ravel()]
    return np.concatenate([text, *(columns[name][:, None] for name in dense)], axis=1).astype(
        np.float32
    )


def _rows(matrix: Array, ids: Array) -> Array:
    """Rows of an embedding matrix; zeros for an id out of vocabulary."""
    return np.where((ids >= 0)[:, None], matrix[np.maximum(ids, 0)], 0).astype(np.float32)


def _hashes(folder: str, shard: Shard) -> str:
    return f"{folder}/{shard.split}-{shard.number:05d}.hashes.npy"


def _kept(columns: Columns, settings: ImportanceSettings) -> Columns:
    named = [n for n in (settings.slice_column, settings.protected_column) if n is not None]
    wanted = [*_KEPT, *(f.categorical_id(name) for name in named)]
    if settings.propensity == "logged":
        wanted.append(f.PROPENSITY)
    return {name: columns[name] for name in wanted if name in columns}


def _facts(path: str, columns: Columns) -> Block:
    rows = len(columns[f.CLICK])
    logged = columns.get(f.PROPENSITY, np.zeros(rows))
    return Block(
        path=path,
        rows=rows,
        positives={task: int(columns[f.label_of(task)].sum()) for task in f.TASKS},
        unlogged=int((~(np.nan_to_num(logged) != 0)).sum()),
        latest=int(columns[f.TIMESTAMP].max()) if f.TIMESTAMP in columns and rows else 0,
    )
