"""A log that ends says what a log that goes on would say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.stats import weibull_min

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.base import Debiaser, ImportanceData, Observer
from heft.importance.delay_distribution import (
    DelayDistribution,
    _negative_log_likelihood,
    fit_delays,
)
from heft.importance.delayed_feedback import DelayedFeedback
from heft.importance.proxy import OutOfFoldProxy, ProxyTrace
from heft.importance.registry import create

HOUR = 3600.0
DAY = 24 * HOUR
METHODS = ["inverse", "posterior", "fnw", "es_dfm"]


def _log(
    rows: int,
    scale: float = DAY,
    shape: float = 1.0,
    days: float = 3.0,
    seed: int = 0,
    rate: tuple[float, float] = (0.3, 0.3),
) -> tuple[ImportanceData, np.ndarray]:
    """Clicks over `days` until the end of the log, and which of them ever convert.

    The chance to convert is the second of `rate` where feature 0 is 1, else the first.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, rows)
    converts = rng.random(rows) < np.array(rate)[kind]
    delay = scale * rng.weibull(shape, rows)
    elapsed = rng.uniform(0, days * DAY, rows)
    seen = converts & (delay <= elapsed)
    data = ImportanceData.of(
        np.stack([kind, rng.normal(size=rows)], axis=1),
        seen,
        delay=np.where(seen, delay, np.nan).astype(np.float32),
        elapsed=elapsed.astype(np.float32),
    )
    return data, converts


class _Known(OutOfFoldProxy):
    """The proxy that knows the truth: a is a function of feature 0."""

    def __init__(self, *rate: float) -> None:
        super().__init__()
        self.truth = np.array(rate, np.float32)

    def fitted(self, data: ImportanceData) -> "_Known":
        return self

    def trace(self, data: ImportanceData) -> ProxyTrace:
        rate = self.truth[data.features[:, 0].astype(int)]
        return ProxyTrace(rate, rate)


@pytest.mark.parametrize(("scale", "shape"), [(DAY, 1.0), (0.3 * DAY, 1.0), (4 * DAY, 1.0)])
def test_a_planted_exponential_is_found_where_the_naive_mean_is_too_short(scale, shape):
    data, _ = _log(60_000, scale, shape)
    delay, elapsed = data.delay[data.label == 1], data.elapsed[data.label == 1]
    found = fit_delays(delay, elapsed)
    assert found.scale == pytest.approx(scale, rel=0.1)
    assert found.shape == 1.0
    assert found.rows == data.label.sum()
    assert delay.mean() < 0.92 * scale


@pytest.mark.parametrize(("scale", "shape"), [(DAY, 0.6), (1.5 * DAY, 1.5)])
def test_a_planted_weibull_is_found_where_the_naive_fit_is_not(scale, shape):
    data, _ = _log(60_000, scale, shape)
    delay, elapsed = data.delay[data.label == 1], data.elapsed[data.label == 1]
    found = fit_delays(delay, elapsed, "weibull")
    assert found.scale == pytest.approx(scale, rel=0.12)
    assert found.shape == pytest.approx(shape, rel=0.05)
    _, _, naive = weibull_min.fit(delay[:3_000], floc=0)
    assert naive < 0.85 * scale


def test_the_truncated_estimate_is_unbiased_over_many_logs_and_the_naive_one_is_not():
    found, naive = [], []
    for seed in range(100):
        data, _ = _log(2_000, seed=seed)
        delay, elapsed = data.delay[data.label == 1], data.elapsed[data.label == 1]
        found.append(fit_delays(delay, elapsed).scale / DAY)
        naive.append(delay.mean() / DAY)
    error = np.std(found) / np.sqrt(len(found))
    # Of a maximum likelihood estimate, up to a bias of the order of 1/conversions.
    assert np.mean(found) == pytest.approx(1.0, abs=4 * error + 0.02)
    assert np.mean(naive) < 0.75


def test_the_likelihood_is_that_of_the_slow_twin_and_so_is_its_gradient():
    rng = np.random.default_rng(0)
    elapsed = rng.uniform(0.1, 3, 40)
    delay = elapsed * rng.random(40)
    logs = np.log(delay), np.log(elapsed)
    for scale, shape in [(1.0, 1.0), (0.4, 0.5), (2.5, 3.0)]:
        twin = weibull_min(shape, scale=scale)
        expected = -np.mean(
            [twin.logpdf(d) - twin.logcdf(e) for d, e in zip(delay, elapsed, strict=True)]
        )
        at = np.log([scale, shape])
        value = _negative_log_likelihood(at, *logs)[0]
        assert value == pytest.approx(expected, abs=1e-9)
        error = check_grad(
            lambda x: _negative_log_likelihood(x, *logs)[0],
            lambda x: _negative_log_likelihood(x, *logs)[1],
            at,
        )
        assert error < 1e-5


def test_quantile_undoes_the_distribution_function():
    delays = DelayDistribution(scale=100.0, shape=0.7)
    assert delays.cdf(np.array([delays.quantile(0.3)])) == pytest.approx(0.3)
    assert delays.cdf(np.array([-1.0, 0.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("method", METHODS)
def test_the_weighted_rate_is_the_true_one_and_the_naive_one_is_low(method):
    rate = (0.1, 0.4)
    data, converts = _log(80_000, seed=3, rate=rate)
    estimator = DelayedFeedback(method, wait=6 * HOUR, proxy=_Known(*rate)).fit(data)
    pairs = estimator.pairs(data)
    for kind in (0, 1):
        rows = data.features[:, 0] == kind
        found = pairs[rows, 0].sum() / pairs[rows].sum()
        assert found == pytest.approx(rate[kind], rel=0.05)
        assert data.label[rows].mean() < 0.75 * converts[rows].mean()


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(METHODS),
    st.floats(0.05, 0.95),
    st.floats(0.1, 40.0),
    st.floats(0.0, 40.0),
    st.floats(0.3, 1.0),
)
def test_every_method_is_unbiased_in_expectation(method, rate, elapsed, wait, examined):
    """All that can happen to one click, each with its probability, in closed form."""
    delays = DelayDistribution(scale=10.0, shape=0.8)
    turn = min(wait, elapsed)
    early, late = turn * 0.5, (turn + elapsed) / 2  # a delay within the wait, and one after
    before, seen = (float(delays.cdf(np.array([t]))[0]) for t in (turn, elapsed))
    before, seen = examined * before, examined * seen
    chances = np.array([rate * before, rate * (seen - before), 1 - rate * seen])
    outcome = ImportanceData.of(
        np.zeros((3, 1)),
        np.array([1, 1, 0]),
        delay=np.array([early, late if late > wait else early, np.nan]),
        elapsed=np.full(3, elapsed),
        observed=np.full(3, examined),
    )
    proxy = _Known(rate, rate)
    estimator = DelayedFeedback(method, wait=wait, minimum=1e-6, delays=delays, proxy=proxy)
    positive, negative = chances @ estimator.fit(outcome).pairs(outcome)
    assert positive / (positive + negative) == pytest.approx(rate, abs=2e-5)
    if method in ("inverse", "posterior"):
        assert positive + negative == pytest.approx(1.0)


def test_rows_that_have_waited_long_enough_get_the_published_weights():
    """Of Ktena et al. 2019 and Yang et al. 2021, written out."""
    old = ImportanceData.of(
        np.zeros((3, 1)),
        np.array([1, 1, 0]),
        delay=np.array([1.0, 50.0, np.nan]),
        elapsed=np.full(3, 1e9),
    )
    delays = DelayDistribution(scale=10.0)
    a, g = 0.3, 1 - np.exp(-0.5)

    def pairs(method: str) -> np.ndarray:
        known = DelayedFeedback(method, wait=5.0, delays=delays, proxy=_Known(a, a))
        return known.fit(old).pairs(old)

    fake = (1 - a) * (1 + a)
    assert pairs("fnw") == pytest.approx(np.array([[1 + a, fake], [1 + a, fake], [0, fake]]))
    late = 1 + a * (1 - g)
    real = (1 - a) / (1 - a * g)
    expected = np.array([[late, 0], [late, late * real], [0, late * real]])
    assert pairs("es_dfm") == pytest.approx(expected)
    assert pairs("inverse") == pytest.approx(np.array([[1, 0], [1, 0], [0, 1.0]]))
    assert pairs("posterior") == pytest.approx(np.array([[1, 0], [1, 0], [0, 1.0]]))


def test_fnw_is_es_dfm_without_a_wait():
    data, _ = _log(2_000, seed=5)
    proxy = _Known(0.3, 0.3)
    fnw = DelayedFeedback("fnw", proxy=proxy).fit(data).pairs(data)
    es_dfm = DelayedFeedback("es_dfm", wait=0.0, proxy=proxy).fit(data).pairs(data)
    assert es_dfm == pytest.approx(fnw)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_inverse_pair_is_ever_negative_and_that_for_a_conversion(method):
    data, _ = _log(4_000, seed=6)
    pairs = DelayedFeedback(method, random_state=1).fit(data).pairs(data)
    assert np.isfinite(pairs).all()
    assert (pairs[:, 0] >= 0).all()
    assert (pairs[data.label == 0] >= 0).all()
    assert (pairs[:, 1].min() < 0) == (method == "inverse")


def test_with_its_own_proxy_the_posterior_recovers_the_rate_by_kind():
    rate = (0.1, 0.4)
    data, _ = _log(40_000, seed=7, rate=rate)
    pairs = DelayedFeedback("posterior", random_state=2).fit(data).pairs(data)
    for kind in (0, 1):
        rows = data.features[:, 0] == kind
        assert pairs[rows, 0].mean() == pytest.approx(rate[kind], rel=0.12)


def test_with_a_window_rows_observed_for_all_of_it_are_settled():
    """Conversions later than the window are no conversions."""
    data, _ = _log(60_000, scale=2 * DAY, days=6, seed=8)
    window = 2 * DAY
    late = data.delay > window
    label = np.where(late, 0, data.label)
    delay = np.where(late, np.nan, data.delay)
    data = ImportanceData.of(
        data.features, label, delay=delay, elapsed=np.minimum(data.elapsed, window)
    )
    estimator = DelayedFeedback("inverse", window=window).fit(data)
    seen = estimator.propensity(data)
    assert (seen[data.elapsed == window] == 1).all()
    pairs = estimator.pairs(data)
    within = 0.3 * (1 - np.exp(-1))
    assert pairs[:, 0].mean() == pytest.approx(within, rel=0.03)
    assert label.mean() < 0.93 * within


def test_delays_that_do_not_thin_out_need_a_window():
    """Seen delays are uniform below their elapsed time: nothing says how many are to come."""
    rng = np.random.default_rng(0)
    elapsed = rng.uniform(1, DAY, 3_000)
    data = ImportanceData.of(
        np.zeros((3_000, 1)),
        np.ones(3_000, int),
        delay=elapsed * np.sqrt(rng.random(3_000)),
        elapsed=elapsed,
    )
    with pytest.raises(DataError, match="3000 delays do not thin out.*set window"):
        DelayedFeedback().fit(data)
    seen = DelayedFeedback(window=DAY).fit(data).propensity(data)
    assert seen == pytest.approx(np.maximum(elapsed / DAY, 0.02), rel=0.01)


def test_propensity_and_score_of_rows_that_fit_has_not_seen():
    data, _ = _log(8_000, seed=9)
    estimator = create("delayed_feedback").fit(data)
    assert isinstance(estimator, Observer)
    assert isinstance(estimator, Debiaser)
    other, _ = _log(50, seed=10)
    seen = estimator.propensity(other)
    order = np.argsort(other.elapsed)
    assert (np.diff(seen[order]) >= 0).all()
    assert ((seen >= 0.02) & (seen <= 1)).all()
    score = estimator.score(other)
    assert score.dtype == np.float32
    assert (score[other.label == 1] == 1).all()
    assert score[other.label == 0] == pytest.approx(seen[other.label == 0])
    assert estimator.pairs(other.take(np.zeros(0, int))).shape == (0, 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_second_run_and_another_order_give_the_same_pairs(method):
    data, _ = _log(3_000, seed=11)
    first = DelayedFeedback(method, random_state=3).fit(data).pairs(data)
    again = DelayedFeedback(method, random_state=3).fit(data).pairs(data)
    assert (first == again).all()
    if method == "inverse":
        order = np.random.default_rng(0).permutation(len(data))
        turned = data.take(order)
        assert DelayedFeedback().fit(turned).pairs(turned) == pytest.approx(first[order], rel=1e-5)


def test_bad_input_is_named():
    data, _ = _log(2_000, seed=12)
    few = data.take(np.flatnonzero(data.label == 1)[:5])
    with pytest.raises(DataError, match="5 conversions with a delay: expected at least 20"):
        DelayedFeedback().fit(few)
    with pytest.raises(DataError, match="delayed_feedback needs the column 'delay'"):
        DelayedFeedback().fit(ImportanceData.of(data.features, data.label, elapsed=data.elapsed))
    with pytest.raises(DataError, match="elapsed=-1.0 in 1 rows: expected seconds"):
        elapsed = data.elapsed.copy()
        elapsed[0] = -1
        broken = ImportanceData.of(data.features, data.label, delay=data.delay, elapsed=elapsed)
        DelayedFeedback().fit(broken)
    with pytest.raises(DataError, match="elapsed=1 in 30 rows: a conversion cannot be seen"):
        fit_delays(np.full(30, 5.0), np.ones(30))
    with pytest.raises(DataError, match="delay=-1.0: expected seconds"):
        fit_delays(np.full(30, -1.0), np.ones(30))
    with pytest.raises(NotFittedError, match=r"call DelayedFeedback.fit\(data\)"):
        DelayedFeedback().propensity(data)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "magic"}, r"Expected one of \['inverse'.*method='magic'"),
        ({"family": "gamma"}, r"Expected one of \['exponential'.*family='gamma'"),
        ({"minimum": 0}, "minimum=0 must be in"),
        ({"window": -1}, "window=-1 must be above 0"),
        ({"wait": float("nan")}, "wait=nan must be at least 0"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ConfigError, match=message):
        DelayedFeedback(**setting)
    with pytest.raises(ConfigError, match="scale=0.0 of a delay"):
        DelayDistribution(0.0)
