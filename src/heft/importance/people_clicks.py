"""How people click: examination by position times attractiveness of the pair."""

from dataclasses import replace
from typing import Self

import numpy as np
from scipy.special import gammaln
from sklearn.linear_model import PoissonRegressor

from heft.importance.base import ImportanceData

__all__ = ["PeopleClicks", "code_of", "place_of"]

Array = np.ndarray

DEEPEST = 31  # positions below it share its examination
_ROUNDS = 8
_MOST_PAIRS = 100_000  # that the prior of attractiveness is learned from
_STRENGTHS = np.array([0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
_CONTRASTS = np.linspace(0.0, 2.0, 21)
_CONTRAST_PRIOR = 500.0  # rows' worth of belief that all positions are alike
_FEWEST_CLICKS = 50  # that a prior is learned from
_BOUND = 5.0  # standard deviations
_RIDGE = 1e-3
_BLOCK = 8192
_POSITION_PRIOR = 5.0  # clicks' worth of belief that neighbouring positions are alike


class PeopleClicks:
    """P(click) = θ_k (ā_k + γ_k (a − ā_k)), people's, from a log that bots are in too.

    θ_k is the examination of position k, a the attractiveness of the pair, ā_k
    its mean at k and γ_k how much it matters there: clicks that rank alone earns
    (trust bias) or that come by accident make it less, the more the deeper. Each
    γ_k is the likeliest of a grid.

    Clicks ~ Poisson(θ_k a_j) with a_j ~ Gamma(mean m_j, strength κ). m_j is a
    log-linear regression on the pair's features and relevance; κ has the largest
    marginal likelihood. So a pair that was shown often is judged by its own
    clicks, a pair shown once by its text. What a row is compared with leaves
    out the clicks of its own user: a bot must not vouch for itself.

    Cost: O(rows · 8) time beside a regression on at most 100,000 pairs; pickled, 16
    bytes for each distinct (user, pair), 24 a pair and 8 a user.

    Attributes:
        theta_: (32,) examination relative to the first position; index 0 for rows
            whose position is unknown.
        contrast_: (32,) γ.
        strength_: κ, in examined showings.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, data: ImportanceData, user: Array, weight: Array) -> Self:
        """Estimates θ, a and κ.

        Args:
            data: the samples.
            user: (n,) int64, whose clicks are left out together.
            weight: (n,) in [0, 1], P(the row's clicks come from a person).
        """
        self.pairs_, code = np.unique(data.pair, return_inverse=True)
        place = place_of(data.position)
        clicked = weight * data.label
        click_by_pair = np.bincount(code, clicked)
        theta = _rates(place, clicked, weight * clicked.sum() / max(weight.sum(), 1e-12))
        pairs = _typical(data, code)
        for step in range(_ROUNDS):
            exposure = np.bincount(code, weight * theta[place])
            if step in (0, _ROUNDS // 2):
                self._fit_prior(pairs, click_by_pair, exposure)
                prior = self._prior(pairs)
                self.strength_ = _strength(click_by_pair, exposure, prior)
            attraction = (click_by_pair + self.strength_ * prior) / (exposure + self.strength_)
            theta = _rates(place, clicked, weight * attraction[code])
        self.theta_ = theta
        self.clicks_, self.exposure_ = click_by_pair, np.bincount(code, weight * theta[place])
        self._remember_users(user, code, clicked, weight * theta[place])
        own = self._attraction(data, user)
        shown = np.bincount(place, weight, minlength=DEEPEST + 1)
        total = np.bincount(place, weight * own, minlength=DEEPEST + 1)
        self.level_ = (total + self.mean_) / (shown + 1.0)
        self.contrast_ = self._contrast(place, own, data.label, weight)
        return self

    def attraction(self, data: ImportanceData, user: Array) -> Array:
        """(n,) float64 > 0: P(click) over θ, the clicks of the row's user left out."""
        place = place_of(data.position)
        level = self.level_[place]
        return level + self.contrast_[place] * (self._attraction(data, user) - level)

    def _contrast(self, place: Array, attraction: Array, label: Array, weight: Array) -> Array:
        """(32,) in [0, 1.2], the likeliest by position; sparse positions lean on all."""
        value = np.empty((len(_CONTRASTS), DEEPEST + 1))
        level = self.level_[place]
        for row, contrast in enumerate(_CONTRASTS):
            chance = self.theta_[place] * (level + contrast * (attraction - level))
            chance = np.clip(chance, 1e-4, 0.98)
            happened = np.log(np.where(label == 1, chance, 1 - chance))
            value[row] = np.bincount(place, weight * happened, minlength=DEEPEST + 1)
        pooled = value.sum(axis=1, keepdims=True) * _CONTRAST_PRIOR / max(weight.sum(), 1.0)
        return np.asarray(_CONTRASTS[np.argmax(value + pooled, axis=0)])

    def _attraction(self, data: ImportanceData, user: Array) -> Array:
        """(n,) float64 > 0, before the contrast of its position."""
        code, known = code_of(data.pair, self.pairs_)
        clicks = np.where(known, self.clicks_[code], 0.0)
        exposure = np.where(known, self.exposure_[code], 0.0)
        place, own_user = code_of(user, self.users_)
        key, own = code_of(place * len(self.pairs_) + code, self.keys_)
        own &= known & own_user
        clicks = clicks - np.where(own, self.own_clicks_[key], 0.0)
        exposure = exposure - np.where(own, self.own_exposure_[key], 0.0)
        prior = self.strength_ * self._prior(data)
        return (np.maximum(clicks, 0.0) + prior) / (np.maximum(exposure, 0.0) + self.strength_)

    def _fit_prior(self, pairs: ImportanceData, clicks: Array, exposure: Array) -> None:
        """Attractiveness from what is known of a pair before it is shown."""
        self.mean_ = max(float(clicks.sum() / max(exposure.sum(), 1e-12)), 1e-4)
        self.model_: PoissonRegressor | None = None
        shown = np.flatnonzero(exposure > 1e-6)
        if len(shown) > _MOST_PAIRS:
            rng = np.random.default_rng(self.random_state)
            shown = np.sort(rng.choice(shown, _MOST_PAIRS, replace=False))
        inputs = _inputs(pairs)[shown]
        if inputs.shape[1] == 0 or clicks[shown].sum() < _FEWEST_CLICKS:
            return
        self.centre_, self.scale_ = inputs.mean(axis=0), inputs.std(axis=0)
        self.model_ = PoissonRegressor(alpha=_RIDGE, solver="newton-cholesky").fit(
            self._curved(inputs), clicks[shown] / exposure[shown], exposure[shown]
        )

    def _prior(self, data: ImportanceData) -> Array:
        """(n,) float64, m of each row's pair."""
        if self.model_ is None:
            return np.full(len(data), self.mean_)
        if not len(data):
            return np.empty(0)
        # A block at a time: the inputs and their squares are wide.
        inputs, parts = _inputs(data), range(0, len(data), _BLOCK)
        found = [self.model_.predict(self._curved(inputs[k : k + _BLOCK])) for k in parts]
        return np.clip(np.concatenate(found), self.mean_ / 50, 1.0)

    def _curved(self, inputs: Array) -> Array:
        """(n, 2d) float64: standardised inputs, within bounds, and their squares."""
        scale = np.where(self.scale_ > 1e-9, self.scale_, 1.0)
        known = np.clip((inputs - self.centre_) / scale, -_BOUND, _BOUND).astype(float)
        return np.concatenate([known, known**2], axis=1)

    def _remember_users(self, user: Array, code: Array, clicks: Array, exposure: Array) -> None:
        self.users_, who = np.unique(user, return_inverse=True)
        self.keys_, key = np.unique(who * len(self.pairs_) + code, return_inverse=True)
        # The largest part of what is carried to other processes.
        self.own_clicks_ = np.bincount(key, clicks).astype(np.float32)
        self.own_exposure_ = np.bincount(key, exposure).astype(np.float32)


def place_of(position: Array) -> Array:
    """(n,) int64 in [0, 31]: positions, the deepest ones together; 0 for unknown."""
    return np.clip(np.asarray(position, np.int64), 0, DEEPEST)


def code_of(values: Array, known: Array) -> tuple[Array, Array]:
    """Where each value stands in the sorted `known`, and whether it is there at all."""
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return place, known[place] == values


def _typical(data: ImportanceData, code: Array) -> ImportanceData:
    """One row for each pair, in the order of `code`, with the mean inputs of the pair's rows."""
    rows = np.unique(code, return_index=True)[1]
    shown = np.bincount(code)

    def mean(column: Array) -> Array:
        return (np.bincount(code, column) / shown).astype(np.float32)

    features = [mean(data.features[:, k]) for k in range(data.features.shape[1])]
    stacked = np.stack(features, axis=1) if features else np.empty((len(rows), 0), np.float32)
    known = None if data.relevance is None else mean(_relevance(data.relevance))
    return replace(data.take(rows), features=stacked, relevance=known)


def _relevance(column: Array) -> Array:
    return np.asarray(np.nan_to_num(column, posinf=0.0, neginf=0.0))


def _inputs(data: ImportanceData) -> Array:
    """(n, d): the features, and the relevance where there is one, 0 where it is NaN."""
    if data.relevance is None:
        return data.features
    return np.concatenate([data.features, _relevance(data.relevance)[:, None]], axis=1)


def _rates(place: Array, clicked: Array, expected: Array) -> Array:
    """Clicks over expected clicks by position, relative to the first one shown."""
    got = np.bincount(place, clicked, minlength=DEEPEST + 1)
    want = np.bincount(place, expected, minlength=DEEPEST + 1)
    # A position that was hardly shown leans on the one above.
    rate = np.ones(DEEPEST + 1)
    overall = got.sum() / max(want.sum(), 1e-12)
    above = overall
    for k in range(DEEPEST + 1):
        if want[k] > 0:
            above = (got[k] + _POSITION_PRIOR * above) / (want[k] + _POSITION_PRIOR)
        rate[k] = above
    top = rate[1] if want[1] > 0 else rate.max()
    return np.asarray(np.clip(rate / max(top, 1e-9), 1e-3, 3.0))


def _strength(clicks: Array, exposure: Array, prior: Array) -> float:
    """The κ under which the pairs' clicks are likeliest (negative binomial)."""
    seen = exposure > 0
    c, e, m = clicks[seen], exposure[seen], prior[seen]
    value = [
        float(np.sum(gammaln(c + k * m) - gammaln(k * m)
                     + k * m * np.log(k / (e + k)) - c * np.log(e + k)))
        for k in _STRENGTHS
    ]  # fmt: skip
    return float(_STRENGTHS[int(np.argmax(value))])
