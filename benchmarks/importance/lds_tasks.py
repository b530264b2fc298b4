"""Samples on which attributions are compared with retraining."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from heft.importance import ImportanceData
from heft.lexical import lexical_features
from heft.simulate import SimulationSettings, simulate
from heft.simulate.behaviour import examination

__all__ = ["planted", "shop"]

Array = np.ndarray

_PAGE = 10
_DIMENSIONS = 16
_TURNED = 0.1


def planted(rows: int, targets: int, seed: int) -> tuple[ImportanceData, ImportanceData]:
    """Clicks on a linear truth, a tenth of them turned over; targets are clean.

    Args:
        rows, targets: how many of each.
        seed: of everything.

    Returns:
        Training rows and targets, with `observed` the true examination.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows + targets, 24)).astype(np.float32)
    attraction = 1 / (1 + np.exp(-(x @ rng.normal(size=24) * 0.4)))
    position = np.arange(len(x)) % _PAGE + 1
    seen = examination(position - 1, 1.0)
    click = (rng.random(len(x)) < seen * attraction).astype(np.int64)
    turned = rng.random(len(x)) < _TURNED
    turned[rows:] = False
    label = np.where(turned, 1 - click, click)
    group = np.arange(len(x)) // _PAGE
    data = ImportanceData.of(x, label, position=position, group=group, observed=seen)
    return data.take(np.arange(rows)), data.take(np.arange(rows, rows + targets))


def shop(rows: int, targets: int, seed: int) -> tuple[str, ImportanceData, ImportanceData]:
    """Simulated clicks on Home Depot's queries and titles; the built-in shop's without them.

    Features are the letters' match of query and title and the product of their
    TF-IDF vectors in 16 dimensions. Bots and mistaken clicks are left in.

    Returns:
        The name of the source, training rows, and targets of other requests.
    """
    folder = Path(os.environ.get("HEFT_DATA", "../shared/data")) / "home_depot"
    known = folder.is_dir()
    settings = SimulationSettings(
        source="home_depot" if known else "builtin",
        data=str(folder) if known else None,
        sessions=(rows + targets) // 4,
        page_size=_PAGE,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "log"
        simulate(settings, out)
        shown, clicks, catalogue = (
            pd.read_parquet(out / name) for name in ("impressions", "clicks", "catalogue")
        )
    natural = shown[shown["randomised"] == 0].sort_values("impression_id", kind="stable")
    requests = pd.unique(natural["request_id"])
    requests = np.random.default_rng(seed).permutation(requests)
    group = pd.Index(requests).get_indexer(natural["request_id"])
    log = natural.iloc[np.argsort(group, kind="stable")[: rows + targets]]
    log = log.merge(catalogue[["item_id", "title"]], on="item_id", how="left")
    position = log["position"].to_numpy()
    data = ImportanceData.of(
        _features(log["query"], log["title"]),
        log["impression_id"].isin(clicks["impression_id"]).to_numpy().astype(np.int64),
        group=pd.factorize(log["request_id"])[0].astype(np.int64),
        position=position,
        observed=examination(position - 1, settings.eta),
    )
    held = np.arange(rows, len(data))
    # The last page may lie on both sides; its rows are no targets.
    held = held[data.group[held] > data.group[rows - 1]]
    return settings.source, data.take(np.arange(rows)), data.take(held)


def _features(query: pd.Series, title: pd.Series) -> Array:
    """(n, d) float32."""
    words = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 4), min_df=2)
    vectors = words.fit_transform(pd.concat([query, title]))
    reduced = TruncatedSVD(_DIMENSIONS, random_state=0).fit_transform(vectors)
    product = reduced[: len(query)] * reduced[len(query) :]
    texts = (tf.constant(column.to_numpy(str)) for column in (query, title))
    letters = [np.asarray(column) for column in lexical_features(*texts).values()]
    return np.column_stack([product, *letters]).astype(np.float32)
