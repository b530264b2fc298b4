"""The probability that a position is examined, estimated from the log.

Two ways, both *intervention harvesting*: pages whose order was shuffled
(Joachims, Swaminathan & Schnabel 2017), and where there are none, the same
query and item seen at different positions (Agarwal et al. 2019, AllPairs).
Examination is relative to position 1, which is set to 1.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from heft.errors import DataError

__all__ = ["Examination", "from_pairs", "from_shuffled_pages"]

Array = np.ndarray

# Positions below are pooled with it: nobody looks there, and a sentinel such as
# 2147483647 must not make a curve of that length.
_DEEPEST = 500


@dataclass(frozen=True)
class Examination:
    """Relative examination by position.

    Attributes:
        values: (positions,) float64 in (0, 1], non-increasing; index 0 is position 1.
        clicks: clicks the estimate rests on.
        source: how it was estimated.
    """

    values: Array
    clicks: int
    source: str

    def at(self, position: Array) -> Array:
        """Examination of each position, (n,); beyond the last known one, the last.

        An unknown position (0) is taken for the first, as it is by `ClickModel.at`.
        """
        index = np.clip(np.asarray(position, np.int64), 1, len(self.values)) - 1
        return self.values[index]


def from_shuffled_pages(position: Array, click: Array, minimum_clicks: int = 50) -> Examination:
    """Click rate by position on shuffled pages, monotone, relative to position 1.

    On such pages relevance does not depend on position, so that click rates are
    proportional to examination.

    Args:
        position: (n,) int from 1; rows of 0, unknown, are left out.
        click: (n,) {0, 1}.
        minimum_clicks: fewer than this and the estimate is refused.

    Raises:
        DataError: fewer clicks than `minimum_clicks`.
    """
    position, click = _placed(position, click)
    clicks = int(click.sum())
    if clicks < minimum_clicks:
        raise DataError(
            f"{clicks} clicks on shuffled pages: expected at least {minimum_clicks} to estimate "
            "examination; shuffle more pages or lower minimum_clicks"
        )
    position = np.minimum(position, _DEEPEST)
    last = int(position.max())
    shown = np.bincount(position, minlength=last + 1)[1:].astype(float)
    clicked = np.bincount(position, weights=click, minlength=last + 1)[1:]
    return Examination(_monotone(clicked, shown), clicks, "shuffled pages")


def from_pairs(
    position: Array, click: Array, pair: Array, minimum_clicks: int = 50, iterations: int = 100
) -> Examination:
    """Examination from the same query and item shown at different positions.

    Fits clicks ~ Poisson(shown * examination[position] * attractiveness[pair])
    by alternating closed-form maximisation: attractiveness is free per pair, so
    only pairs seen at two or more positions inform the curve.

    Args:
        position: (n,) int from 1; rows of 0, unknown, are left out.
        click: (n,) {0, 1}.
        pair: (n,) int, equal for the same query and item.
        minimum_clicks: fewer than this on informative pairs and the estimate is refused.
        iterations: of the alternation; it converges linearly.

    Raises:
        DataError: no position, or too few clicks on pairs seen at different ones.
    """
    position, click, pair = _placed(position, click, pair)
    position = np.minimum(position, _DEEPEST)
    _, pair = np.unique(pair, return_inverse=True)
    last, pairs = int(position.max()), int(pair.max()) + 1
    cell, inverse = np.unique(pair * (last + 1) + position, return_inverse=True)
    shown = np.bincount(inverse).astype(float)
    clicked = np.bincount(inverse, weights=click)
    cell_pair, cell_position = cell // (last + 1), cell % (last + 1) - 1
    informative = (np.bincount(cell_pair, minlength=pairs) >= 2)[cell_pair]
    clicks = int(clicked[informative].sum())
    if clicks < minimum_clicks:
        raise DataError(
            f"{clicks} clicks on query-item pairs seen at several positions: expected at least "
            f"{minimum_clicks}; log more, shuffle some pages, or log propensities"
        )
    shown, clicked = shown[informative], clicked[informative]
    cell_pair, cell_position = cell_pair[informative], cell_position[informative]
    clicked_by_pair = np.bincount(cell_pair, weights=clicked, minlength=pairs)
    clicked_by_position = np.bincount(cell_position, weights=clicked, minlength=last)
    theta = np.ones(last)
    for _ in range(iterations):
        expected = np.bincount(cell_pair, weights=shown * theta[cell_position], minlength=pairs)
        attractiveness = clicked_by_pair / np.maximum(expected, 1e-12)
        exposure = np.bincount(
            cell_position, weights=shown * attractiveness[cell_pair], minlength=last
        )
        theta = clicked_by_position / np.maximum(exposure, 1e-12)
        theta = theta / max(theta[0], 1e-12)
    return Examination(_monotone(theta * exposure, exposure), clicks, "query-item pairs")


def _placed(position: Array, *columns: Array) -> tuple[Array, ...]:
    """The columns where the position is known."""
    known = position > 0
    if not known.any():
        raise DataError(
            f"0 of {len(position)} rows have a position from 1: expected some to estimate "
            "examination; map the position column, log propensities, or use debias: none"
        )
    return tuple(column[known] for column in (position, *columns))


def _monotone(clicked: Array, exposure: Array) -> Array:
    """Non-increasing rates, weighted by exposure, relative to the first."""
    seen = exposure > 0
    rate = clicked[seen] / exposure[seen]
    # A position that nothing is known of takes the value of the nearest that is known.
    fit = IsotonicRegression(increasing=False, y_min=1e-6, out_of_bounds="clip")
    fit.fit(np.flatnonzero(seen), rate, sample_weight=exposure[seen])
    values = fit.predict(np.arange(len(exposure)))
    return np.clip(values / values[0], 1e-3, 1.0)
