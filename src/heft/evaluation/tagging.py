"""Slices that a log does not have as columns: how frequent a query is, whether an item is new.

Both are relative to training, so they are added to the examples a model is judged on, as two
more features. The records are not parsed for that: an Example is a list of features, and
two more at its end are a few bytes.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from pydantic import Field, model_validator

from heft import features as f
from heft.examples import Feature, read_columns
from heft.settings import Settings

__all__ = ["HEAD", "KNOWN", "NEW", "TAIL", "TORSO", "UNSEEN", "SliceSettings", "tag_examples"]

HEAD, TORSO, TAIL, UNSEEN = b"head", b"torso", b"tail", b"unseen"
NEW, KNOWN = b"new", b"known"

_FEATURES_TAG = 0x0A  # field 1 of an Example, a message
_ROWS_IN_ORDER = 100_000  # held in memory to be put in order
_ROWS_AT_A_TIME = 1_024  # tf.data takes as long for one record as for these

Array = np.ndarray


class SliceSettings(Settings):
    """Where the head of the queries ends, and where the torso.

    Queries are ordered by how often training saw them.
    """

    head: float = Field(0.33, gt=0, lt=1, description="share of training impressions of the head")
    torso: float = Field(
        0.67, gt=0, le=1, description="share of training impressions of head and torso together"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "SliceSettings":
        if not self.head < self.torso:
            raise ValueError(f"head={self.head} must be below torso={self.torso}")
        return self


def tag_examples(
    train: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    output_uri: str,
    settings: SliceSettings | None = None,
) -> dict[str, int]:
    """Writes splits again, each row with `query_frequency` and `item_novelty`.

    `query_frequency` is head, torso, tail, or unseen in training; `item_novelty` is new
    for an item that training never showed, else known. Rows of one query stand together, so that
    a model that reads them in batches encodes a text it does not know in one of them, not in all.

    Args:
        train: shards of the training split.
        splits: shards of each split to write.
        output_uri: folder in which `Split-NAME` folders are made.
        settings: where head and torso end.

    Returns:
        Rows written by split.
    """
    seen = read_columns(list(train), [Feature(f.QUERY, bytes), Feature(f.ITEM_ID, bytes)])
    bands = query_bands(seen[f.QUERY], settings or SliceSettings())
    items = set(pd.unique(pd.Series(seen[f.ITEM_ID])))
    written = {}
    for split, paths in splits.items():
        folder = Path(output_uri) / f"Split-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        written[split] = sum(_tag_shard(path, folder, bands, items) for path in paths)
    return written


def query_bands(queries: Array, settings: SliceSettings) -> dict[bytes, bytes]:
    """Head, torso or tail for each query, from how often each stands in `queries`, (rows,)."""
    counts = pd.Series(queries).value_counts()
    # Of equally frequent ones the order is that of their text, not that of the rows.
    order = sorted(counts.index, key=lambda query: (-counts[query], query))
    before = np.cumsum([0, *(counts[query] for query in order)])[:-1] / max(len(queries), 1)
    bands = np.select([before < settings.head, before < settings.torso], [HEAD, TORSO], TAIL)
    return {query: bytes(band) for query, band in zip(order, bands, strict=True)}


def _tag_shard(path: str, folder: Path, bands: Mapping[bytes, bytes], items: set[bytes]) -> int:
    columns = read_columns([path], [Feature(f.QUERY, bytes), Feature(f.ITEM_ID, bytes)])
    tags = {(band, item): _entries(band, item) for band in (HEAD, TORSO, TAIL, UNSEEN)
            for item in (NEW, KNOWN)}  # fmt: skip
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    blocks = tf.data.TFRecordDataset(path, compression_type="GZIP").batch(_ROWS_AT_A_TIME)
    records = itertools.chain.from_iterable(blocks.prefetch(1).as_numpy_iterator())
    queries, shown = columns[f.QUERY], columns[f.ITEM_ID]
    with tf.io.TFRecordWriter(str(folder / Path(path).name), options) as writer:
        rows = zip(queries, shown, records, strict=True)
        while block := list(itertools.islice(rows, _ROWS_IN_ORDER)):
            for query, item, record in sorted(block, key=lambda row: row[:2]):
                tag = tags[bands.get(query, UNSEEN), KNOWN if item in items else NEW]
                writer.write(_with_entries(record, tag))
    return len(columns[f.QUERY])


def _entries(band: bytes, item: bytes) -> bytes:
    """The two features, as entries of the map that a Features message is."""
    features = tf.train.Features()
    for name, value in ((f.QUERY_FREQUENCY, band), (f.ITEM_NOVELTY, item)):
        features.feature[name].bytes_list.value.append(value)
    return bytes(features.SerializeToString())


def _with_entries(record: bytes, entries: bytes) -> bytes:
    """An Example with more features: the length of its one message grows."""
    if not record or record[0] != _FEATURES_TAG:
        return bytes([_FEATURES_TAG]) + _varint(len(entries)) + entries + record
    length, place, shift = 0, 1, 0
    while True:
        byte = record[place]
        length |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    end = place + length
    head = bytes([_FEATURES_TAG]) + _varint(length + len(entries))
    return head + record[place:end] + entries + record[end:]


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
