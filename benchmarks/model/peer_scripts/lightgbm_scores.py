"""LightGBM: one model of clicks and one of conversions, on all impressions."""

import lightgbm
import numpy as np
from exchange import Predictions, Split, serve

LEAVES = (15, 63)
ROUNDS, PATIENCE = 500, 30


def plain(split: Split) -> Predictions:
    """On labels as they are."""
    return _fit(split, split["click"]), _fit(split, split["conversion"])


def weighted(split: Split) -> Predictions:
    """Clicks on weight pairs: each impression twice, as a click and as none."""
    return _fit(split, None), _fit(split, split["conversion"])


def _fit(split: Split, label: np.ndarray | None) -> np.ndarray:
    """The number of leaves is chosen by the loss on the tune rows."""
    tune = split["tune"] == 1
    best = None
    for leaves in LEAVES:
        parameters = {
            "objective": "binary", "learning_rate": 0.05, "num_leaves": leaves, "verbose": -1,
            "min_data_in_leaf": 100, "num_threads": 2, "seed": 0,
        }  # fmt: skip
        train, valid = _data(split, ~tune, label), _data(split, tune, label)
        model = lightgbm.train(
            parameters, train, ROUNDS, valid_sets=[valid],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )  # fmt: skip
        loss = model.best_score["valid_0"]["binary_logloss"]
        if best is None or loss < best[0]:
            best = loss, model
    return best[1].predict(split["features"][split["test"]])


def _data(split: Split, rows: np.ndarray, label: np.ndarray | None) -> lightgbm.Dataset:
    x = split["features"][split["pair"][rows]]
    if label is not None:
        return lightgbm.Dataset(x, label[rows])
    weight = np.concatenate([split["positive"][rows], split["negative"][rows]])
    both = np.repeat([1, 0], [len(x), len(x)])
    return lightgbm.Dataset(np.concatenate([x, x]), both, weight=np.maximum(weight, 0))


serve({"lightgbm": plain, "lightgbm_weighted": weighted})
