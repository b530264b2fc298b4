"""The ranking of all features: what it holds, and how it is computed from sampled rows."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.errors import DataError
from heft.model.network import InputSizes
from heft.selection.measures import Masses, Relations, category_relations, number_relations
from heft.selection.rows import SampledRows
from heft.selection.settings import RankingSettings
from heft.text.reduction import Projection
from heft.text.table import TextTable

__all__ = ["COSINE", "RANKING_FILE", "FeatureRanking", "RankedFeature", "rank_rows"]

RANKING_FILE = "ranking.json"
COSINE = "cosine"
_FORMAT = 1

Array = np.ndarray
# What each kind of feature is.
EMBEDDING, COMPONENT, NUMBER, CATEGORY, VECTOR = (
    "embedding", "component", "number", "category", "vector",
)  # fmt: skip


@dataclass(frozen=True)
class RankedFeature:
    """One feature and what it has to do with each task.

    Attributes:
        name: of the column, or `title_3`, say, of an embedding.
        kind: `embedding` is a dimension of a text vector, `component` what the reduction made
            of them, `number`, `category` and `vector` are columns.
        source: `query`, `title` or `product` of an embedding or component, else the column.
        index: of the dimension; 0 of a column.
        measures: by task, `correlation`, `rank_correlation` and `mutual_information`; None where
            a measure says nothing. Of a vector column those of its best dimension.
    """

    name: str
    kind: str
    source: str
    index: int
    measures: dict[str, dict[str, float | None]]

    def score(self, task: str, by: str) -> float:
        """The magnitude of a measure, 0 if it says nothing; a category's only correlation
        stands for both."""
        found = self.measures[task]
        value = found[by] if found[by] is not None else found["correlation"]
        return abs(value) if value is not None else 0.0


@dataclass(frozen=True)
class FeatureRanking:
    """All features, by mutual information with clicks, the most first.

    Attributes:
        features: every one.
        rows, of: sampled, and there.
        encoder: fingerprint of the encoder whose dimensions are ranked.
        settings: that it was made with.
    """

    features: tuple[RankedFeature, ...]
    rows: int
    of: int
    encoder: str
    settings: RankingSettings

    def save(self, uri: str) -> None:
        """Writes `ranking.json` into the folder `uri`."""
        tf.io.gfile.makedirs(uri)
        facts = {"format": _FORMAT, **asdict(self)} | {"settings": self.settings.model_dump()}
        with tf.io.gfile.GFile(f"{uri}/{RANKING_FILE}", "w") as file:
            file.write(json.dumps(facts))

    @classmethod
    def load(cls, uri: str) -> "FeatureRanking":
        """Reads what `save` wrote.

        Raises:
            DataError: there is no ranking of this format at `uri`.
        """
        path = f"{uri}/{RANKING_FILE}"
        if not tf.io.gfile.exists(path):
            raise DataError(f"{uri}: no {RANKING_FILE}; run FeatureRanker again")
        with tf.io.gfile.GFile(path) as file:
            facts: dict[str, Any] = json.loads(file.read())
        if facts.pop("format", None) != _FORMAT:
            raise DataError(f"{path} is of another format; run FeatureRanker again")
        features = tuple(RankedFeature(**feature) for feature in facts.pop("features"))
        settings = RankingSettings.model_validate(facts.pop("settings"))
        return cls(features=features, settings=settings, **facts)


def rank_rows(
    sampled: SampledRows, sizes: InputSizes, table: TextTable, settings: RankingSettings
) -> FeatureRanking:
    """Ranks every input of the network, and every dimension of the embeddings.

    What a text decides is computed once for each distinct text or pair of the sample,
    with the mass of its rows. Rows with a text that is not in the table are left out of
    what that text decides.

    Args:
        sampled: columns of `sizes`, text ids, labels, and weight pairs if `weighted`.
        sizes: the columns of the network.
        table: embeddings and reduction.
        settings: `bins` and `weighted`.
    """
    columns = sampled.columns
    masses = {task: _masses(columns, task, settings.weighted) for task in f.TASKS}
    found: list[RankedFeature] = []

    def numbers(values: Array, own: dict[str, Masses]) -> dict[str, Relations]:
        return {task: number_relations(values, own[task], settings.bins) for task in f.TASKS}

    dense = np.stack([columns[name] for name in sizes.dense], axis=1)
    found += _named(NUMBER, sizes.dense, numbers(dense, masses))
    for name in sizes.vectors:
        found.append(_best(name, numbers(columns[name], masses)))
    for name in sizes.categorical:
        related = {task: category_relations(columns[name], masses[task]) for task in f.TASKS}
        found += _named(CATEGORY, (name,), related)
    found += _texts(columns, masses, table, numbers)
    found.sort(key=lambda x: (-x.score(f.CTR, "mutual_information"), x.name))
    return FeatureRanking(tuple(found), sampled.rows, sampled.of, table.fingerprint, settings)


def _masses(columns: dict[str, Array], task: str, weighted: bool) -> Masses:
    if weighted:
        return Masses.of(columns[f.positive_weight(task)], columns[f.negative_weight(task)])
    label = columns[f.label_of(task)]
    return Masses.of(label, 1 - label)


def _texts(
    columns: dict[str, Array],
    masses: dict[str, Masses],
    table: TextTable,
    numbers: Callable[[Array, dict[str, Masses]], dict[str, Relations]],
) -> list[RankedFeature]:
    """Dimensions and components of queries, titles and their product, and the cosine."""
    query, title = columns[f.QUERY_ID], columns[f.TITLE_ID]
    found: list[RankedFeature] = []
    for source, ids in (("query", query), ("title", title), ("product", _pairs(query, title))):
        known = np.flatnonzero(ids >= 0)
        distinct, unit = np.unique(ids[known], return_inverse=True)
        own = {task: _picked(m, known).grouped(unit, len(distinct)) for task, m in masses.items()}
        vectors = _vectors(source, distinct, table)
        found += _dimensions(EMBEDDING, source, numbers(vectors, own))
        if source == "product":
            cosine = numbers(vectors.sum(axis=1, keepdims=True), own)
            found += _named(COMPONENT, (COSINE,), cosine)
        projection: Projection = getattr(table.reduction, source)
        if len(projection.components):
            found += _dimensions(COMPONENT, source, numbers(projection.apply(vectors), own))
    return found


def _pairs(query: Array, title: Array) -> Array:
    return np.where((query >= 0) & (title >= 0), (query << 32) | title, -1)


def _vectors(source: str, ids: Array, table: TextTable) -> Array:
    if source == "product":
        product: Array = table.queries[ids >> 32] * table.titles[ids & 0xFFFFFFFF]
        return product
    return np.asarray(getattr(table, {"query": "queries", "title": "titles"}[source])[ids])


def _picked(masses: Masses, rows: Array) -> Masses:
    return Masses.of(masses.positive[rows], masses.negative[rows])


def _dimensions(kind: str, source: str, related: dict[str, Relations]) -> list[RankedFeature]:
    label = {EMBEDDING: source, COMPONENT: f"{source}_component"}[kind]
    count = len(related[f.CTR].correlation)
    return [
        RankedFeature(f"{label}_{k}", kind, source, k, _measures(related, k)) for k in range(count)
    ]


def _named(kind: str, names: tuple[str, ...], related: dict[str, Relations]) -> list[RankedFeature]:
    return [
        RankedFeature(name, kind, name, 0, _measures(related, k)) for k, name in enumerate(names)
    ]


def _best(name: str, related: dict[str, Relations]) -> RankedFeature:
    measures: dict[str, dict[str, float | None]] = {}
    for task, own in related.items():
        best = {key: int(np.argmax(np.abs(values))) for key, values in vars(own).items()}
        measures[task] = {key: float(getattr(own, key)[k]) for key, k in best.items()}
    return RankedFeature(name, VECTOR, name, 0, measures)


def _measures(related: dict[str, Relations], k: int) -> dict[str, dict[str, float | None]]:
    return {
        task: {
            key: float(values[k]) if np.isfinite(values[k]) else None
            for key, values in vars(own).items()
        }
        for task, own in related.items()
    }
