"""Which model settings are searched, and how."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from heft.model.settings import ModelSettings
from heft.settings import Settings

__all__ = ["TUNABLE", "SpaceEntry", "TuneSettings"]

# What leaves the loss on `tune` comparable: none of these is a part of that loss.
TUNABLE = (
    "architecture", "body", "hidden", "experts", "cross_layers", "dropout", "categorical_width",
    "l2", "epochs", "batch_size", "learning_rate", "clip_norm", "weights", "curriculum_epochs",
    "meta_every",
)  # fmt: skip


class SpaceEntry(Settings):
    """The values that a setting may take: some, or a range.

    Attributes:
        values: one of these.
        low, high: from `low` to `high`, both included; integers where the setting is one.
        log: even in the logarithm.
    """

    values: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _some_or_a_range(self) -> Self:
        ends = (self.low, self.high)
        if self.values is not None:
            if ends != (None, None) or self.log:
                raise ValueError("values and a range: expected `values`, or `low` and `high`")
            if not self.values:
                raise ValueError("values=[] leaves nothing to choose from: expected one or more")
        elif self.low is None or self.high is None:
            raise ValueError(f"low={self.low}, high={self.high}: expected both, or `values`")
        elif not self.low < self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        elif self.log and not self.low > 0:
            raise ValueError(f"low={self.low} has no logarithm: expected a number above 0")
        return self


class TuneSettings(Settings):
    """A search for model settings.

    Attributes:
        trials: models trained at most; the first has the config's own settings.
        oracle: `bayesian` draws a few at random, then where a Gaussian process of the
            losses so far expects or may hide the least (KerasTuner); `random` draws on.
        space: what each setting may be; None is the space of `heft.tuning.space`. Settings
            that are not in it stay as the config has them.
        seed: of the search; the config's `seed` unless set here.
    """

    trials: int = Field(20, ge=2)
    oracle: Literal["bayesian", "random"] = "bayesian"
    space: dict[str, SpaceEntry] | None = None
    seed: int = Field(0, ge=0)

    @field_validator("space")
    @classmethod
    def _of_the_model(cls, space: dict[str, SpaceEntry] | None) -> dict[str, SpaceEntry] | None:
        if space is None:
            return None
        if not space:
            raise ValueError("nothing to search: name a setting of `model`, or leave `space` out")
        for name, entry in space.items():
            if name not in TUNABLE:
                raise ValueError(f"{name!r} cannot be searched: expected some of {list(TUNABLE)}")
            for value in (entry.low, entry.high) if entry.values is None else entry.values:
                _check(name, value)
        return space


def _check(name: str, value: Any) -> None:
    try:
        ModelSettings.model_validate({name: value})
    except ValidationError as error:
        raise ValueError(f"{name} cannot be {value!r}: {error.errors()[0]['msg']}") from error
