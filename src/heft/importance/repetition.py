"""A query and item seen a thousand times does not teach a thousand times as much."""

from typing import Self

import numpy as np

from heft.errors import ConfigError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.keys import look_up
from heft.importance.registry import register

__all__ = ["Repetition"]

Array = np.ndarray


@register("repetition")
class Repetition:
    """n^−power for each impression of a query and item shown n times, mean 1 over `fit`'s rows.

    Repetitions average out the noise of a pair's clicks, and not what the model
    cannot say of the pair: with a share τ² of variance between pairs, the best
    weight of n impressions of variance σ² is n / (σ² + nτ²), between n (power 0)
    and 1 (power 1) (random effects, Searle 1971). A power of 0.5 lies between.

    Args:
        power: in [0, 1].
    """

    def __init__(self, power: float = 0.5) -> None:
        if not 0 <= power <= 1:
            raise ConfigError(f"power={power} must be in [0, 1]")
        self.power = power

    def fit(self, data: ImportanceData) -> Self:
        """Counts."""
        self.keys_, counts = np.unique(data.pair, return_counts=True)
        weight = counts.astype(float) ** -self.power
        self.scale_ = counts.sum() / (counts * weight).sum() if len(counts) else 1.0
        self.weights_ = weight * self.scale_
        return self

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32, above 0; a pair that `fit` has not met counts as seen once."""
        check_fitted(self, "keys_")
        if not len(self.keys_):
            return np.ones(len(data), np.float32)
        place, known = look_up(data.pair, self.keys_)
        return np.where(known, self.weights_[place], self.scale_).astype(np.float32)

    def score(self, data: ImportanceData) -> Array:
        """The same as `weight`."""
        return self.weight(data)
