"""ESMM of torch-rechub by its own trainer.

Its ESMM wants embeddings of categories. So it is fitted twice: on the features cut into bins, as
its examples do, and with the look-up replaced by the features themselves. Weight decay is
chosen by the click AUC on the tune rows.
"""

import contextlib
import io
import math
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from exchange import Predictions, Split, serve
from sklearn.metrics import roc_auc_score
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import ESMM
from torch_rechub.trainers import MTLTrainer

HIDDEN, DROPOUT, LEARNING_RATE = [64, 32], 0.1, 2e-3
BATCH, EPOCHS, PATIENCE = 1024, 5, 2
BINS, WIDTH = 32, 4
DECAYS = (1e-5, 1e-4, 1e-3)


class Features(torch.nn.Module):
    """Gives the first half of the columns to the user's side, the rest to the item's."""

    def forward(
        self,
        x: dict[str, torch.Tensor],
        features: list[SparseFeature],
        squeeze_dim: bool = False,
    ) -> torch.Tensor:
        """(batch, columns, 1), in place of a look-up in embeddings."""
        return torch.stack([x[feature.name] for feature in features], dim=1)[:, :, None]


class Batches:
    """Batches of some impressions; another order each time."""

    def __init__(
        self, columns: torch.Tensor, pair: np.ndarray, labels: np.ndarray, seed: int | None
    ) -> None:
        self.columns, self.pair, self.labels = columns, pair, labels
        self.rng = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.pair) / BATCH)

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        count = len(self.pair)
        order = np.arange(count) if self.rng is None else self.rng.permutation(count)
        for start in range(0, count, BATCH):
            rows = order[start : start + BATCH]
            block = self.columns[self.pair[rows]]
            x = {f"x{k}": block[:, k] for k in range(block.shape[1])}
            yield x, torch.from_numpy(self.labels[rows])


def binned(split: Split) -> Predictions:
    """Quantiles of each feature among the training impressions as categories."""
    features = split["features"]
    seen = features[np.unique(split["pair"])]
    columns = np.empty(features.shape, np.int64)
    for k in range(features.shape[1]):
        edges = np.unique(np.quantile(seen[:, k], np.arange(1, BINS) / BINS))
        columns[:, k] = np.searchsorted(edges, features[:, k], side="right")
    return _best(split, torch.from_numpy(columns), WIDTH)


def dense(split: Split) -> Predictions:
    """The features as they are."""
    return _best(split, torch.from_numpy(split["features"]), 1)


def _best(split: Split, columns: torch.Tensor, width: int) -> Predictions:
    fitted = [_fit(split, columns, width, decay) for decay in DECAYS]
    return max(fitted, key=lambda found: found[0])[1]


def _fit(
    split: Split, columns: torch.Tensor, width: int, decay: float
) -> tuple[float, Predictions]:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    names = [SparseFeature(f"x{k}", BINS, width) for k in range(columns.shape[1])]
    tower = {"dims": HIDDEN, "dropout": DROPOUT}
    half = len(names) // 2
    model = ESMM(names[:half], names[half:], dict(tower), dict(tower))
    if width == 1:
        model.embedding = Features()
    tune = split["tune"] == 1
    # Conversions given a click have no loss of their own: its trainer leaves the column out.
    labels = np.stack([split["conversion"], split["click"], split["conversion"]], axis=1)
    train, valid = (
        Batches(columns, split["pair"][rows], labels[rows].astype(np.float32), seed)
        for rows, seed in ((~tune, 0), (tune, None))
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = MTLTrainer(
            model, ["classification"] * 3,
            optimizer_params={"lr": LEARNING_RATE, "weight_decay": decay}, n_epoch=EPOCHS,
            earlystop_taskid=1, earlystop_patience=PATIENCE, model_path=folder,
        )  # fmt: skip
        trainer.fit(train, valid)
    model.eval()
    if trainer.early_stopper.best_weights is not None:
        model.load_state_dict(trainer.early_stopper.best_weights)
    click = _predict(model, columns[split["pair"][tune]])[:, 1]
    rates = _predict(model, columns[split["test"]])
    return roc_auc_score(split["click"][tune], click), (rates[:, 1], rates[:, 2])


def _predict(model: torch.nn.Module, columns: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        blocks = [
            model({f"x{k}": block[:, k] for k in range(block.shape[1])})
            for block in columns.split(16_384)
        ]
    return torch.cat(blocks).numpy()


serve({"rechub_dense": dense, "rechub_binned": binned})
