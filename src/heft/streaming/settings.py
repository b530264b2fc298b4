"""When files are taken, and when a model is trained on them."""

from typing import Self

from pydantic import Field, model_validator

from heft.settings import Settings

__all__ = ["StreamingSettings"]


class StreamingSettings(Settings):
    """Near-real-time training.

    Attributes:
        inbox: folder that files land in, `<inbox>/<stream>/<file>`; they are moved from there
            into the log, each micro-batch as a span of its own.
        settle_seconds: a file is taken when nobody has written to it for so long.
        poll_seconds: between two looks.
        window: spans that a model is trained on, the latest ones.
        every_seconds: train when the last time was so long ago and something is new; None for
            no schedule.
        conversions: train when so many have come since the last time; None for no count.
    """

    inbox: str | None = None
    settle_seconds: float = Field(10.0, ge=0)
    poll_seconds: float = Field(5.0, gt=0)
    window: int = Field(7, ge=1, le=10_000)
    every_seconds: float | None = Field(3_600.0, gt=0)
    conversions: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _something_starts_a_training(self) -> Self:
        if self.every_seconds is None and self.conversions is None:
            raise ValueError(
                "every_seconds=null and conversions=null: no model would ever be trained; set one"
            )
        return self
