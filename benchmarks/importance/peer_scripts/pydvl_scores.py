"""pyDVL: exact KNN-Shapley, and Data-OOB with logistic and tree bases."""

import numpy as np
from exchange import serve
from pydvl.valuation import Dataset
from pydvl.valuation.methods.data_oob import DataOOBValuation
from pydvl.valuation.methods.knn_shapley import KNNShapleyValuation
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

Split = dict[str, np.ndarray]


def knn_shapley(split: Split, models: int) -> np.ndarray:
    """Exact, ten neighbours, on the validation rows."""
    model = KNeighborsClassifier(n_neighbors=10)
    valid = Dataset(split["valid_x"], split["valid_y"])
    valuation = KNNShapleyValuation(model, valid, progress=False)
    return _values(valuation.fit(Dataset(split["x"], split["y"])))


def data_oob_logistic(split: Split, models: int) -> np.ndarray:
    """Accuracy out of bag of bagged logistic regressions."""
    base = LogisticRegression(max_iter=200)
    return _out_of_bag(BaggingClassifier(base, models, random_state=0), split)


def data_oob_forest(split: Split, models: int) -> np.ndarray:
    """Accuracy out of bag of a random forest."""
    return _out_of_bag(RandomForestClassifier(models, random_state=0), split)


def _out_of_bag(model: object, split: Split) -> np.ndarray:
    model.fit(split["x"], split["y"])
    return _values(DataOOBValuation(model).fit(Dataset(split["x"], split["y"])))


def _values(valuation: object) -> np.ndarray:
    """By row: pyDVL may sort its results."""
    found = valuation.result
    values = np.empty(len(found.values))
    values[found.indices] = found.values
    return values


if __name__ == "__main__":
    serve(
        {
            "knn_shapley": knn_shapley,
            "data_oob_logistic": data_oob_logistic,
            "data_oob_forest": data_oob_forest,
        }
    )
