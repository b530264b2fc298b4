"""How attractive a query and item are, given every click they got and what models expect."""

from dataclasses import replace
from typing import Self

import numpy as np

from heft.errors import ConfigError
from heft.importance.affine import AffineCorrection
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.click_model import ClickCells, ClickModel, click_model_from_pairs
from heft.importance.keys import look_up
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["PairPosterior"]

Array = np.ndarray

_LEVELS = (np.arange(32) + 0.5) / 32
_STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@register("pair_posterior")
class PairPosterior:
    """Weight pairs from the posterior of attractiveness of each query and item.

    Attractiveness of a pair is Beta-distributed around what proxies that have not
    seen the pair expect of it, with a strength κ, in impressions. Every impression of
    the pair is evidence, through the click model P(click) = αa + β of its
    position; what was hardly examined says little and moves little. The
    posterior mean e gives the pair (e, 1 − e): the E-step of regression-EM (Wang
    et al. 2018) with repetitions pooled, and with trust bias. Both weights lie
    in [0, 1].

    The κ that maximises the likelihood of the log (empirical Bayes, Robbins 1956) brings e
    nearest to the attractiveness of each single pair. But a model that learns from e needs its
    mean over many pairs, and each pair's own noise is a burden to it: the pairs are made
    with `caution` times as much. The mean of several proxies is the better prior for the
    same reason (Lakshminarayanan, Pritzel & Blundell 2017, *Deep Ensembles*).

    Proxies learn from the affine correction, then `rounds` − 1 times from the posterior itself,
    at the likeliest κ.

    Args:
        proxy: shared out-of-fold model, for its settings; trained on the pairs
            here. Its own if none is given.
        model: slopes and offsets; else estimated by `click_model_from_pairs`.
        minimum: of slopes, in the first round; in (0, 1].
        strength: κ; estimated if none is given.
        caution: factor of the estimated κ in the pairs that are given out, above 0.
        members: proxies whose mean is the prior, at least 1.
        rounds: at least 1.
        random_state: seed of the own proxy.

    Attributes:
        model_: the click model in use.
        strength_: κ.
    """

    def __init__(
        self,
        proxy: OutOfFoldProxy | None = None,
        model: ClickModel | None = None,
        minimum: float = 0.02,
        strength: float | None = None,
        caution: float = 8.0,
        members: int = 4,
        rounds: int = 2,
        random_state: int = 0,
    ) -> None:
        for name, value in (("rounds", rounds), ("members", members)):
            if value < 1:
                raise ConfigError(f"{name}={value}: expected at least 1")
        if caution <= 0:
            raise ConfigError(f"caution={caution}: expected a factor above 0")
        if strength is not None and strength <= 0:
            raise ConfigError(f"strength={strength}: expected impressions, above 0")
        self.proxy = proxy
        self.model = model
        self.minimum = minimum
        self.strength = strength
        self.caution = caution
        self.members = members
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Learns the click model, the proxy, and the posterior of each pair of `data`."""
        self.model_ = self.model or click_model_from_pairs(
            data.position, data.label, data.pair, weight=data.human
        )
        cells = ClickCells.of(data.position, data.label, data.pair, data.human)
        evidence = cells.log_likelihood(*self._lines(cells), _LEVELS)
        affine = AffineCorrection(self.model_, self.minimum).fit(data)
        human = np.ones(len(data)) if data.human is None else data.human
        pairs = affine.pairs(data) * human[:, None]
        by_pair = _by_pair(data)
        for _ in range(self.rounds):
            self.proxies_ = [self._fresh_proxy(k).fit(by_pair, pairs) for k in range(self.members)]
            expected = self._expected(data, cells)
            likeliest = self.strength or _likeliest_strength(evidence, expected)
            self._keep(cells, _posterior_mean(evidence, expected, likeliest))
            positive, known = self._look_up(data)
            pairs = np.stack([positive, 1 - positive], axis=1) * (human * known)[:, None]
        self.strength_ = self.strength or self.caution * likeliest
        self._keep(cells, _posterior_mean(evidence, expected, self.strength_))
        return self

    def propensity(self, data: ImportanceData) -> Array:
        """(n,) in [minimum, 1]: the slope of the position."""
        check_fitted(self, "known_")
        return np.clip(self.model_.at(data.position)[0], self.minimum, 1.0)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in [0, 1]: the posterior of the pair's attractiveness."""
        return self.pairs(data)[:, 0].astype(np.float32)

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2) float64 in [0, 1], each row adding up to 1.

        A query and item that `fit` has not met is judged by the rows of `data`.
        """
        check_fitted(self, "known_")
        positive, known = self._look_up(data)
        if not known.all():
            rows = data.take(~known)
            cells = ClickCells.of(np.maximum(rows.position, 1), rows.label, rows.pair, rows.human)
            evidence = cells.log_likelihood(*self._lines(cells), _LEVELS)
            mean = _posterior_mean(evidence, self._expected(rows, cells), self.strength_)
            positive[~known] = mean[np.searchsorted(cells.keys, rows.pair)]
        return np.stack([positive, 1 - positive], axis=1)

    def _keep(self, cells: ClickCells, mean: Array) -> None:
        self.known_ = {"keys": cells.keys, "mean": mean}

    def _look_up(self, data: ImportanceData) -> tuple[Array, Array]:
        keys, mean = self.known_["keys"], self.known_["mean"]
        place, known = look_up(data.pair, keys)
        return np.where(known, mean[place], 0.0), known

    def _lines(self, cells: ClickCells) -> tuple[Array, Array]:
        places = int(cells.position.max()) + 1 if len(cells.position) else 1
        return self.model_.at(np.arange(1, places + 1))

    def _fresh_proxy(self, member: int) -> OutOfFoldProxy:
        given = self.proxy or OutOfFoldProxy(random_state=self.random_state)
        seed = given.random_state + 7919 * member
        return OutOfFoldProxy(given.folds, given.epochs, given.hidden_units, given.batch_size, seed)

    def _expected(self, data: ImportanceData, cells: ClickCells) -> Array:
        """(pairs,) what the proxies expect of each pair, out of fold, over its rows."""
        by_pair = _by_pair(data)
        expected = np.mean([proxy.trace(by_pair).final for proxy in self.proxies_], axis=0)
        rows = np.flatnonzero(np.isin(data.pair, cells.keys))
        code = np.searchsorted(cells.keys, data.pair[rows])
        total = np.bincount(code, expected[rows], minlength=len(cells.keys))
        return np.clip(total / np.bincount(code, minlength=len(cells.keys)), 0.01, 0.99)


def _by_pair(data: ImportanceData) -> ImportanceData:
    """The same rows with folds by pair: what is expected of a pair comes from other pairs."""
    return replace(data, group=data.pair)


def _joint(evidence: Array, expected: Array, strength: float) -> Array:
    """(pairs, levels) log of likelihood and normalised prior."""
    alpha, beta = strength * expected[:, None], strength * (1 - expected[:, None])
    prior = (alpha - 1) * np.log(_LEVELS) + (beta - 1) * np.log1p(-_LEVELS)
    prior -= prior.max(axis=1, keepdims=True)
    prior -= np.log(np.exp(prior).sum(axis=1, keepdims=True))
    return evidence + prior


def _likeliest_strength(evidence: Array, expected: Array) -> float:
    """The κ of `_STRENGTHS` under which the log is likeliest."""

    def likelihood(strength: float) -> float:
        joint = _joint(evidence, expected, strength)
        top = joint.max(axis=1)
        return float((top + np.log(np.exp(joint - top[:, None]).sum(axis=1))).sum())

    return max(_STRENGTHS, key=likelihood)


def _posterior_mean(evidence: Array, expected: Array, strength: float) -> Array:
    joint = _joint(evidence, expected, strength)
    belief = np.exp(joint - joint.max(axis=1, keepdims=True))
    return (belief @ _LEVELS) / belief.sum(axis=1)
