"""Negatives that were sampled down, counted as often as they occurred."""

from typing import Self

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.registry import register

__all__ = ["NegativeSampling", "logit_offset", "undo_sampling"]

Array = np.ndarray


@register("negative_sampling")
class NegativeSampling:
    """1 for a positive, 1/rate for a negative that was kept with that rate.

    The Horvitz–Thompson estimator (1952, A Generalization of Sampling Without
    Replacement From a Finite Universe): any weighted sum has the expectation of
    the sum over the full log, exactly. Unweighted, the odds of a positive are
    1/rate times too high.

    The column `sampling` holds the rate of each row as a negative of its task: a
    click without a conversion that was kept for its click has 1. O(n).
    """

    def fit(self, data: ImportanceData) -> Self:
        """Checks the rates; there is nothing to learn.

        Raises:
            DataError: no column `sampling`, or a rate outside (0, 1].
        """
        _rates(data)
        self.fitted_ = True
        return self

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 1; not normalised."""
        check_fitted(self, "fitted_")
        return np.where(data.label == 1, 1.0, 1.0 / _rates(data)).astype(np.float32)

    def score(self, data: ImportanceData) -> Array:
        """The weight: how many rows of the full log a row stands for."""
        return self.weight(data)


def logit_offset(rate: Array | float) -> Array:
    """log(rate), at most 0: added to the logit of a model trained without these weights.

    Negatives kept at `rate` multiply the odds by 1/rate, whatever the features,
    so that the correction of the logit is exact.

    Raises:
        DataError: a rate outside (0, 1].
    """
    return np.log(_check(np.asarray(rate, np.float64)))


def undo_sampling(probability: Array, rate: Array | float) -> Array:
    """p / (p + (1 − p)/rate): the calibrated probability, in [0, 1].

    He et al. (2014), Practical Lessons from Predicting Clicks on Ads at Facebook.

    Args:
        probability: (n,) in [0, 1], of a model trained on sampled negatives
            without weights.
        rate: in (0, 1], one or (n,).

    Raises:
        DataError: a rate outside (0, 1].
    """
    probability = np.asarray(probability, np.float64)
    rate = _check(np.asarray(rate, np.float64))
    return probability / (probability + (1 - probability) / rate)


def _rates(data: ImportanceData) -> Array:
    rates = need_column(data, "sampling", "negative_sampling").astype(np.float64)
    # What a positive's column says plays no part.
    _check(rates[data.label == 0])
    return np.where(data.label == 1, 1.0, rates)


def _check(rates: Array) -> Array:
    odd = ~((rates > 0) & (rates <= 1))
    if odd.any():
        raise DataError(
            f"sampling={rates[odd].flat[0]} in {int(odd.sum())} rows: expected values in (0, 1], "
            "the probability with which a negative was kept"
        )
    return rates
