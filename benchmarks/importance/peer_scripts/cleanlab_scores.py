"""cleanlab: label quality on out-of-fold predictions, and its KNN-Shapley."""

import numpy as np
from cleanlab.data_valuation import data_shapley_knn
from cleanlab.rank import get_label_quality_scores
from exchange import serve
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict


def _quality(model: object, split: dict[str, np.ndarray]) -> np.ndarray:
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    seen = cross_val_predict(model, split["x"], split["y"], cv=folds, method="predict_proba")
    return get_label_quality_scores(split["y"], seen, method="self_confidence")


def logistic(split: dict[str, np.ndarray], models: int) -> np.ndarray:
    """Self-confidence of logistic regression, cleanlab's default learner."""
    return _quality(LogisticRegression(max_iter=1_000), split)


def forest(split: dict[str, np.ndarray], models: int) -> np.ndarray:
    """Self-confidence of a random forest."""
    return _quality(RandomForestClassifier(models, random_state=0), split)


def knn_shapley(split: dict[str, np.ndarray], models: int) -> np.ndarray:
    """The training rows value one another; no validation rows are taken."""
    return data_shapley_knn(split["y"], features=split["x"], k=10)


if __name__ == "__main__":
    serve({"logistic": logistic, "forest": forest, "knn_shapley": knn_shapley})
