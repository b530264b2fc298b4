"""Settings of the model and its training."""

from typing import Literal

from pydantic import Field

from heft.settings import Settings

__all__ = ["ModelSettings"]


class ModelSettings(Settings):
    """The network and the training loop.

    Attributes:
        hidden: widths of each task's tower.
        dropout: after each hidden layer, in [0, 1).
        categorical_width: embedding width of a categorical column; 0 leaves
            the columns out.
        l2: penalty on the towers' kernels and on categorical embeddings.
        cvr_weight: weight of the conversion loss beside the click loss.
        epochs: most passes over the training split.
        patience: epochs without a better tune loss before training stops and
            the best epoch is restored.
        batch_size: most rows per step; small logs take smaller steps, so that an
            epoch has about a hundred.
        learning_rate, clip_norm: of Adam.
        weights: `loss` trains on the pairs as they are; `learned` multiplies them
            by weights that a small network learns on the tune split meanwhile.
        meta_every: steps between two of that network, with `weights: learned`.
        reference_position: where `ctr` is predicted if no position is given.
        control: train the same model without weights beside it.
        seed: of initialisation and order; the same for the control.
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = Field(0.1, ge=0, lt=1)
    categorical_width: int = Field(4, ge=0)
    l2: float = Field(1e-2, ge=0)
    cvr_weight: float = Field(1.0, ge=0)
    epochs: int = Field(5, ge=1)
    patience: int = Field(2, ge=1)
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    clip_norm: float = Field(5.0, gt=0)
    weights: Literal["loss", "learned"] = "loss"
    meta_every: int = Field(2, ge=1)
    reference_position: int = Field(1, ge=1)
    control: bool = True
    seed: int = 0
