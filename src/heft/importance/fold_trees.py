"""Boosted trees out of fold: the model that SHAP and LIME explain."""

from typing import Any, Self

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.proxy import fold_of

__all__ = ["FoldTrees", "first_rows", "row_key"]

Array = np.ndarray


class FoldTrees:
    """K gradient-boosted tree models, each fitted without one fold of groups.

    Without `observed`, the label's log odds. With it, the log of attractiveness
    under label ~ Poisson(observed · attractiveness): the weighted Poisson
    likelihood whose optimum is E[label] / E[observed], so that a low position
    does not make an item look unattractive.

    Args:
        folds: at least 2; groups are dealt to folds by hash.
        trees, leaves: of each model.
        max_rows: most rows a model is fitted on, whole groups by hash.
        random_state: seed of folds and of that choice.

    Cost: fitting O(folds · max_rows · d · trees), some seconds a fold.
    """

    def __init__(
        self,
        folds: int = 4,
        trees: int = 60,
        leaves: int = 15,
        max_rows: int = 100_000,
        random_state: int = 0,
    ) -> None:
        if folds < 2:
            raise ConfigError(f"folds={folds}: expected at least 2 to score out of fold")
        if min(trees, max_rows) < 1 or leaves < 2:
            raise ConfigError(
                f"trees={trees}, leaves={leaves}, max_rows={max_rows}: expected at least 1, 2 and 1"
            )
        self.folds, self.trees, self.leaves = folds, trees, leaves
        self.max_rows, self.random_state = max_rows, random_state

    def fit(self, data: ImportanceData) -> Self:
        """Fits a model for each fold.

        Raises:
            DataError: no features, or the labels outside a fold are all the same.
        """
        if not data.features.shape[1]:
            raise DataError("0 features: expected at least 1 for trees to split by")
        fold = self.fold(data)
        self.models_ = [
            self._fit_one(data, np.flatnonzero(fold != k), k) for k in range(self.folds)
        ]
        return self

    def fold(self, data: ImportanceData) -> Array:
        """(n,) in [0, folds): which model has not seen the row's group."""
        return fold_of(data.group, self.folds, self.random_state)

    def raw(self, features: Array, fold: int) -> Array:
        """(n,) float64, what model `fold` says of `features` (n, d): log odds or log rate."""
        check_fitted(self, "models_")
        model = self.models_[fold]
        if isinstance(model, HistGradientBoostingClassifier):
            return np.asarray(model.decision_function(features))
        return np.log(model.predict(features))

    def _fit_one(self, data: ImportanceData, rows: Array, fold: int) -> Any:
        rows = rows[first_rows(data.take(rows), self.max_rows, self.random_state)]
        label = data.label[rows]
        if not len(rows) or label.min() == label.max():
            what = f"are {label[0]}" if len(rows) else "are missing"
            raise DataError(
                f"all {len(rows)} labels outside fold {fold} {what}: expected both 0 and 1 to fit "
                "trees; use more data, fewer folds, or drop the estimator for this task"
            )
        common = {
            "max_iter": self.trees,
            "max_leaf_nodes": self.leaves,
            "early_stopping": False,
            "random_state": self.random_state,
        }
        features = data.features[rows]
        if data.observed is None:
            return HistGradientBoostingClassifier(**common).fit(features, label)
        observed = data.observation()[rows].astype(np.float64)
        model = HistGradientBoostingRegressor(loss="poisson", **common)
        return model.fit(features, label / observed, sample_weight=observed)


def row_key(data: ImportanceData, random_state: int = 0) -> Array:
    """(n,) uint64, a hash of each row's group, pair and position: the same in any order."""
    key = np.full(len(data), np.uint64(random_state % 2**64))
    for column in (data.group, data.pair, data.position):
        key = _mix(key + column.astype(np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return key


def first_rows(data: ImportanceData, count: int, random_state: int = 0) -> Array:
    """At most `count` row numbers, ordered by a hash of group, then of row: whole groups
    but for the last."""
    group = _mix(data.group.astype(np.int64).astype(np.uint64) + np.uint64(random_state % 2**64))
    return np.lexsort((row_key(data, random_state), group))[:count]


def _mix(key: Array) -> Array:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
