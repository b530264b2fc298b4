"""The floor: scores that know nothing."""

from typing import Self

import numpy as np

from heft.importance.base import ImportanceData, check_fitted
from heft.importance.nearest import row_keys, salted
from heft.importance.registry import register

__all__ = ["RandomScores"]


@register("random")
class RandomScores:
    """Scores drawn evenly from [0, 1) by a hash of each row.

    What any estimator has to beat. The hash is of the row's group, pair, position
    and features and of the seed, so that a row has the same score in any order
    and any shard; the label is left out, so that it cannot leak.

    Cost: O(n · d) time, O(n) memory.

    Args:
        random_state: another seed gives scores independent of these.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Learns nothing."""
        self.fitted_ = True
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32 in [0, 1)."""
        check_fitted(self, "fitted_")
        row = row_keys(data.features).view(np.int64)
        keys = salted(self.random_state, data.group, data.pair, data.position, row)
        return ((keys >> np.uint64(40)) / np.float64(2**24)).astype(np.float32)
