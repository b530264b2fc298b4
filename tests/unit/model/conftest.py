"""A small embedding table and click logs whose truth is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from heft import features as f
from heft.examples import write_columns
from heft.model.network import InputSizes
from heft.model.packing import Layout, PackedRows, pack
from heft.model.settings import ModelSettings
from heft.model.training import Trained, TrainingRows, Watch, train
from heft.text.reduction import Projection, Reduction
from heft.text.settings import TextSettings
from heft.text.table import TextTable

Columns = dict[str, np.ndarray]

EXAMINATION = np.array([1.0, 0.5, 0.25, 0.12])
BRAND_ROWS = 5
SIZES = InputSizes({"brand_id": BRAND_ROWS}, ("price_z",), 0.2, 0.02)
LAYOUT = Layout.of(tuple(SIZES.categorical), SIZES.dense)


def random_table(queries: int, titles: int, dim: int = 8) -> TextTable:
    """Unit vectors and projections at random."""
    rng = np.random.default_rng(0)

    def unit(rows: int) -> np.ndarray:
        vectors = rng.normal(size=(rows, dim))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def projection(rows: int) -> Projection:
        components = rng.normal(size=(rows, dim)).astype(np.float32)
        return Projection(np.zeros(dim, np.float32), components, np.zeros(rows))

    return TextTable(
        queries=unit(queries),
        titles=unit(titles),
        query_texts=[b"q%d" % i for i in range(queries)],
        title_texts=[b"t%d" % i for i in range(titles)],
        reduction=Reduction(title=projection(3), query=projection(0), product=projection(2)),
        fingerprint="none",
        settings=TextSettings(),
        embedded=queries + titles,
        reused=0,
    )


@pytest.fixture(scope="session")
def table() -> TextTable:
    return random_table(20, 50)


@dataclass
class ClickLog:
    """Weighted columns, and the attractiveness that they came from."""

    columns: Columns
    attractiveness: np.ndarray
    shards: list[str] = field(default_factory=list)


def click_log(rows: int, seed: int, *, biased: bool = True) -> ClickLog:
    """Clicks under position bias, weighted with the true examination.

    Token overlap attracts; title length does not, but a ranker that likes long
    titles decides the position.
    """
    rng = np.random.default_rng(seed)
    lexical = rng.normal(size=(rows, len(f.LEXICAL))).astype(np.float32)
    columns = dict(zip(f.LEXICAL, lexical.T, strict=True))
    attractiveness = 1 / (1 + np.exp(1.0 - 2.0 * columns["lexical_token_overlap"]))
    liked = columns["lexical_title_length"]
    position = np.digitize(-liked, [-0.7, 0.0, 0.7]) if biased else np.zeros(rows, int)
    theta = EXAMINATION[position]
    click = (rng.random(rows) < theta * attractiveness).astype(np.int64)
    conversion = click * (rng.random(rows) < 0.3)
    columns |= {
        f.QUERY_ID: rng.integers(-1, 20, rows),
        f.TITLE_ID: rng.integers(-1, 50, rows),
        f.POSITION: position + 1,
        f.CLICK: click,
        f.CONVERSION: conversion,
        "price_z": rng.normal(size=rows).astype(np.float32),
        "brand_id": rng.integers(0, BRAND_ROWS, rows),
        # Inverse propensity times examination: (c, θ − c), at times a negative weight.
        f.positive_weight(f.CTR): click.astype(np.float32),
        f.negative_weight(f.CTR): (theta - click).astype(np.float32),
        f.positive_weight(f.CVR): conversion.astype(np.float32),
        f.negative_weight(f.CVR): (theta - conversion).astype(np.float32),
    }
    return ClickLog(columns, attractiveness)


@pytest.fixture(scope="session")
def write_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ClickLog]:
    """Writes a click log as shards, as ImportanceEstimator does."""

    def write(rows: int, seed: int, *, shards: int = 2, biased: bool = True) -> ClickLog:
        log = click_log(rows, seed, biased=biased)
        folder: Path = tmp_path_factory.mktemp("weighted")
        for k, part in enumerate(np.array_split(np.arange(rows), shards)):
            path = folder / f"weighted-{k:05d}-of-{shards:05d}.gz"
            write_columns({name: values[part] for name, values in log.columns.items()}, path)
            log.shards.append(str(path))
        return log

    return write


def packed(shards: list[str], folder: Path, split: str = "train") -> PackedRows:
    """The rows of `shards` as training reads them."""
    return pack(shards, LAYOUT, folder, split)


def fit(
    log: list[str], tune: list[str], table: TextTable, folder: Path, settings: ModelSettings,
    *, weighted: bool = True, strategy: tf.distribute.Strategy | None = None,
    prepare: Callable[[keras.Model], object] | None = None, **watch: Any,
) -> Trained:  # fmt: skip
    """Trains on the shards `log`, watched by `tune`, with everything under `folder`."""
    rows = TrainingRows(packed(log, folder / "rows"), packed(tune, folder / "rows", "tune"))
    watched = Watch(log_dir=folder / "log", **watch)
    return train(
        rows, table, SIZES, settings, watched,
        weighted=weighted, strategy=strategy, prepare=prepare,
    )  # fmt: skip


def core_inputs(table: TextTable, log: ClickLog) -> dict[str, np.ndarray]:
    """The rows of `log` as the core takes them."""

    def rows(matrix: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return np.where((ids >= 0)[:, None], matrix[ids], 0).astype(np.float32)

    return {
        "query_vector": rows(table.queries, log.columns[f.QUERY_ID]),
        "title_vector": rows(table.titles, log.columns[f.TITLE_ID]),
        "dense": np.stack([log.columns[name] for name in SIZES.dense], axis=1),
        "brand_id": log.columns["brand_id"],
    }
