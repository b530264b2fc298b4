"""Groups of settings below `model`, each off unless it is given."""

import importlib.util
import sys
from typing import Annotated, Literal

from pydantic import Field

from heft.errors import ConfigError
from heft.settings import Settings

__all__ = [
    "CompressionSettings", "PrivacySettings", "StudentSettings", "TrackingSettings",
    "WandbSettings", "Width",
]  # fmt: skip


Width = Annotated[int, Field(ge=1)]  # of a layer


class CompressionSettings(Settings):
    """In how many bits the exported weights are stored; the graph computes in 32 all the same.

    Attributes:
        table: vectors of texts: `float16`, or `int8` with one scale per vector.
        network: kernels and categorical embeddings: `float16`, or `int8` with one scale
            per output of a layer and per value of a category.
    """

    table: Literal["none", "float16", "int8"] = "none"
    network: Literal["none", "float16", "int8"] = "none"

    @property
    def any(self) -> bool:
        """Whether something is stored otherwise than it was trained."""
        return (self.table, self.network) != ("none", "none")


class PrivacySettings(Settings):
    """DP-SGD: what a model may tell of one training impression.

    Attributes:
        noise_multiplier: standard deviation of the noise in a step's sum, in clip norms.
        clip_norm: to which the gradient of a row is cut.
        delta: for which epsilon is said; well below one over the rows.
    """

    noise_multiplier: float = Field(1.0, gt=0, allow_inf_nan=False)
    clip_norm: float = Field(1.0, gt=0, allow_inf_nan=False)
    delta: float = Field(1e-5, gt=0, lt=1)


class StudentSettings(Settings):
    """A smaller network that learns from the trained one and is served in its place.

    Attributes:
        hidden: widths of each of its bodies.
        share: of what it learns that comes from the larger one and not from the labels.
    """

    hidden: tuple[Width, ...] = Field((16,), min_length=1)
    share: float = Field(0.5, gt=0, le=1)


class WandbSettings(Settings):
    """A project of Weights & Biases.

    Attributes:
        project: its name.
        mode: `offline` writes a run beside the model's logs, `online` sends it too.
    """

    project: str = Field(min_length=1)
    mode: Literal["offline", "online"] = "offline"


class TrackingSettings(Settings):
    """Who is told of a training beside TensorBoard.

    Attributes:
        wandb: Weights & Biases, if the package is there.
    """

    wandb: WandbSettings | None = None

    def check(self) -> None:
        """Raises ConfigError if what is asked for is not installed."""
        if self.wandb is not None and not _installed("wandb"):
            raise ConfigError(
                "model.tracking.wandb is set and the package wandb is not installed: install it "
                "with pip install 'heft[wandb]' or pip install wandb, or leave the setting out"
            )


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # sys.modules holds None, or a module without a spec
        return sys.modules.get(package) is not None
