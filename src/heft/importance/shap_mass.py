"""How much a model makes of a sample's features: SHAP."""

from typing import Any, Self

import numpy as np
import shap  # type: ignore[import-untyped]

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.fold_trees import FoldTrees
from heft.importance.registry import register

__all__ = ["ShapMass"]

Array = np.ndarray


@register("shap")
class ShapMass:
    """Σ_j |φ_j|, the mass of a sample's SHAP values, in [0, ∞); high where features say much.

    φ_j is the Shapley value of feature j in v(S) = E[f(x) | x_S] on the log odds
    (with `observed`, the log attractiveness) of boosted trees that have not seen
    the sample's group, the expectation taken along the trees (Lundberg & Lee 2017;
    Lundberg et al. 2020, *From Local Explanations to Global Understanding with
    Explainable AI for Trees*). Σ_j φ_j = f(x) − E[f].

    The mass depends on the features alone, not on the label: it says how unusual
    a sample is to the model, and nothing of whether its label is right.

    Args:
        max_rows: most rows each fold's trees are fitted on.
        block_rows: distinct rows explained at once.
        folds, trees, leaves: see `FoldTrees`.
        random_state: seed of folds and of the choice of rows.

    Cost: fitting as `FoldTrees`. Explaining O(trees · leaves · depth²) for each
    distinct row of a fold, every row exactly; about 6,000 a second on one core with
    60 trees of 15 leaves. Memory: the attributions of a block (`score`), n · d
    float32 (`attributions`).
    """

    def __init__(
        self,
        max_rows: int = 100_000,
        block_rows: int = 8_192,
        folds: int = 4,
        trees: int = 60,
        leaves: int = 15,
        random_state: int = 0,
    ) -> None:
        if block_rows < 1:
            raise ConfigError(f"block_rows={block_rows}: expected at least 1")
        self.block_rows = block_rows
        self.trees = FoldTrees(folds, trees, leaves, max_rows, random_state)

    def fit(self, data: ImportanceData) -> Self:
        """Fits the trees.

        Raises:
            DataError: the labels outside a fold are all the same.
        """
        self.trees.fit(data)
        # The library weighs each branch by the training rows that took it.
        self.explainers_ = [
            shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
            for model in self.trees.models_
        ]
        self.width_ = data.features.shape[1]
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 0."""
        score = np.zeros(len(data), np.float32)
        for rows, values in self._explained(data):
            score[rows] = np.abs(values).sum(axis=1)
        return score

    def attributions(self, data: ImportanceData) -> Array:
        """(n, d) float32, each feature's part in what the model says of each sample."""
        result = np.zeros((len(data), data.features.shape[1]), np.float32)
        for rows, values in self._explained(data):
            result[rows] = values
        return result

    def expected(self, data: ImportanceData) -> Array:
        """(n,) float64, E[f] of the model that explains each row: what attributions add up from."""
        check_fitted(self, "explainers_")
        means = [float(np.ravel(explainer.expected_value)[0]) for explainer in self.explainers_]
        return np.array(means)[self.trees.fold(data)]

    def _explained(self, data: ImportanceData) -> Any:
        """Yields row numbers and their SHAP values, (m,) and (m, d), until every row was there."""
        check_fitted(self, "explainers_")
        if data.features.shape[1] != self.width_:
            raise DataError(
                f"features have {data.features.shape[1]} columns and those of fit {self.width_}: "
                "expected the same columns in the same order"
            )
        fold = self.trees.fold(data)
        for k, explainer in enumerate(self.explainers_):
            rows = np.flatnonzero(fold == k)
            # One query and title shown many times is one row of features.
            distinct, place = np.unique(data.features[rows], axis=0, return_inverse=True)
            order = np.argsort(place.ravel(), kind="stable")
            sorted_place = place.ravel()[order]
            for start in range(0, len(distinct), self.block_rows):
                block = distinct[start : start + self.block_rows]
                values = explainer.shap_values(block, check_additivity=False)
                part = slice(*np.searchsorted(sorted_place, (start, start + len(block))))
                yield rows[order[part]], values[sorted_place[part] - start]
