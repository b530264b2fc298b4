"""What each arm of the recovery benchmark trains with: weight pairs by name."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from benchmarks.importance.clicks import ClickLog
from heft.importance import (
    AffineCorrection,
    ClickModel,
    Examination,
    ExaminationPosterior,
    Fraud,
    InversePropensity,
    OutOfFoldProxy,
    PairPosterior,
    Repetition,
    attention,
    combine,
    create,
    from_pairs,
    from_shuffled_pages,
    plain_pairs,
)
from heft.importance.click_model import click_model_from_pairs
from heft.simulate import SimulationSettings
from heft.simulate.behaviour import click_given_examination, examination

__all__ = ["ORACLES", "Arms"]

Array = np.ndarray

# Arms that read the truth beside the log.
ORACLES = ("oracle", "oracle_click", "oracle_repetition")
_SCORES = ("label_quality", "el2n", "aum", "data_oob", "self_influence")


class Arms:
    """The weight pairs of one log, each (n, 2), computed when asked for."""

    def __init__(self, log: ClickLog, settings: SimulationSettings, seed: int) -> None:
        self.log = log
        self.data = log.data
        self.settings = settings
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[str, Callable[[], Array]]]:
        """Names and what makes the pairs, in the order of the table."""
        yield "unweighted", lambda: plain_pairs(self.data.label)
        yield (
            "bots_removed_by_truth",
            lambda: self._times(plain_pairs(self.data.label), self.person),
        )
        yield "fraud", lambda: self._times(plain_pairs(self.data.label), self.human)
        yield "repetition", lambda: self._times(plain_pairs(self.data.label), self.repeats)
        yield "ips_true", lambda: self._ips(self.true_examination)
        yield "ips_true_clipped", lambda: self._ips(self.true_examination, minimum=0.2)
        yield "ips_true_theta", lambda: self._ips(self.true_examination, variance_power=1.0)
        yield "ips_true_aggregated", lambda: self._ips(self.true_examination, aggregate=True)
        yield "ips_shuffled_pages", lambda: self._ips(self.shuffled_examination, variance_power=1.0)
        yield "ips_pairs", lambda: self._ips(self.pairs_examination, variance_power=1.0)
        yield "affine_true", lambda: self._affine(self.true_model)
        yield "affine_estimated", lambda: self._affine(self.model_no_shuffle)
        yield "posterior_true", lambda: self._posterior(self.true_examination)
        yield "posterior_estimated", lambda: self._posterior(self.pairs_examination)
        yield "pair_posterior_true", lambda: self._pair_posterior(self.true_model)
        yield "heft_true", lambda: self._heft(self.true_model)
        yield "heft_estimated", lambda: self._heft(self.model_with_shuffle)
        yield "heft_no_shuffle", lambda: self._heft(self.model_no_shuffle)
        yield "heft_no_repetition", lambda: self._pair_posterior(self.model_no_shuffle, self.human)
        yield (
            "heft_affine",
            lambda: self._times(self._affine(self.model_no_shuffle), self.human * self.repeats),
        )
        yield "heft_shuffled_weights", self._shuffled
        for name in _SCORES:
            yield f"heft_{name}", lambda name=name: self._scored(name)
        yield "oracle_repetition", lambda: self._times(self._clean(), self.repeats)
        yield "oracle_click", self._clean_clicks
        yield "oracle", self._clean

    @cached_property
    def person(self) -> Array:
        """(n,) 1 for people, by truth."""
        return (self.log.truth["bot_kind"] == "person").to_numpy(float)

    @cached_property
    def fraud(self) -> Fraud:
        """Fitted on the log."""
        return Fraud(random_state=self.seed).fit(self.data)

    @cached_property
    def human(self) -> Array:
        """(n,) in [0, 1], the weight that the fraud estimator gives."""
        return self.fraud.weight(self.data).astype(float)

    @cached_property
    def human_score(self) -> Array:
        """(n,) in [0, 1], the probability of a person."""
        return self.fraud.score(self.data).astype(float)

    @cached_property
    def repeats(self) -> Array:
        """(n,) the discount of repetitions."""
        return Repetition().fit(self.data).weight(self.data).astype(float)

    @cached_property
    def true_examination(self) -> Examination:
        """The simulator's curve, as it is."""
        return Examination(examination(np.arange(10), self.settings.eta), 0, "truth")

    @cached_property
    def true_model(self) -> ClickModel:
        """The simulator's slopes and offsets."""
        ranks, theta = np.arange(10), examination(np.arange(10), self.settings.eta)
        trust = self.settings.trust_bias
        low = click_given_examination(np.zeros(10), ranks, trust)
        high = click_given_examination(np.ones(10), ranks, trust)
        flip = self.settings.label_noise
        return ClickModel((1 - 2 * flip) * theta * (high - low),
                          flip + (1 - 2 * flip) * theta * low, 0, "truth")  # fmt: skip

    @cached_property
    def shuffled_examination(self) -> Examination:
        """From the shuffled pages alone."""
        return from_shuffled_pages(self.log.harvest.position, self.log.harvest.label)

    @cached_property
    def pairs_examination(self) -> Examination:
        """From natural pages alone."""
        return from_pairs(self.data.position, self.data.label, self.data.pair)

    @cached_property
    def model_no_shuffle(self) -> ClickModel:
        """Slopes and offsets from natural pages alone."""
        data = self.data
        return click_model_from_pairs(data.position, data.label, data.pair, weight=self.human)

    @cached_property
    def model_with_shuffle(self) -> ClickModel:
        """Slopes and offsets from natural and shuffled pages."""
        data, more = self.data, self.log.harvest
        human = self.fraud.weight(more)
        return click_model_from_pairs(
            *(np.concatenate([getattr(data, n), getattr(more, n)])
              for n in ("position", "label", "pair")),
            weight=np.concatenate([self.human, human]),
        )  # fmt: skip

    def _times(self, pairs: Array, factor: Array) -> Array:
        return pairs * (factor / factor.mean())[:, None]

    def _clean(self) -> Array:
        attractive = self.log.truth["attractiveness"].to_numpy()
        return np.stack([attractive, 1 - attractive], axis=1)

    def _clean_clicks(self) -> Array:
        attractive = self.log.truth["attractiveness"].to_numpy()
        rng = np.random.default_rng(self.seed)
        return plain_pairs((rng.random(len(attractive)) < attractive).astype(np.int64))

    def _ips(self, curve: Examination, **settings: float) -> Array:
        settings = {"variance_power": 0.0, **settings}
        return InversePropensity(curve, **settings).fit(self.data).pairs(self.data)

    def _affine(self, model: ClickModel) -> Array:
        return AffineCorrection(model).fit(self.data).pairs(self.data)

    def _posterior(self, curve: Examination) -> Array:
        proxy = OutOfFoldProxy(random_state=self.seed)
        return ExaminationPosterior(proxy, curve).fit(self.data).pairs(self.data)

    def _pair_posterior(self, model: ClickModel, human: Array | None = None) -> Array:
        data = self.data if human is None else replace(self.data, human=human.astype(np.float32))
        pairs = PairPosterior(model=model, random_state=self.seed).fit(data).pairs(data)
        return pairs if human is None else self._times(pairs, human)

    def _heft(self, model: ClickModel) -> Array:
        return self._times(self._pair_posterior(model, self.human), self.repeats)

    @cached_property
    def _best(self) -> Array:
        return self._heft(self.model_no_shuffle)

    def _shuffled(self) -> Array:
        """The right weights on the wrong rows of the same label."""
        pairs, rng = self._best.copy(), np.random.default_rng(self.seed)
        for value in (0, 1):
            rows = np.flatnonzero(self.data.label == value)
            pairs[rows] = pairs[rng.permutation(rows)]
        return pairs

    def _scored(self, name: str) -> Array:
        """A quality or value score on top, exponent 0.5."""
        slope, _ = self.model_no_shuffle.at(self.data.position)
        data = self.data.with_observed(np.clip(slope, 0.02, 1))
        settings = {"proxy": OutOfFoldProxy(random_state=self.seed)}
        score = create(name, **(settings if name != "data_oob" else {})).fit(data).score(data)
        factor = attention(score, data.label, 0.5)
        return combine(self._best, data.label, [factor]).pairs
