"""Conversions that have not come yet: a missing one counts for less, the younger its click."""

from typing import Literal, Self, get_args

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.delay_distribution import DelayDistribution, Family, fit_delays
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["DelayedFeedback", "Method"]

Array = np.ndarray
Method = Literal["inverse", "posterior", "fnw", "es_dfm"]


@register("delayed_feedback")
class DelayedFeedback:
    """Weight pairs that make a log that ends say what a log that goes on would say.

    A conversion that will come has been seen with probability F = P(delay <=
    elapsed). With a = P(it ever comes), y whether it was seen:

    - `inverse`: (y/F, 1 − y/F). Needs no a; w⁻ is negative for a conversion
      with F < 1.
    - `posterior`: (1, 0) if seen, else (q, 1 − q), q = (1 − F)a / (1 − Fa). In
      [0, 1]; least variance, right if a is. The E-step of Chapelle (2014),
      Modeling Delayed Feedback in Display Advertising.
    - `fnw`: Ktena et al. (2019), Addressing Delayed Feedback for Continuous
      Training with Neural Networks. Every sample enters as a negative at once,
      weight (1 − a)(1 + a), and again as a positive when it converts, weight
      1 + a. A converted row stands for both: ((1 + a)y/F, (1 − a)(1 + a)).
    - `es_dfm`: Yang et al. (2021), Capturing Delayed Feedback in Conversion Rate
      Prediction via Elapsed-Time Sampling. A sample is looked at after `wait`
      seconds, G = F(min(wait, elapsed)), and again if it converts later:
      positive (1 + b)/F, negative (1 + b)(1 − a)/(1 − aG) unless the conversion
      came within the wait; b = a(1 − G). `fnw` is a wait of 0.

    Both papers train on a stream, in which late conversions are further rows. A
    log that ends lacks them; the division by F stands for them, and is 1 for
    rows old enough. Given F (and a, where used), every method's pair has the
    expectation (a, 1 − a), for fnw and es_dfm times 1 + b.

    `data.observed`, where set, multiplies F: what hides a conversion beside its
    delay (examination). That a row was clicked is not used: over all impressions
    it is known of clicked rows alone. One delay distribution serves all rows.

    Needs the columns `elapsed`, and for `fit` `delay` where label is 1, unless
    `delays` is given. O(n) time and memory, and one training of the proxy for all
    methods but `inverse`.

    Args:
        method: see above.
        family: of delays, `exponential` or `weibull`.
        window: seconds within which a conversion counts; F becomes F(elapsed) /
            F(window), which is 1 for rows observed for a whole window. None:
            however late, which extrapolates beyond what any log shows.
        wait: of es_dfm, seconds; half the conversions' delay if None.
        minimum: F below is raised to it, in (0, 1].
        delays: a known distribution, in place of an estimate.
        proxy: shared out-of-fold model, as it is if it has been fitted (its
            likelihood must know F, see `OutOfFoldProxy`); its own if none is given.
        random_state: seed of the own proxy.

    Raises:
        ConfigError: a setting out of its range.
    """

    def __init__(
        self,
        method: Method = "inverse",
        family: Family = "exponential",
        window: float | None = None,
        wait: float | None = None,
        minimum: float = 0.02,
        delays: DelayDistribution | None = None,
        proxy: OutOfFoldProxy | None = None,
        random_state: int = 0,
    ) -> None:
        if method not in get_args(Method):
            expected = list(get_args(Method))
            raise ConfigError(f"Expected one of {expected}, received: method={method!r}")
        if family not in get_args(Family):
            expected = list(get_args(Family))
            raise ConfigError(f"Expected one of {expected}, received: family={family!r}")
        if not 0 < minimum <= 1:
            raise ConfigError(f"minimum={minimum} must be in (0, 1]")
        if window is not None and not window > 0:
            raise ConfigError(f"window={window} must be above 0 seconds")
        if wait is not None and not wait >= 0:
            raise ConfigError(f"wait={wait} must be at least 0 seconds")
        self.method = method
        self.family: Family = family
        self.window = window
        self.wait = wait
        self.minimum = minimum
        self.delays = delays
        self.proxy = proxy
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Learns how long conversions take, from rows with label 1 and a delay, and a.

        Raises:
            DataError: a column is missing, there are too few conversions, or
                without `window` delays do not thin out within their observation;
                for a, see the proxy.
        """
        self.delays_ = self.delays or self._estimate(data)
        if self.delays_.flat and self.window is None:
            raise DataError(
                f"{self.delays_.rows} delays do not thin out within the time they were observed, "
                "so that nothing says how many are still to come: set window, the seconds within "
                "which a conversion counts, or use a log that ran for longer"
            )
        if self.method != "inverse":
            proxy = self.proxy or OutOfFoldProxy(random_state=self.random_state)
            self.proxy_ = proxy.fitted(data.with_observed(self._observed(data)))
        return self

    def propensity(self, data: ImportanceData) -> Array:
        """(n,) float64 in [minimum, 1]: P(delay <= elapsed), of the delay alone."""
        check_fitted(self, "delays_")
        return np.clip(self._seen(_elapsed(data)), self.minimum, 1.0)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in (0, 1]: 1 for a conversion, else the propensity.

        High where the label is settled.
        """
        return np.where(data.label == 1, 1.0, self.propensity(data)).astype(np.float32)

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2) float64; negative only w⁻ of a conversion, with `inverse`.

        Raises:
            DataError: `elapsed` is missing; for es_dfm `delay`.
        """
        seen = self._observed(data)
        positive = data.label / seen
        if self.method == "inverse":
            return np.stack([positive, 1 - positive], axis=1)
        rate = self.proxy_.trace(data).final.astype(np.float64)
        rate = np.clip(rate, 1e-9, 1 - 1e-9)
        if self.method == "posterior":
            missed = (1 - seen) * rate / (1 - seen * rate)
            positive = np.where(data.label == 1, 1.0, missed)
            return np.stack([positive, 1 - positive], axis=1)
        early, waited = self._after_the_wait(data, seen)
        late = 1 + rate * (1 - early)
        negative = np.where(waited, 0.0, late * (1 - rate) / (1 - rate * early))
        return np.stack([late * positive, negative], axis=1)

    def _estimate(self, data: ImportanceData) -> DelayDistribution:
        delay = need_column(data, "delay", "delayed_feedback")
        rows = (data.label == 1) & np.isfinite(delay)
        return fit_delays(delay[rows], _elapsed(data)[rows], self.family)

    def _observed(self, data: ImportanceData) -> Array:
        return np.clip(self.propensity(data) * data.observation(), self.minimum, 1.0)

    def _seen(self, seconds: Array) -> Array:
        if self.window is None:
            return self.delays_.cdf(seconds)
        whole = self.delays_.cdf(np.array([self.window]))[0]
        return np.minimum(self.delays_.cdf(seconds) / whole, 1.0)

    def _after_the_wait(self, data: ImportanceData, seen: Array) -> tuple[Array, Array]:
        """Probability of a conversion seen within the wait, and whether one was."""
        if self.method == "fnw":
            return np.zeros(len(data)), np.zeros(len(data), bool)
        delay = need_column(data, "delay", "delayed_feedback")
        wait = self.delays_.quantile(0.5) if self.wait is None else self.wait
        if self.window is not None:
            wait = min(wait, self.window)
        within = np.minimum(_elapsed(data), wait)
        early = np.minimum(self._seen(within) * data.observation(), seen)
        # A conversion whose delay is unknown counts as one within the wait.
        return early, (data.label == 1) & ~(delay > wait)


def _elapsed(data: ImportanceData) -> Array:
    elapsed = need_column(data, "elapsed", "delayed_feedback").astype(np.float64)
    odd = ~(elapsed >= 0)
    if odd.any():
        raise DataError(
            f"elapsed={elapsed[odd][0]} in {int(odd.sum())} rows: expected seconds, at least 0, "
            "in which a conversion could have been seen"
        )
    return elapsed
