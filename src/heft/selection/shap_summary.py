"""What each feature adds to the others: mean SHAP values of trees fitted to the weighted rows."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import shap  # type: ignore[import-untyped]
import tensorflow as tf
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from heft import features as f
from heft.model.network import InputSizes
from heft.selection.rows import SampledRows
from heft.text.table import TextTable

__all__ = ["SHAP_FILE", "ShapFeature", "ShapSummary", "summarise_shap"]

SHAP_FILE = "shap.json"
_FITTED, _EXPLAINED = 20_000, 2_000  # rows
_TREES, _LEAVES = 60, 15

Array = np.ndarray


@dataclass(frozen=True)
class ShapFeature:
    """One feature.

    Attributes:
        name: of the column, `cosine`, or `product_component_3`, say.
        mean: of |φ| over the rows that were explained, in log odds of a click.
        direction: correlation of the feature's value and its φ, in [-1, 1]; None of a category
            and of a feature that is the same in every row.
    """

    name: str
    mean: float
    direction: float | None


@dataclass(frozen=True)
class ShapSummary:
    """Features by mean |φ|, the largest first, over `rows` rows."""

    features: tuple[ShapFeature, ...]
    rows: int

    def save(self, uri: str) -> None:
        """Writes `shap.json` into the folder `uri`."""
        tf.io.gfile.makedirs(uri)
        with tf.io.gfile.GFile(f"{uri}/{SHAP_FILE}", "w") as file:
            file.write(json.dumps(asdict(self)))

    @classmethod
    def load(cls, uri: str) -> "ShapSummary | None":
        """Reads what `save` wrote; None where there is nothing."""
        path = f"{uri}/{SHAP_FILE}"
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            facts: dict[str, Any] = json.loads(file.read())
        return cls(tuple(ShapFeature(**x) for x in facts["features"]), facts["rows"])


def summarise_shap(
    sampled: SampledRows, sizes: InputSizes, table: TextTable, seed: int = 0
) -> ShapSummary | None:
    """Fits boosted trees to clicks by their weight pairs and explains them (Lundberg et al. 2020).

    The trees stand for the network: they see the same columns, the cosine and the components of
    query and title, and take the weights, so that what is explained is attractiveness and not
    position. A negative weight, of which trees know nothing, counts as 0.

    Args:
        sampled: columns of `sizes`, text ids and click weight pairs.
        sizes: the columns of the network.
        table: embeddings and reduction.
        seed: of the trees.

    Returns:
        None if there are no rows of both labels whose texts are in the table.
    """
    columns = _known({name: values[:_FITTED] for name, values in sampled.columns.items()})
    masses = [columns[w(f.CTR)].astype(np.float64).clip(0) for w in
              (f.positive_weight, f.negative_weight)]  # fmt: skip
    if not all(mass.any() for mass in masses):
        return None
    names, values, categories = _features(columns, sizes, table)
    label = np.repeat([1, 0], len(values))
    model = HistGradientBoostingClassifier(
        max_iter=_TREES, max_leaf_nodes=_LEAVES, early_stopping=False, random_state=seed
    )
    # It takes seconds; threads that wait for each other on busy cores take tenfold.
    with threadpool_limits(1):
        model.fit(np.concatenate([values, values]), label, np.concatenate(masses))
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    shown = values[:_EXPLAINED]
    found = explainer.shap_values(shown, check_additivity=False)
    features = [
        ShapFeature(
            name,
            round(float(np.abs(found[:, k]).mean()), 6),
            None if name in categories else _direction(shown[:, k], found[:, k]),
        )
        for k, name in enumerate(names)
    ]
    features.sort(key=lambda x: (-x.mean, x.name))
    return ShapSummary(tuple(features), len(shown))


def _known(columns: dict[str, Array]) -> dict[str, Array]:
    rows = np.flatnonzero((columns[f.QUERY_ID] >= 0) & (columns[f.TITLE_ID] >= 0))
    return {name: values[rows] for name, values in columns.items()}


def _features(
    columns: dict[str, Array], sizes: InputSizes, table: TextTable
) -> tuple[list[str], Array, set[str]]:
    """Names, values (rows, features) float64, and the names of categories."""
    names = [*sizes.dense, *sizes.categorical]
    parts = [columns[name].astype(np.float64)[:, None] for name in names]
    vectors = {
        "query": np.asarray(table.queries, np.float32)[columns[f.QUERY_ID]],
        "title": np.asarray(table.titles, np.float32)[columns[f.TITLE_ID]],
    }
    vectors["product"] = vectors["query"] * vectors["title"]
    names.append("cosine")
    parts.append(vectors["product"].sum(axis=1, keepdims=True))
    for source, own in vectors.items():
        projection = getattr(table.reduction, source)
        if len(projection.components):
            parts.append(projection.apply(own))
            names += [f"{source}_component_{k}" for k in range(parts[-1].shape[1])]
    return names, np.concatenate(parts, axis=1, dtype=np.float64), set(sizes.categorical)


def _direction(values: Array, found: Array) -> float | None:
    if not np.ptp(values) or not np.ptp(found):
        return None
    return round(float(np.corrcoef(values, found)[0, 1]), 4)
