"""A simulated click log with its truth, as columns in memory.

Texts are embedded once for each data set and kept under runs/benchmark-cache.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from heft import features as f
from heft.importance import ImportanceData
from heft.lexical import lexical_features
from heft.simulate import SimulationSettings, simulate
from heft.simulate.behaviour import attractiveness
from heft.text.build import build_table
from heft.text.settings import TextSettings
from heft.text.table import TextTable

CACHE = Path("runs/benchmark-cache")

Array = np.ndarray


@dataclass(frozen=True)
class ClickLog:
    """One simulated shop.

    Attributes:
        pair_features: (pairs, d) float32 of each judged query-item pair.
        pair_texts: (pairs, 2) rows of `table`: query and title.
        pair_dense: (pairs, 7) the part of the features that does not come from `table`.
        pair_values: category and brand of each pair, (pairs,) strings.
        table: embeddings of all texts.
        pair_of: (n,) row of `pair_features`, for each training impression.
        data: (n,) natural pages of the training queries, as an estimator sees them.
        harvest: shuffled pages of those queries.
        truth: what the simulator knows of each training impression.
        test_pairs: rows of `pair_features` whose query no log contains.
        test_grade, test_query: of those rows.
    """

    pair_features: Array
    pair_texts: Array
    pair_dense: Array
    pair_values: dict[str, Array]
    table: TextTable
    pair_of: Array
    data: ImportanceData
    harvest: ImportanceData
    truth: pd.DataFrame
    test_pairs: Array
    test_grade: Array
    test_query: Array

    @property
    def test_attractiveness(self) -> Array:
        """Probability of a click on each test pair if it is examined."""
        return attractiveness(self.test_grade)


def make_log(settings: SimulationSettings) -> ClickLog:
    """Simulates a shop and computes its features."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "log"
        simulate(settings, out)
        grades = pd.read_parquet(out / "truth" / "grades.parquet")
        truth = pd.read_parquet(out / "truth" / "impressions.parquet")
        log = _joined(out)
        catalogue = pq.read_table(out / "catalogue").to_pandas()
    grades = grades.merge(catalogue, on="item_id", how="left")
    group = grades["group"].to_numpy()
    pairs = pd.MultiIndex.from_frame(grades[["query", "item_id"]])
    pair = pairs.get_indexer(pd.MultiIndex.from_frame(log[["query", "item_id"]]))
    if not (truth["impression_id"].to_numpy() == log["impression_id"].to_numpy()).all():
        truth = truth.set_index("impression_id").loc[log["impression_id"]].reset_index()
    train = group[pair] == "train"
    natural = train & (log["randomised"].to_numpy() == 0)
    table, text = _text_features(grades, np.bincount(pair[natural], minlength=len(grades)))
    dense = _dense(grades)
    features = np.concatenate([text, dense], axis=1)
    scale = features[pair[natural]]
    mean, deviation = scale.mean(axis=0), scale.std(axis=0)
    features = ((features - mean) / np.where(deviation > 1e-6, deviation, 1.0)).astype(np.float32)
    cosine = (table.queries * 1.0)[grades["q"]] * table.titles[grades["t"]]
    cosine = cosine.sum(axis=1).astype(np.float32)

    def columns(rows: Array) -> ImportanceData:
        return _data(log[rows], pair[rows], features, cosine, f.CLICK)

    test = np.flatnonzero(group == "test")
    return ClickLog(
        pair_features=features,
        pair_texts=grades[["q", "t"]].to_numpy(),
        pair_dense=dense,
        pair_values={n: grades[n].fillna("").to_numpy(str) for n in (f.CATEGORY, f.BRAND)},
        table=table,
        pair_of=pair[natural],
        data=columns(natural),
        harvest=columns(train & ~natural),
        truth=truth[natural].reset_index(drop=True),
        test_pairs=test,
        test_grade=grades["grade"].to_numpy()[test],
        test_query=grades["query"].to_numpy()[test],
    )


def _joined(out: Path) -> pd.DataFrame:
    """Impressions with click, its delay in seconds, conversion and its delay."""

    def read(name: str) -> pd.DataFrame:
        return pa.concat_tables(
            [pq.read_table(path) for path in sorted((out / name).glob("span-*"))]
        ).to_pandas()

    log, clicks, bought = read("impressions"), read("clicks"), read("conversions")
    clicked = clicks.set_index("impression_id")["timestamp"].reindex(log["impression_id"])
    converted = bought.set_index("impression_id")["timestamp"].reindex(log["impression_id"])
    end = max(log["timestamp"].max(), clicks["timestamp"].max(), bought["timestamp"].max())
    log[f.CLICK] = clicked.notna().to_numpy().astype(np.int64)
    log["click_delay"] = (clicked.to_numpy() - log["timestamp"].to_numpy()) / 1000.0
    log[f.CONVERSION] = converted.notna().to_numpy().astype(np.int64)
    log["delay"] = (converted.to_numpy() - clicked.to_numpy()) / 1000.0
    start = clicked.fillna(pd.Series(log["timestamp"].to_numpy(), clicked.index)).to_numpy()
    log["elapsed"] = (end - start) / 1000.0
    return log


def _data(
    log: pd.DataFrame, pair: Array, features: Array, cosine: Array, label: str
) -> ImportanceData:
    return ImportanceData(
        features=features[pair],
        label=log[label].to_numpy(),
        group=pd.factorize(log["request_id"])[0].astype(np.int64),
        position=log["position"].to_numpy(),
        propensity=np.full(len(log), np.nan, np.float32),
        pair=pair.astype(np.int64),
        user=pd.util.hash_array(log["user_id"].to_numpy()).astype(np.int64),
        timestamp=log["timestamp"].to_numpy(),
        click_delay=log["click_delay"].to_numpy(np.float32),
        delay=log["delay"].to_numpy(np.float32),
        elapsed=log["elapsed"].to_numpy(np.float32),
        relevance=cosine[pair],
    )


def _text_features(grades: pd.DataFrame, traffic: Array) -> tuple[TextTable, Array]:
    """The embedding table, and the text part of each pair's features."""
    grades["q"], queries = pd.factorize(grades["query"], sort=True)
    grades["t"], titles = pd.factorize(grades["title"], sort=True)
    shown = traffic > 0
    ids = grades.loc[shown, ["q", "t"]].to_numpy()
    vocabularies = [[text.encode() for text in texts] for texts in (queries, titles)]
    digest = hashlib.sha256(b"\n".join(vocabularies[0] + vocabularies[1])).hexdigest()[:16]
    path = CACHE / digest
    previous = TextTable.load(str(path)) if (path / "table.json").is_file() else None
    table = build_table(*vocabularies, ids, traffic[shown], TextSettings(), previous)
    if previous is None:
        table.save(str(path))
    return table, text_features(table, grades[["q", "t"]].to_numpy())


def text_features(table: TextTable, texts: Array) -> Array:
    """The part of the features that comes from `table`, for (pairs, 2) of its rows."""
    query, title = table.queries[texts[:, 0]], table.titles[texts[:, 1]]
    product = query * title
    parts = [product.sum(axis=1, keepdims=True)]
    reduction = table.reduction
    for projection, vectors in (
        (reduction.query, query),
        (reduction.title, title),
        (reduction.product, product),
    ):
        if len(projection.components):
            parts.append(projection.apply(vectors))
    return np.concatenate(parts, axis=1)


def _dense(grades: pd.DataFrame) -> Array:
    """Lexical match and the logarithm of the price, (pairs, 7)."""
    blocks = []
    for block in np.array_split(np.arange(len(grades)), max(1, len(grades) // 20_000)):
        found = lexical_features(
            tf.constant(grades["query"].to_numpy()[block].tolist()),
            tf.constant(grades["title"].to_numpy()[block].tolist()),
        )
        blocks.append(np.stack([found[name].numpy() for name in f.LEXICAL], axis=1))
    price = grades["price"].to_numpy(float)
    known = np.isfinite(price) & (price > 0)
    log = np.log(np.where(known, price, 1.0))
    centred = np.where(known, log - (log[known].mean() if known.any() else 0.0), 0.0)
    return np.concatenate([np.concatenate(blocks), centred[:, None]], axis=1)
