"""LossVal, written from the paper: no release of it can be installed.

Wibiral, Belaid, Rabus & Scherp 2024, *LossVal: Efficient Data Valuation for Neural
Networks*: a weight per sample is a parameter of the loss

    L = (Σᵢ wᵢ · cross-entropyᵢ) · OT_w(X_batch, X_valid)²

with OT the Sinkhorn divergence (p = 2) between the weighted batch and the
validation rows; the weights after training are the values. Here: a network of
five layers of 100 units, Adam with .01, 30 epochs, batches of 32.
"""

from itertools import pairwise

import numpy as np
import torch
from geomloss import SamplesLoss

_WIDTH, _EPOCHS, _BATCH, _RATE = 100, 30, 32, 0.01


def lossval(split: dict[str, np.ndarray], models: int) -> np.ndarray:
    """(n,) the weights; all start at 1."""
    torch.manual_seed(0)
    x, valid = torch.tensor(split["x"]), torch.tensor(split["valid_x"])
    y = torch.tensor(split["y"])
    weights = torch.nn.Parameter(torch.ones(len(x)))
    network = _network(x.shape[1])
    optimiser = torch.optim.Adam([*network.parameters(), weights], lr=_RATE)
    ones = torch.ones(len(valid))
    reach = 1.1 * float(torch.cdist(x, valid).max())
    transport = SamplesLoss("sinkhorn", p=2, diameter=reach, backend="tensorized")
    entropy = torch.nn.CrossEntropyLoss(reduction="none")
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(x)).split(_BATCH):
            weight = weights[rows]
            fit = weight @ entropy(network(x[rows]), y[rows])
            loss = fit * transport(weight, x[rows], ones, valid) ** 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return weights.detach().numpy()


def _network(width: int) -> torch.nn.Module:
    sizes = [width, _WIDTH, _WIDTH, _WIDTH, _WIDTH]
    layers: list[torch.nn.Module] = []
    for left, right in pairwise(sizes):
        layers += [torch.nn.Linear(left, right), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(_WIDTH, 2))
