"""Which batches one training sees, and in how many steps."""

from dataclasses import dataclass

import tensorflow as tf

from heft.errors import ConfigError
from heft.model.inputs import evaluation_batches, steps_per_epoch, training_batches
from heft.model.ledger import Ledger
from heft.model.network import InputSizes
from heft.model.packing import PackedRows
from heft.model.poisson import PoissonRows
from heft.model.settings import ModelSettings
from heft.model.weighting import Weighting

__all__ = ["Plan", "TrainingRows", "largest_batch"]

_STEPS_PER_EPOCH, _SMALLEST_BATCH = 100, 64


def largest_batch(rows: int) -> int:
    """The most rows of a step, so that an epoch of `rows` has about a hundred."""
    return max(rows // _STEPS_PER_EPOCH, _SMALLEST_BATCH)


@dataclass(frozen=True)
class TrainingRows:
    """What a model learns from, and what tells when to stop."""

    train: PackedRows
    tune: PackedRows


@dataclass(frozen=True)
class Plan:
    """Batches and steps of one training.

    Attributes:
        rows, sizes, settings: as of `train`.
        mode: how weights are used; `none` for the control.
        batch_size: rows of a step, a multiple of the devices.
        strategy: the devices.
    """

    rows: TrainingRows
    sizes: InputSizes
    settings: ModelSettings
    mode: str
    batch_size: int
    strategy: tf.distribute.Strategy

    @classmethod
    def of(
        cls,
        rows: TrainingRows,
        sizes: InputSizes,
        settings: ModelSettings,
        mode: str,
        strategy: tf.distribute.Strategy,
    ) -> "Plan":
        """With steps of at most the settings' size, and so many that an epoch has a hundred."""
        size = min(settings.batch_size, largest_batch(rows.train.rows), rows.train.rows)
        devices = strategy.num_replicas_in_sync
        return cls(rows, sizes, settings, mode, max(size // devices, 1) * devices, strategy)

    def check(self, soft: bool) -> None:
        """Raises ConfigError for what only one device can do."""
        devices = self.strategy.num_replicas_in_sync
        if devices == 1:
            return
        for asked, what, instead in (
            (self.learned, "weights='learned'", "weights: loss"),
            (soft, "student", "no student"),
            (self.settings.privacy is not None, "privacy", "no privacy"),
        ):
            if asked:
                raise ConfigError(
                    f"{what} on {devices} devices: expected one; choose strategy: one_device, "
                    f"or {instead}"
                )

    @property
    def learned(self) -> bool:
        """Whether weights are learned on `tune`."""
        return self.mode == "learned"

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return steps_per_epoch(self.rows.train.rows, self.batch_size, self.even)

    @property
    def even(self) -> bool:
        """Whether all batches have to be of one size."""
        return self.strategy.num_replicas_in_sync > 1

    @property
    def secret(self) -> int:
        """Seed of private samples and noise; the control has its own, or both would cancel."""
        return 2 * self.settings.seed + (self.mode == "none")

    def poisson(self) -> PoissonRows | None:
        """What draws the batches of a private training; None for others."""
        if self.settings.privacy is None:
            return None
        return PoissonRows(self.rows.train, self.batch_size, self.secret)

    def ledger(self) -> Ledger | None:
        """What counts epsilon; None without `privacy`."""
        privacy, count = self.settings.privacy, self.rows.train.rows
        return Ledger.of(privacy, count, self.batch_size, self.steps) if privacy else None

    @property
    def positions(self) -> bool:
        """Whether the model takes positions."""
        return self.settings.position == "additive"

    def batches(self, begin: int) -> tf.data.Dataset:
        """Of all epochs from `begin`."""
        weighting = Weighting(self.mode, self.rows.train, self.settings.curriculum_epochs)
        return training_batches(
            self.rows.train, self.sizes, weighting, batch_size=self.batch_size,
            seed=self.settings.seed, epochs=range(begin, self.settings.epochs),
            positions=self.positions, even=self.even, poisson=self.poisson(),
        )  # fmt: skip

    def clean_batches(self, begin: int) -> tf.data.Dataset:
        """Of the tune split without end, for the weight net, from where `begin` epochs left it."""
        endless = training_batches(
            self.rows.tune, self.sizes, Weighting("loss", self.rows.tune),
            batch_size=self.batch_size, seed=self.settings.seed + 1, epochs=range(2**31),
            positions=self.positions,
        )  # fmt: skip
        return endless.skip(-(-begin * self.steps // self.settings.meta_every))

    def tune_batches(self) -> tf.data.Dataset:
        """Of the tune split, each row once."""
        return evaluation_batches(
            self.rows.tune, self.sizes, batch_size=4 * self.batch_size,
            weighted=self.mode != "none", positions=self.positions,
        )  # fmt: skip
