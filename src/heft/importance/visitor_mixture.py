"""Which visitors are people: a mixture of people and kinds of bots, fitted by EM."""

from itertools import product
from typing import Self

import numpy as np
from scipy.special import betaln

from heft.importance.behaviour_profile import DELAY_BINS, TEMPO_BINS, Profile

__all__ = ["KINDS", "VisitorMixture"]

Array = np.ndarray

KINDS = ("person", "uniform", "hammer", "competitor", "stealth", "other")
_RATES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # of clicks on what a bot is after
_FADES = (0.6, 1.0, 1.5, 2.2)  # exponents of examination
_SLIPS = (0.003, 0.01, 0.03)  # of clicks on anything else
_ROUNDS = 60
_BOT_PRIOR = 0.2  # visitors' worth of belief in each variety of bot
_PERSON_PRIOR = 0.5
_HISTOGRAM_PRIOR = 30.0  # clicks or visitors that a kind's histogram needs to be its own
_WITNESSES = 16.0  # clicks of a visitor whose delays count in full
_TEMPO_BOUND = 3.0  # nats: coming often is no proof
_CONVERGED = 1e-5
_LEAST, _MOST = 2e-3, 0.97


class VisitorMixture:
    """P(kind | all of a visitor's clicks, their delays, and how often they came).

    Each kind is a mixture over its rates, so that no rate has to be known:

    - person: θ(position)^h · a(pair) · g over appetites g and fades h
    - uniform: every row with the rate q
    - hammer: the first position with q, others with ε
    - competitor: one of the visitor's pairs with q, others with ε
    - stealth: θ(position)^h · b, blind to the pair
    - other: a rate of its own at each position, blind to the pair (beta-binomial)

    Delays of clicks and tempo (requests, and the time they span) have a histogram
    in each kind, which leans on that of people. EM with Dirichlet priors, at most 60
    rounds. Among people the prior has `burden` times as many visitors again as
    there are, and the share of bots stays below `maximum_share`: a kind that fits
    a little better than people do must not grow at their cost.

    Cost: 71 likelihoods a visitor once, then O(visitors · 71) multiplications a round;
    1.7 kB a visitor.
    """

    def __init__(self, maximum_share: float = 0.3, burden: float = 0.5) -> None:
        self.maximum_share = maximum_share
        self.burden = burden

    def fit(self, profile: Profile, theta: Array) -> Self:
        """Learns shares, rates and histograms."""
        self.theta_ = theta
        shown, clicked = profile.shown.sum(axis=0), profile.clicked.sum(axis=0)
        self.rate_ = (clicked + clicked.sum() / max(shown.sum(), 1.0)) / (shown + 1.0)
        best, ratio = self._behaviour(profile)
        tempo = np.eye(TEMPO_BINS)[profile.tempo()]
        self.delay_ = _histograms(profile.delays.sum(axis=0)[None], DELAY_BINS).repeat(6, 0)
        self.tempo_ = _histograms(tempo.sum(axis=0)[None], TEMPO_BINS).repeat(6, 0)
        people = self.kind_ == 0
        prior = np.where(people, _PERSON_PRIOR, _BOT_PRIOR)
        share = np.where(people, 0.95, 0.01)
        share /= np.bincount(self.kind_)[self.kind_]
        self.share_ = share / share.sum()
        for _ in range(_ROUNDS):
            within = self._within(ratio, self.share_)
            weight = _normalised(best + np.log(within) + self._evidence(profile))
            total = self._by_variety(weight / within, ratio, self.share_) + prior
            # The burden of proof is the bots': people are believed before they are judged.
            total[people] *= 1 + self.burden * len(profile) / total[people].sum()
            last, self.share_ = self.share_, self._capped(total)
            self.delay_ = _histograms(weight.T @ profile.delays, DELAY_BINS)
            self.tempo_ = _histograms(weight.T @ tempo, TEMPO_BINS)
            if np.abs(self.share_ - last).max() < _CONVERGED:
                break
        many = profile.requests[:, None]
        requests = self._by_variety(weight * many / within, ratio, last)
        self.share_of_requests_ = (requests + prior) / (requests + prior).sum()
        return self

    def posterior(self, profile: Profile, requests: bool = False) -> Array:
        """(u, 6): P(kind) of each visitor, in the order of `KINDS`.

        Args:
            profile: of visitors.
            requests: the profile is one of single requests, whose kinds are those
                of the requests of the log.
        """
        best, ratio = self._behaviour(profile)
        share = self.share_of_requests_ if requests else self.share_
        within = np.log(self._within(ratio, share))
        return _normalised(best + within + self._evidence(profile, with_tempo=not requests))

    def _behaviour(self, profile: Profile) -> tuple[Array, Array]:
        """How likely the clicks are under the varieties of each kind.

        The exponentials are taken once: a round of EM is two matrix products with them.

        Returns:
            (u, 6): log-likelihood under the likeliest variety of each kind.
            (u, varieties): likelihood under each variety over that of its kind's likeliest.
        """
        value, self.kind_ = self._varieties(profile)
        starts = np.flatnonzero(np.diff(self.kind_, prepend=-1))
        best = np.maximum.reduceat(value, starts, axis=1)
        value -= best[:, self.kind_]
        return best, np.exp(value, out=value)

    def _within(self, ratio: Array, share: Array) -> Array:
        """(u, 6) > 0: Σ share · ratio over the varieties of each kind."""
        return np.asarray(ratio @ (share[:, None] * np.eye(6)[self.kind_]))

    def _by_variety(self, weight: Array, ratio: Array, share: Array) -> Array:
        """(varieties,): sums of P(variety), from P(kind) / `_within` as (u, 6)."""
        return np.asarray(share * (weight.T @ ratio)[self.kind_, np.arange(len(share))])

    def _evidence(self, profile: Profile, with_tempo: bool = True) -> Array:
        """(u, 6): what delays and tempo say, against a person."""
        clicks = profile.delays.sum(axis=1, keepdims=True)
        # One visitor's delays are alike: they do not count as so many witnesses.
        delay = profile.delays @ np.log(self.delay_).T
        delay = (delay - delay[:, :1]) * np.minimum(1.0, _WITNESSES / np.maximum(clicks, 1.0))
        if not with_tempo:
            return np.asarray(delay)
        tempo = np.log(self.tempo_)
        tempo = np.clip(tempo - tempo[:1], -_TEMPO_BOUND, _TEMPO_BOUND)
        return np.asarray(delay + tempo.T[profile.tempo()])

    def _capped(self, weight: Array) -> Array:
        share = weight / weight.sum()
        bots = share[self.kind_ > 0].sum()
        if bots > self.maximum_share:
            people = self.kind_ == 0
            share = np.where(
                people,
                share * (1 - self.maximum_share) / (1 - bots),
                share * self.maximum_share / bots,
            )
        return np.asarray(share)

    def _varieties(self, profile: Profile) -> tuple[Array, Array]:
        """Log-likelihood (u, varieties) of the clicks, and the kind of each variety."""
        parts = [
            profile.people,
            _uniform(profile),
            _hammer(profile),
            _competitor(profile),
            _stealth(profile, self.theta_),
            _other(profile, self.rate_),
        ]
        kind = np.repeat(np.arange(6), [part.shape[1] for part in parts])
        return np.concatenate(parts, axis=1), kind


def _normalised(score: Array) -> Array:
    """(u, 6): exp(score) with rows that sum to one."""
    value = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(value / value.sum(axis=1, keepdims=True))


def _bernoulli(clicked: Array, shown: Array, rate: float) -> Array:
    return np.asarray(clicked * np.log(rate) + (shown - clicked) * np.log1p(-rate))


def _uniform(profile: Profile) -> Array:
    clicked, shown = profile.clicked.sum(axis=1), profile.shown.sum(axis=1)
    return np.stack([_bernoulli(clicked, shown, q) for q in _RATES], axis=1)


def _hammer(profile: Profile) -> Array:
    clicked, shown = profile.clicked.sum(axis=1), profile.shown.sum(axis=1)
    top, top_shown = profile.clicked[:, 1], profile.shown[:, 1]
    return np.stack(
        [
            _bernoulli(top, top_shown, q) + _bernoulli(clicked - top, shown - top_shown, slip)
            for q in _RATES[2:]
            for slip in _SLIPS
        ],
        axis=1,
    )


def _competitor(profile: Profile) -> Array:
    """Averaged over which of the visitor's pairs the bot is after."""
    clicked, shown = profile.clicked.sum(axis=1), profile.shown.sum(axis=1)
    who = np.searchsorted(profile.user, profile.pair_user)
    pairs = np.bincount(who, minlength=len(profile))
    starts = np.cumsum(pairs) - pairs
    columns = []
    for q in _RATES[2:]:
        for slip in _SLIPS:
            gain = _bernoulli(profile.pair_clicked, profile.pair_shown, q)
            gain -= _bernoulli(profile.pair_clicked, profile.pair_shown, slip)
            top = np.maximum.reduceat(gain, starts)
            mean = np.add.reduceat(np.exp(gain - top[who]), starts) / pairs
            columns.append(_bernoulli(clicked, shown, slip) + top + np.log(mean))
    return np.stack(columns, axis=1)


def _stealth(profile: Profile, theta: Array) -> Array:
    columns, missed = [], profile.shown - profile.clicked
    for rate, fade in product(_RATES[1:], _FADES):
        chance = np.clip(rate * theta**fade, _LEAST, _MOST)
        columns.append(profile.clicked @ np.log(chance) + missed @ np.log1p(-chance))
    return np.stack(columns, axis=1)


def _other(profile: Profile, rate: Array) -> Array:
    """Beta-binomial at each position, the prior worth two rows with everybody's rate."""
    first, second = 2.0 * rate, 2.0 * (1.0 - rate)
    missed = profile.shown - profile.clicked
    value = betaln(first + profile.clicked, second + missed) - betaln(first, second)
    return np.asarray(value.sum(axis=1, keepdims=True))


def _histograms(counts: Array, bins: int) -> Array:
    """(kinds, bins) > 0, each row summing to one; leaning on that of people, the first."""
    base = (counts[0] + 0.5) / (counts[0].sum() + 0.5 * bins)
    total = counts + _HISTOGRAM_PRIOR * base
    return np.asarray(total / total.sum(axis=1, keepdims=True))
