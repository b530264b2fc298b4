"""What shoppers do: formulas of examination, clicks and conversions."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from heft.simulate.judgements import MAX_GRADE

__all__ = ["attractiveness", "click_given_examination", "conversion_probability", "delays_ms",
           "examination"]  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Measured by eye tracking; Ai et al., Unbiased Learning to Rank with Unbiased
# Propensity Estimation, SIGIR 2018, after Joachims et al., SIGIR 2005.
_EXAMINATION = np.array([0.68, 0.61, 0.48, 0.34, 0.28, 0.20, 0.11, 0.10, 0.08, 0.06])
_CLICK_NOISE = 0.1
_MILLISECONDS_PER_HOUR = 3_600_000.0


def examination(rank: Ints, eta: float | Floats) -> Floats:
    """Probability that the item at `rank` (from 0 to 9) is looked at, to the power `eta`."""
    return np.asarray(_EXAMINATION[rank] ** eta, dtype=np.float64)


def attractiveness(grade: Ints) -> Floats:
    """Probability of a click if examined and position did not matter, in [.1, 1].

    epsilon + (1 - epsilon) (2^grade - 1) / (2^3 - 1), Chapelle et al., Expected
    Reciprocal Rank, CIKM 2009, with the noise of Ai et al., SIGIR 2018.
    """
    gain = np.asarray((2.0**grade - 1.0) / (2.0**MAX_GRADE - 1.0), dtype=np.float64)
    return _CLICK_NOISE + (1.0 - _CLICK_NOISE) * gain


def click_given_examination(
    attraction: Floats, rank: Ints, trust_bias: float | Literal["none"]
) -> Floats:
    """Probability of a click if examined, with the trust that a rank earns.

    e- + (e+ - e-) attraction, e+ = 1 / (1 + .005 rank), e- = trust_bias .65 /
    (rank + 1), rank from 0: Vardasbi, Oosterhuis and de Rijke, When Inverse
    Propensity Scoring does not Work, CIKM 2020.
    """
    if trust_bias == "none":
        return attraction
    positive = 1.0 / (1.0 + 0.005 * rank)
    negative = trust_bias * 0.65 / (rank + 1.0)
    return negative + (positive - negative) * attraction


def conversion_probability(grade: Ints) -> Floats:
    """Probability that a click of an item of `grade` ends in a conversion, in [.02, .3]."""
    return 0.02 + 0.28 * (grade / MAX_GRADE) ** 2


def delays_ms(
    rng: np.random.Generator,
    count: int,
    kind: Literal["exponential", "weibull"],
    mean_hours: float,
    shape: float,
) -> Ints:
    """Milliseconds from click to conversion, at least 1, shape (count,).

    Weibull delays have the shape parameter `shape`; below 1 most conversions
    are quick and a few take very long. Both kinds have the mean `mean_hours`.
    """
    if kind == "exponential":
        hours = rng.exponential(mean_hours, count)
    else:
        hours = mean_hours / math.gamma(1.0 + 1.0 / shape) * rng.weibull(shape, count)
    return np.maximum(hours * _MILLISECONDS_PER_HOUR, 1.0).astype(np.int64)
