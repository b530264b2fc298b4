"""The debias pair says what the click would have said, had the item been examined."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import Examination, ImportanceData, InversePropensity

THETA = Examination(np.array([1.0, 0.7, 0.4, 0.2]), 1000, "known")


def _log(rows: int, attractiveness: float, seed: int) -> ImportanceData:
    rng = np.random.default_rng(seed)
    position = rng.choice([1, 2, 3, 4], rows, p=[0.1, 0.2, 0.3, 0.4])
    return ImportanceData(
        features=np.zeros((rows, 1), np.float32),
        label=(rng.random(rows) < THETA.at(position) * attractiveness).astype(int),
        group=np.arange(rows),
        position=position,
        propensity=np.full(rows, np.nan, np.float32),
        pair=np.zeros(rows, np.int64),
    )


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("attractiveness", [0.1, 0.5, 0.9])
def test_the_weighted_rate_is_the_attractiveness(power, attractiveness):
    data = _log(60_000, attractiveness, seed=1)
    pairs = InversePropensity(THETA, variance_power=power).fit(data).pairs(data)
    assert pairs[:, 0].sum() / pairs.sum() == pytest.approx(attractiveness, abs=0.02)
    assert data.label.mean() < 0.6 * attractiveness  # what training without weights would learn


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_variance_power_has_less_variance_than_the_plain_pair(power):
    def spread(p: float) -> float:
        estimates = []
        for seed in range(60):
            data = _log(400, 0.3, seed)
            pairs = InversePropensity(THETA, variance_power=p).fit(data).pairs(data)
            estimates.append(pairs[:, 0].sum() / pairs.sum())
        return float(np.std(estimates))

    assert spread(power) < 0.9 * spread(0.0)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40
    ),
    st.floats(0, 2),
    st.booleans(),
)
def test_only_a_click_may_be_a_negative_amount_of_a_negative(rows, power, aggregate):
    position, click, pair = (np.array(column) for column in zip(*rows, strict=True))
    data = ImportanceData(
        np.zeros((len(rows), 1), np.float32), click.astype(int), np.arange(len(rows)), position,
        np.full(len(rows), np.nan, np.float32), pair,
    )  # fmt: skip
    pairs = (
        InversePropensity(THETA, variance_power=power, aggregate=aggregate).fit(data).pairs(data)
    )
    assert np.isfinite(pairs).all()
    assert (pairs[:, 0] >= 0).all()
    assert pairs.sum(axis=1).mean() == pytest.approx(1.0)
    if aggregate:
        assert (pairs >= 0).all()
    else:
        assert (pairs[~click, 0] == 0).all() and (pairs[~click, 1] > 0).all()


def test_aggregation_gives_all_repeats_of_a_pair_the_same_share():
    data = _log(2_000, 0.5, seed=2)
    pairs = InversePropensity(THETA, aggregate=True).fit(data).pairs(data)
    share = pairs[:, 0] / pairs.sum(axis=1)
    assert np.ptp(share) < 1e-12
    assert share[0] == pytest.approx(0.5, abs=0.05)


def test_a_logged_propensity_is_taken_before_the_curve():
    data = _log(4, 0.5, seed=2)
    logged = np.array([0.5, np.nan, 0.25, 0.001], np.float32)
    data = ImportanceData(
        data.features, np.ones(4, int), data.group, np.array([1, 2, 3, 4]), logged, data.pair
    )
    theta = InversePropensity(THETA, minimum=0.05).fit(data).propensity(data)
    assert theta == pytest.approx([0.5, 0.7, 0.25, 0.05])


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5])
def test_a_propensity_that_is_none_is_refused(bad):
    data = _log(3, 0.5, seed=0)
    logged = np.array([0.5, bad, 0.5], np.float32)
    with pytest.raises(DataError, match=r"in 1 rows: expected values in \(0, 1\]"):
        replace(data, propensity=logged)


def test_settings_out_of_range_and_scoring_before_fit():
    with pytest.raises(ConfigError, match="minimum=0 "):
        InversePropensity(minimum=0)
    with pytest.raises(ConfigError, match="variance_power=-1 "):
        InversePropensity(variance_power=-1)
    with pytest.raises(NotFittedError, match=r"call InversePropensity.fit\(data\)"):
        InversePropensity().pairs(_log(3, 0.5, 0))
