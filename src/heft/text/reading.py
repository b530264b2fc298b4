"""PairReader's work: the pairs of a train split, by traffic, read together by BERT."""

import logging
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.examples import Feature, iterate_columns, shard_paths
from heft.passes import MakePipeline, Passes, local_pipeline
from heft.text.attention import PairAttention
from heft.text.checkpoint import find_checkpoint, fingerprint
from heft.text.encoder import load_encoder
from heft.text.links import PairLinks, Prediction, pair_keys, pair_of
from heft.text.settings import TextSettings
from heft.text.similarity import cosine_similarity
from heft.text.table import TextTable

__all__ = ["read_pairs"]

Array = np.ndarray

_IDS = (Feature(f.QUERY_ID, int, f.OOV), Feature(f.TITLE_ID, int, f.OOV))
_ROWS_AT_ONCE = 1_000_000
_BYTES_OF_PART = 1 << 28  # of shards: some millions of rows, whose distinct pairs fit anywhere
_PAIRS_AT_ONCE = 256
_GOLDEN = 0x9E3779B97F4A7C15

_log = logging.getLogger(__name__)


def read_pairs(
    train_uri: str,
    table_uri: str,
    output_uri: str,
    most: int = 50_000,
    previous_uri: str | None = None,
    make_pipeline: MakePipeline = local_pipeline,
    scratch: str | None = None,
) -> PairLinks:
    """Reads the pairs of the train split that were shown most, and saves their links.

    Pairs are counted in parts, by a hash, so that memory depends on `most` and
    the vocabularies and not on rows. Each pair that is chosen and new is read once;
    progress is told while it is.

    Args:
        train_uri: folder of the transformed train split.
        table_uri: the embedding table that its text ids point to; its encoder reads.
        output_uri: folder to write to.
        most: pairs that are read, by impressions; the links of others are predicted
            from the cosine.
        previous_uri: links of an earlier run; those of the same texts and encoder
            are taken over.
        make_pipeline: makes the Beam pipelines to run on.
        scratch: a folder that all workers reach, left as it was found; beside
            the output if None.

    Raises:
        ConfigError: most < 1.
        DataError: no row of the split has both texts in the vocabularies, or ids are
            of another table.
        EncoderError: the encoder cannot be used.
    """
    if most < 1:
        raise ConfigError(f"attention_pairs={most}: expected at least 1")
    table = TextTable.load(table_uri)
    parent = Path(scratch) if scratch else Path(output_uri).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".reading-", dir=parent))
    try:
        passes = Passes(folder, make_pipeline)
        traffic = _most_shown(passes, shard_paths(train_uri), most)
        _check(traffic, table, train_uri)
        current = fingerprint(find_checkpoint(table.settings.encoder).folder)
        found = _read(passes, traffic, table, current, previous_uri)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found.save(output_uri)
    facts = found.facts
    _log.info(
        "%d of %d pairs read, %d taken over, with %.1f %% of impressions",
        facts["read"], facts["pairs"], facts["reused"],
        100 * facts["impressions_read"] / facts["impressions"],
    )  # fmt: skip
    return found


@dataclass(frozen=True)
class _Traffic:
    """Pairs and their impressions: those kept, ascending by key, and how many there are."""

    keys: Array
    counts: Array
    pairs: int
    impressions: int

    def top(self, most: int) -> "_Traffic":
        """The `most` pairs with most impressions; of equal ones the lower ids."""
        chosen = np.sort(np.lexsort((self.keys, -self.counts))[:most])
        return _Traffic(self.keys[chosen], self.counts[chosen], self.pairs, self.impressions)


@dataclass(frozen=True)
class _Counted:
    """Pairs of up to a million rows of a shard, on disk, those of a part together.

    Attributes:
        path: (2, m) int64, keys and counts.
        ends: (parts + 1,) where each part begins and ends.
    """

    path: str
    ends: Array


def _most_shown(passes: Passes, shards: list[str], most: int) -> _Traffic:
    sizes = [int(tf.io.gfile.stat(path).length) for path in shards]
    parts = 1 + sum(sizes) // _BYTES_OF_PART
    elements = list(enumerate(shards))
    counted = passes.run(
        "count pairs", _count, elements, sizes, (str(passes.folder), parts), unit="bytes"
    )
    files = [one for own in counted for one in own]
    sizes = [sum(int(x.ends[k + 1] - x.ends[k]) for x in files) for k in range(parts)]
    merged = passes.run(
        "choose pairs", _merge, list(range(parts)), sizes, (files, most), unit="pairs"
    )
    total = merged[0]
    for part in merged[1:]:
        keys = np.concatenate([total.keys, part.keys])
        order = np.argsort(keys)
        counts = np.concatenate([total.counts, part.counts])[order]
        pairs, impressions = total.pairs + part.pairs, total.impressions + part.impressions
        total = _Traffic(keys[order], counts, pairs, impressions).top(most)
    return total


def _count(work: tuple[str, int], element: tuple[int, str]) -> list[_Counted]:
    """A file for each million rows; memory O(rows of it)."""
    folder, parts = work
    number, path = element
    found = []
    for batch, columns in enumerate(iterate_columns([path], _IDS, _ROWS_AT_ONCE)):
        keys, counts = np.unique(
            pair_keys(columns[f.QUERY_ID], columns[f.TITLE_ID]), return_counts=True
        )
        counts, keys = counts[keys >= 0], keys[keys >= 0]
        part = _part_of(keys, parts)
        order = np.argsort(part, kind="stable")
        stored = f"{folder}/pairs-{number:05d}-{batch:05d}.npy"
        np.save(stored, np.stack([keys[order], counts[order]]))
        found.append(_Counted(stored, np.searchsorted(part[order], np.arange(parts + 1))))
    return found


def _merge(work: tuple[list[_Counted], int], part: int) -> _Traffic:
    """The pairs of a part with most impressions; memory O(distinct pairs of the part)."""
    files, most = work
    keys, counts = np.zeros((2, 0), np.int64)
    for one in files:
        new = np.load(one.path, mmap_mode="r")[:, one.ends[part] : one.ends[part + 1]]
        keys, inverse = np.unique(np.concatenate([keys, new[0]]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([counts, new[1]]), len(keys)).astype(np.int64)
    return _Traffic(keys, counts, len(keys), int(counts.sum())).top(most)


def _part_of(keys: Array, parts: int) -> Array:
    mixed = keys.astype(np.uint64) * np.uint64(_GOLDEN)
    return ((mixed ^ (mixed >> np.uint64(32))) % np.uint64(parts)).astype(np.int64)


def _check(traffic: _Traffic, table: TextTable, train_uri: str) -> None:
    if not len(traffic.keys):
        raise DataError(
            f"{train_uri}: no row has both a query and a title of the vocabularies, so that there "
            "is no pair for BERT to read; leave the estimator attention out, or map the columns "
            "query and title of the logs"
        )
    for name, ids, texts in zip(
        ("query", "title"), pair_of(traffic.keys), (table.query_texts, table.title_texts),
        strict=True,
    ):  # fmt: skip
        if ids.max() >= len(texts):
            raise DataError(
                f"{train_uri}: {name} id {ids.max()}, and the table holds the texts of ids up to "
                f"{len(texts) - 1}; run TextEmbedder on these examples"
            )


def _read(
    passes: Passes, traffic: _Traffic, table: TextTable, current: str, previous_uri: str | None
) -> PairLinks:
    query_ids, title_ids = pair_of(traffic.keys)
    queries = [table.query_texts[k] for k in query_ids]
    titles = [table.title_texts[k] for k in title_ids]
    settings = table.settings
    known = PairLinks.load(previous_uri).known(current, settings.max_tokens) if previous_uri else {}
    links = np.array(
        [known.get(pair, np.nan) for pair in zip(queries, titles, strict=True)], np.float32
    )
    new = np.flatnonzero(np.isnan(links))
    work = _Reading(settings, [queries[k] for k in new], [titles[k] for k in new])
    starts = list(range(0, len(new), _PAIRS_AT_ONCE))
    sizes = [min(_PAIRS_AT_ONCE, len(new) - start) for start in starts]
    try:
        found = passes.run("read pairs", _attend, starts, sizes, work, unit="pairs")
    finally:
        _reader.cache_clear()
    links[new] = np.concatenate([np.empty(0, np.float32), *found])
    cosine = cosine_similarity(table, query_ids, title_ids)
    return PairLinks(
        keys=traffic.keys,
        links=links,
        query_texts=queries,
        title_texts=titles,
        prediction=Prediction.fit(cosine, links, traffic.counts),
        fingerprint=current,
        max_tokens=settings.max_tokens,
        facts={
            "pairs": traffic.pairs,
            "impressions": traffic.impressions,
            "read": len(new),
            "reused": len(links) - len(new),
            "impressions_read": int(traffic.counts.sum()),
        },
    )


@dataclass(frozen=True)
class _Reading:
    settings: TextSettings
    queries: list[bytes]
    titles: list[bytes]


def _attend(work: _Reading, start: int) -> Array:
    part = slice(start, start + _PAIRS_AT_ONCE)
    return _reader(work.settings).attended(work.queries[part], work.titles[part]).link


@lru_cache(maxsize=1)
def _reader(settings: TextSettings) -> PairAttention:
    """One of each worker: loading BERT takes as long as reading a few hundred pairs."""
    return PairAttention(load_encoder(settings))
