"""How clicks depend on position: a slope and an offset, estimated from the log.

With trust bias the click rate at a position is not proportional to
attractiveness but affine in it: people click what stands high even where it is
not attractive. Vardasbi, Oosterhuis & de Rijke 2020, *When Inverse Propensity
Scoring does not Work*.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from heft.errors import ConfigError, DataError
from heft.importance.examination import Examination

__all__ = ["ClickCells", "ClickModel", "click_model_from_pairs"]

Array = np.ndarray

_DEEPEST = 500
_LEVELS = 24
_MARGIN = 1e-4
# Precision of a normal prior of offsets around 0: a log that says nothing of trust
# gets plain examination.
_DOUBT = 80.0


@dataclass(frozen=True)
class ClickModel:
    """P(click) = slope · attractiveness + offset, by position; attractiveness is in [0, 1].

    With plain examination the offset is 0 and the slope the examination. A log
    cannot tell the whole scale of attractiveness: slopes and offsets are right up
    to a constant factor and shift of it, which change no ranking.

    Attributes:
        slope: (positions,) float64, above 0; index 0 is position 1.
        offset: (positions,) float64, the clicks that trust alone brings.
        clicks: clicks the estimate rests on.
        source: how it was estimated.
        attractiveness: its mean over impressions, in (0, 1].
    """

    slope: Array
    offset: Array
    clicks: int = 0
    source: str = "given"
    attractiveness: float = 0.5

    def __post_init__(self) -> None:
        if np.shape(self.slope) != np.shape(self.offset) or not len(self.slope):
            raise ConfigError(
                f"slope has {np.shape(self.slope)} and offset {np.shape(self.offset)}: "
                "expected one of each for every position"
            )
        if not (np.asarray(self.slope) > 0).all():
            raise ConfigError(f"slope={np.min(self.slope)}: expected slopes above 0")

    @classmethod
    def of(cls, examination: Examination) -> "ClickModel":
        """Plain examination: no trust bias."""
        values = np.asarray(examination.values, float)
        return cls(values, np.zeros(len(values)), examination.clicks, examination.source)

    def at(self, position: Array) -> tuple[Array, Array]:
        """Slope and offset of each position, (n,) each; beyond the last known one, the last.

        An unknown position (0) is taken for the first.
        """
        index = np.clip(np.asarray(position, np.int64), 1, len(self.slope)) - 1
        return self.slope[index], self.offset[index]

    def of_conversions(self) -> "ClickModel":
        """The line of conversions over impressions, which has no offset.

        Whoever clicks out of trust may buy as well: with a conversion rate v after
        the click, a conversion has the probability (αa + β)v. Against av, what the
        model predicts, that is the factor α + β/a, here at the mean a.
        """
        slope = np.clip(self.slope + self.offset / self.attractiveness, 1e-3, 1.0)
        return ClickModel(slope, np.zeros(len(slope)), self.clicks, self.source)

    def as_examination(self) -> Examination:
        """The slopes, made non-increasing and within (0, 1]: all there is without trust."""
        falling = np.minimum.accumulate(np.clip(self.slope, 1e-3, 1.0))
        return Examination(falling, self.clicks, self.source)


@dataclass(frozen=True)
class ClickCells:
    """Impressions and clicks summed by pair and position: all that the estimate needs.

    Attributes:
        pair: (c,) int64 from 0; `keys[pair]` is the pair's own number.
        position: (c,) int64 from 0.
        shown, clicked: (c,) float64.
        keys: (pairs,) int64, sorted.
    """

    pair: Array
    position: Array
    shown: Array
    clicked: Array
    keys: Array = field(repr=False)

    @classmethod
    def of(
        cls, position: Array, click: Array, pair: Array, weight: Array | None = None
    ) -> "ClickCells":
        """Cells of n impressions; rows without a position are left out.

        Args:
            position: (n,) int from 1; positions past 500 are pooled.
            click: (n,) {0, 1}.
            pair: (n,) int.
            weight: (n,) how much of a row counts, in [0, 1]; ones if left out.
        """
        known = position > 0
        if not known.all():
            position, click, pair = position[known], click[known], pair[known]
            weight = None if weight is None else weight[known]
        keys, code = np.unique(pair, return_inverse=True)
        place = np.minimum(position, _DEEPEST).astype(np.int64) - 1
        cell, index = np.unique(code * _DEEPEST + place, return_inverse=True)
        mass = np.ones(len(place)) if weight is None else weight.astype(float)
        shown = np.bincount(index, mass, minlength=len(cell))
        clicked = np.bincount(index, mass * click, minlength=len(cell))
        return cls(cell // _DEEPEST, cell % _DEEPEST, shown, clicked, keys)

    def log_likelihood(self, slope: Array, offset: Array, levels: Array) -> Array:
        """(pairs, levels) log likelihood of a pair's clicks at each attractiveness."""
        chance = _chance(slope, offset, levels)
        clicked = self.table(self.clicked, len(slope))
        missed = self.table(self.shown - self.clicked, len(slope))
        return np.asarray(clicked @ np.log(chance) + missed @ np.log1p(-chance))

    def table(self, values: Array, positions: int) -> sparse.csr_array:
        """(pairs, positions) of one value for each cell."""
        shape = (len(self.keys), positions)
        return sparse.csr_array((values, (self.pair, self.position)), shape=shape)


def click_model_from_pairs(
    position: Array,
    click: Array,
    pair: Array,
    *,
    weight: Array | None = None,
    trust_bias: bool = True,
    minimum_clicks: int = 50,
    iterations: int = 400,
) -> ClickModel:
    """Slope and offset by position, from pairs of query and item seen at several positions.

    A pair's attractiveness is one of 24 levels, of unknown shares; its clicks at
    all positions are binomial given the level. Expectation maximisation gives
    the shares and the line of each position (a nonparametric mixture, Laird
    1978). A level is never estimated for a pair alone, so that pairs seen a few
    times do not bias the lines, and it does not matter how the production
    ranker placed them: shuffled pages help and are not needed.

    Args:
        position: (n,) int from 1.
        click: (n,) {0, 1}.
        pair: (n,) int, equal for the same query and item.
        weight: (n,) in [0, 1], the chance that a row is a person's.
        trust_bias: estimate offsets; else they are 0.
        minimum_clicks: fewer than this on pairs seen at two or more positions and
            the estimate is refused.
        iterations: most rounds; cost 24 · cells each.

    Raises:
        DataError: too few clicks on pairs seen at different positions.
    """
    cells = ClickCells.of(position, click, pair, weight)
    informative = (np.bincount(cells.pair, minlength=len(cells.keys)) >= 2)[cells.pair]
    clicks = round(float(cells.clicked[informative].sum()))
    if clicks < minimum_clicks:
        raise DataError(
            f"{clicks} clicks on query-item pairs seen at several positions: expected at least "
            f"{minimum_clicks}; log more, shuffle some pages, or log propensities"
        )
    slope, offset, mean = _maximise(cells, trust_bias, iterations)
    return ClickModel(slope, offset, clicks, "query-item pairs, levels", mean)


def _maximise(cells: ClickCells, trust_bias: bool, iterations: int) -> tuple[Array, Array, float]:
    places = int(cells.position.max()) + 1
    clicked = cells.table(cells.clicked, places)
    missed = cells.table(cells.shown - cells.clicked, places)
    levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
    slope = clicked.sum(axis=0) / np.maximum(clicked.sum(axis=0) + missed.sum(axis=0), 1e-9)
    slope = np.clip(slope / max(slope[0], 1e-9), 0.01, 1.0)
    offset, share = np.zeros(places), np.full(_LEVELS, 1 / _LEVELS)
    before = -np.inf
    for _ in range(iterations):
        chance = _chance(slope, offset, levels)
        log = clicked @ np.log(chance) + missed @ np.log1p(-chance) + np.log(share + 1e-300)
        top = log.max(axis=1, keepdims=True)
        belief = np.exp(log - top)
        total = belief.sum(axis=1, keepdims=True)
        belief /= total
        share = belief.mean(axis=0)
        lowest = float(levels[int(np.searchsorted(np.cumsum(share), 0.02))])
        yes, no = clicked.T @ belief, missed.T @ belief
        slope, offset = _lines(yes, no, levels, slope, offset, lowest, trust_bias)
        now = float((top + np.log(total)).sum())
        if now - before < 1e-7 * abs(now):
            break
        before = now
    shown = (yes + no).sum(axis=0)
    mean = float(np.average(levels, weights=shown))
    if not trust_bias:
        return slope, offset, mean
    low, high = _gauge(slope, offset, levels, share, yes.sum(axis=1))
    mean = float(np.clip((mean - low) / (high - low), 0.01, 1.0))
    return slope * (high - low), np.maximum(offset + slope * low, 0.0), mean


def _lines(
    yes: Array,
    no: Array,
    levels: Array,
    slope: Array,
    offset: Array,
    lowest: float,
    trust_bias: bool,
) -> tuple[Array, Array]:
    """The likeliest line of each position given (positions, levels) expected counts.

    Newton's method. While they are sought, position 1 has slope 1 and offset 0:
    attractiveness is the click rate there, which trust makes too high, so that
    the other offsets fall below 0.
    """
    for _ in range(4):
        chance = _chance(slope, offset, levels)
        pull = yes / chance - no / (1 - chance)
        curve = (yes + no) / (chance * (1 - chance))
        ga, gb = (pull * levels).sum(axis=1), pull.sum(axis=1) - _DOUBT * offset
        haa = (curve * levels**2).sum(axis=1) + 1e-6
        hab, hbb = (curve * levels).sum(axis=1), curve.sum(axis=1) + _DOUBT
        if trust_bias:
            determinant = np.maximum(haa * hbb - hab**2, 1e-12)
            slope = slope + (hbb * ga - hab * gb) / determinant
            offset = offset + (haa * gb - hab * ga) / determinant
        else:
            slope = slope + ga / haa
        slope = np.clip(slope, 5e-3, 1.5)
        slope[0], offset[0] = 1.0, 0.0
        # Even what attracts least is clicked now and then.
        offset = np.clip(offset, _MARGIN - slope * lowest, 0.95)
        offset[0] = 0.0
    return slope, offset


def _gauge(
    slope: Array, offset: Array, levels: Array, share: Array, clicks: Array
) -> tuple[float, float]:
    """The levels that are to become attractiveness 0 and 1.

    What a log cannot tell is fixed by two conventions: the deeper half of the
    page earns no clicks by trust, and the most attractive pairs have 1.
    """
    deep = np.arange(len(slope)) >= len(slope) // 2
    weight = np.where(deep, np.maximum(clicks, 1e-9), 0.0)
    low = float(np.average(np.maximum(-offset / slope, 0.0), weights=weight))
    top = int(np.searchsorted(np.cumsum(share), 0.98))
    high = float(levels[min(top, len(levels) - 1)])
    return min(low, 0.9 * high), high


def _chance(slope: Array, offset: Array, levels: Array) -> Array:
    """(positions, levels) in (0, 1)."""
    return np.clip(offset[:, None] + slope[:, None] * levels, _MARGIN, 1 - _MARGIN)
