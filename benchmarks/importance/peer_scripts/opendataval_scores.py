"""OpenDataVal's evaluators, and LossVal as its paper describes it."""

from functools import partial

import numpy as np
import torch
from exchange import serve
from lossval import lossval
from opendataval.dataval import DVRL, DataEvaluator, DataOob, InfluenceSubsample, KNNShapley
from opendataval.dataval.lava import LavaEvaluator
from opendataval.metrics import accuracy
from opendataval.model import ClassifierSkLearnWrapper
from sklearn.linear_model import LogisticRegression

Split = dict[str, np.ndarray]


def _tensors(split: Split) -> list[torch.Tensor]:
    """Features as they are, labels one-hot: what OpenDataVal's own loader gives."""
    torch.manual_seed(0)
    one_hot = np.eye(2, dtype=np.float32)
    return [
        torch.tensor(split["x"]),
        torch.tensor(one_hot[split["y"]]),
        torch.tensor(split["valid_x"]),
        torch.tensor(one_hot[split["valid_y"]]),
    ]


def _train(evaluator: DataEvaluator, split: Split, modelled: bool = True) -> np.ndarray:
    evaluator.input_data(*_tensors(split))
    if modelled:
        model = ClassifierSkLearnWrapper(LogisticRegression, 2, max_iter=200)
        evaluator.input_model(model).input_metric(accuracy)
    return evaluator.train_data_values().evaluate_data_values()


def data_oob_logistic(split: Split, models: int) -> np.ndarray:
    """Data-OOB with scikit-learn's logistic regression as base."""
    return _train(DataOob(num_models=models, random_state=0), split)


def influence_subsample(split: Split, models: int) -> np.ndarray:
    """Mean accuracy with the sample less mean accuracy without (Feldman & Zhang 2020)."""
    return _train(InfluenceSubsample(num_models=models, random_state=0), split)


def knn_shapley(split: Split, models: int, k: int = 10) -> np.ndarray:
    """Ten neighbours, the default."""
    return _train(KNNShapley(k_neighbors=k, random_state=0), split, modelled=False)


def lava(split: Split, models: int) -> np.ndarray:
    """Gradient of the optimal transport cost to the validation rows (Just et al. 2023)."""
    return _train(LavaEvaluator(random_state=0), split, modelled=False)


def dvrl(split: Split, models: int) -> np.ndarray:
    """Reinforcement learning (Yoon et al. 2020), 1,000 epochs, the default."""
    return _train(DVRL(random_state=0), split)


if __name__ == "__main__":
    serve(
        {
            "data_oob_logistic": data_oob_logistic,
            "influence_subsample": influence_subsample,
            "knn_shapley": knn_shapley,
            "knn_shapley_100": partial(knn_shapley, k=100),
            "lava": lava,
            "dvrl": dvrl,
            "lossval": lossval,
        },
        slow=("dvrl", "lossval"),
    )
