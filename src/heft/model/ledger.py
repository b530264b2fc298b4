"""What a private training has spent, by epoch, and what goes with its model."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import keras

from heft.model.accountant import epsilon
from heft.model.inputs import evaluation_batches
from heft.model.network import InputSizes
from heft.model.options import PrivacySettings
from heft.model.packing import PackedRows

__all__ = ["Ledger", "Spending", "freeze_scales", "together"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ledger:
    """How much a step costs.

    Attributes:
        noise_multiplier, clip_norm, delta: see `PrivacySettings`.
        sampling_rate: how likely a row is in a step.
        steps_per_epoch: steps.
    """

    noise_multiplier: float
    clip_norm: float
    delta: float
    sampling_rate: float
    steps_per_epoch: int

    @classmethod
    def of(cls, privacy: PrivacySettings, rows: int, batch_size: int, steps: int) -> "Ledger":
        """Of a training on `rows`; says so if δ is no small number for them."""
        if privacy.delta * rows >= 1:
            log.warning(
                "privacy.delta=%g is not below 1/%d: with %d rows, one of them may be told in full",
                privacy.delta, rows, rows,
            )  # fmt: skip
        return cls(
            privacy.noise_multiplier, privacy.clip_norm, privacy.delta, batch_size / rows, steps
        )

    def spent(self, epochs: int) -> tuple[float, float]:
        """ε after `epochs`, and the order of Rényi divergence that shows it."""
        steps = epochs * self.steps_per_epoch
        return epsilon(self.sampling_rate, self.noise_multiplier, steps, self.delta)

    def facts(self, epochs: int) -> dict[str, Any]:
        """What `privacy.json` says of a model that was trained for `epochs`."""
        found, order = self.spent(epochs)
        return {"epsilon": found, "order": order, "epochs": epochs, **asdict(self)}


class Spending(keras.callbacks.Callback):
    """Adds `epsilon` to what is logged of an epoch; epochs before a restart count.

    It goes before the callbacks that write logs down.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """ε of all epochs so far."""
        if logs is not None:
            logs["epsilon"] = self.ledger.spent(epoch + 1)[0]


def together(models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The facts of each model, and ε of whoever sees all of them: their steps add up."""
    one = next(iter(models.values()))
    steps = sum(facts["epochs"] * facts["steps_per_epoch"] for facts in models.values())
    both, _ = epsilon(one["sampling_rate"], one["noise_multiplier"], steps, one["delta"])
    return {**models, "all_models": {"epsilon": both, "delta": one["delta"]}}


def freeze_scales(
    core: keras.Model,
    model: keras.Model,
    tune: PackedRows,
    sizes: InputSizes,
    positions: bool,
    fit: bool = True,
) -> None:
    """Makes batch normalisation a fixed scale, which no training row has part in.

    Mean and variance of a batch would let one row move the gradient of the others, beyond any
    clip. They are taken from `tune` instead, for which nothing is promised anyway.

    Args:
        core: whose normalisation is frozen, learned offset and factor included.
        model: the core behind the embedding table.
        tune: packed rows.
        sizes: of the model.
        positions: whether `model` takes them.
        fit: False keeps the statistics that the core has, of an earlier model.
    """
    scales = [x for x in core.layers if isinstance(x, keras.layers.BatchNormalization)]
    if fit:
        batches = evaluation_batches(
            tune, sizes, batch_size=8192, weighted=False, positions=positions
        )
        momenta = [scale.momentum for scale in scales]
        for number, (inputs, _) in enumerate(batches):
            for scale in scales:
                scale.momentum = number / (number + 1)  # the mean over batches
            model(inputs, training=True)
        for scale, momentum in zip(scales, momenta, strict=True):
            scale.momentum = momentum
    for scale in scales:
        scale.trainable = False
