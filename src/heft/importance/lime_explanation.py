"""What a model makes of a sample's neighbourhood: LIME."""

import zlib
from typing import Any, Self

import numpy as np
from lime.lime_tabular import LimeTabularExplainer  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.fold_trees import FoldTrees, first_rows
from heft.importance.registry import register

__all__ = ["LimeExplanation"]

Array = np.ndarray


@register("lime")
class LimeExplanation:
    """R² · Σ_j |b_j| of a sample's local linear model, in [0, ∞).

    LIME (Ribeiro, Singh & Guestrin 2016, *"Why Should I Trust You?"*): points are
    drawn around the sample, boosted trees that have not seen its group say their
    log odds (with `observed`, log attractiveness), and a ridge regression, weighted
    by nearness, is fitted to that. b_j is its slope per standard deviation of
    feature j. R² is how well it fits there, so that slopes of a poor fit count less.

    LIME is for looking at single samples: `explain`. `score` explains at most
    `max_rows` rows of what it is given, chosen by a hash of their keys, and gives
    every other row the median of those; a row's own score therefore depends on
    what is scored with it. Weigh with `ShapMass` instead, which is exact.

    Args:
        max_rows: rows that `score` explains.
        points: drawn around each sample.
        folds, trees, leaves: see `FoldTrees`.
        random_state: seed of folds; the points follow from it and a row's features.

    Cost: one prediction of `points` rows and one ridge regression for each
    explained row, about 12 ms on one core with 1,000 points. Memory: points · d float64.
    """

    def __init__(
        self,
        max_rows: int = 200,
        points: int = 1_000,
        folds: int = 4,
        trees: int = 60,
        leaves: int = 15,
        random_state: int = 0,
    ) -> None:
        if max_rows < 1 or points < 10:
            raise ConfigError(f"max_rows={max_rows}, points={points}: expected at least 1 and 10")
        self.max_rows, self.points, self.random_state = max_rows, points, random_state
        self.trees = FoldTrees(folds, trees, leaves, random_state=random_state)

    def fit(self, data: ImportanceData) -> Self:
        """Fits the trees, and takes the features' means and spreads.

        Raises:
            DataError: the labels outside a fold are all the same.
        """
        self.trees.fit(data)
        rows = first_rows(data, 10_000, self.random_state)
        self.explainer_ = LimeTabularExplainer(
            data.features[rows].astype(np.float64),
            mode="regression",
            feature_selection="none",
            discretize_continuous=False,
            sample_around_instance=True,
        )
        self.width_ = data.features.shape[1]
        return self

    def explain(self, data: ImportanceData, rows: Array) -> tuple[Array, Array]:
        """The local models of some samples.

        Args:
            data: samples with the columns of `fit`.
            rows: (m,) row numbers.

        Returns:
            Slopes, (m, d) float32, by feature and standard deviation; R² of each
            fit, (m,) float32, at most 1.
        """
        check_fitted(self, "explainer_")
        if data.features.shape[1] != self.width_:
            raise DataError(
                f"features have {data.features.shape[1]} columns and those of fit {self.width_}: "
                "expected the same columns in the same order"
            )
        fold = self.trees.fold(data)
        with threadpool_limits(1, "openmp"):  # a thousand points are too few to share out
            local = [self._one(data.features[row], int(fold[row])) for row in np.asarray(rows, int)]
        slopes = np.zeros((len(local), self.width_), np.float32)
        for row, explanation in zip(slopes, local, strict=True):
            for feature, slope in explanation.local_exp[1]:
                row[feature] = slope
        return slopes, np.array([explanation.score for explanation in local], np.float32)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 0; the explained rows' median where a row was not explained."""
        check_fitted(self, "explainer_")
        if not len(data):
            return np.zeros(0, np.float32)
        rows = first_rows(data, self.max_rows, self.random_state)
        slopes, fit = self.explain(data, rows)
        mass = np.maximum(fit, 0) * np.abs(slopes).sum(axis=1)
        score = np.full(len(data), np.median(mass), np.float32)
        score[rows] = mass
        return score

    def _one(self, features: Array, fold: int) -> Any:
        # The same points whenever the same sample is explained.
        seed = zlib.crc32(np.ascontiguousarray(features, np.float32).tobytes(), self.random_state)
        self.explainer_.random_state = np.random.RandomState(seed)
        return self.explainer_.explain_instance(
            features.astype(np.float64),
            lambda points: self.trees.raw(points, fold),
            num_features=self.width_,
            num_samples=self.points,
        )
