"""Examination by regression-EM, against planted curves and a slow twin of its inner step."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from heft.errors import ConfigError, DataError
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.regression_em import _likeliest, from_regression_em
from tests.unit.importance.planted_clicks import bad_logs, click_rates, make_clicks, relative_error


@pytest.mark.parametrize(("eta", "top", "tolerance"), [(0, 10, 0.05), (1, 10, 0.12), (2, 7, 0.12)])
def test_the_planted_curve_is_found_where_click_rates_are_far_off(
    eta: float, top: int, tolerance: float
) -> None:
    # At η = 2 the log holds two clicks at the last position: nobody can tell θ there.
    data, theta = make_clicks(eta=eta)
    fitted = from_regression_em(data)
    naive = relative_error(click_rates(data), theta, top)
    assert naive > 0.3
    assert relative_error(fitted.values, theta, top) < min(tolerance, naive / 3)
    assert fitted.source == "regression-EM"
    assert fitted.clicks == data.label.sum()
    assert fitted.values[0] == 1
    assert (np.diff(fitted.values) <= 0).all()


def test_what_only_the_ranker_knew_looks_like_examination() -> None:
    """The limit that the documentation states: better than click rates, and still too steep."""
    data, theta = make_clicks(unseen=1.0)
    fitted = from_regression_em(data).values
    assert 0.15 < relative_error(fitted, theta) < relative_error(click_rates(data), theta)
    assert (fitted[3:] < theta[3:]).all()


def test_the_step_of_examination_is_the_likeliest_curve() -> None:
    rng = np.random.default_rng(2)
    place = rng.integers(0, 4, 5_000)
    attractive = rng.uniform(0.05, 0.95, 5_000)
    mass = rng.uniform(0.2, 1.0, 5_000)
    truth = np.array([1.0, 0.6, 0.3, 0.1])
    click = (rng.random(5_000) < truth[place] * attractive).astype(int)
    found = _likeliest(place, click, attractive, mass, np.full(4, 0.5), first=0)
    for k in range(1, 4):
        at = place == k

        def loss(theta: float, at: np.ndarray = at) -> float:
            chance = theta * attractive[at]
            log = np.where(click[at] == 1, np.log(chance), np.log1p(-chance))
            return -float((mass[at] * log).sum())

        slow = minimize_scalar(loss, bounds=(1e-3, 1.0), method="bounded").x
        assert found[k] == pytest.approx(slow, abs=1e-3)
    assert found[0] == 1


def test_it_says_the_same_again_and_in_any_order_of_rows() -> None:
    data, _ = make_clicks(800)
    first = from_regression_em(data, random_state=3)
    np.testing.assert_array_equal(from_regression_em(data, random_state=3).values, first.values)
    turned = data.take(np.random.default_rng(0).permutation(len(data)))
    again = from_regression_em(turned, random_state=3)
    np.testing.assert_allclose(again.values, first.values, rtol=0.02)


def test_bots_count_as_little_as_they_are_human() -> None:
    data, theta = make_clicks()
    bot = data.group % 5 == 0
    label = np.where(bot, (data.position > 5).astype(int), data.label)  # they like the depths
    log = replace(data, label=label)
    blind = from_regression_em(log).values
    told = from_regression_em(replace(log, human=np.where(bot, 0.0, 1.0).astype(np.float32)))
    assert relative_error(blind, theta) > 0.5
    assert relative_error(told.values, theta) < 0.15
    doubted = replace(log, human=np.where(bot, 0.05, 0.95).astype(np.float32))
    assert relative_error(from_regression_em(doubted).values, theta) < 0.5 * relative_error(
        blind, theta
    )


def test_rows_without_a_position_and_deep_sentinels_do_no_harm() -> None:
    data, theta = make_clicks(2_000)
    position = data.position.copy()
    position[::20] = 0
    position[1] = 2_147_483_647
    values = from_regression_em(replace(data, position=position)).values
    assert len(values) <= 500
    assert np.isfinite(values).all()
    assert relative_error(values, theta) < 0.25


def test_the_settings_of_a_given_proxy_are_used_and_the_proxy_is_left_alone() -> None:
    data, _ = make_clicks(500)
    proxy = OutOfFoldProxy(folds=2, epochs=1, hidden=0)
    linear = from_regression_em(data, proxy, rounds=2)
    assert not hasattr(proxy, "networks_")
    assert (linear.values != from_regression_em(data, rounds=2).values).any()


def test_a_curve_that_still_moves_is_told(caplog: pytest.LogCaptureFixture) -> None:
    data, _ = make_clicks(500)
    with caplog.at_level(logging.WARNING):
        from_regression_em(data, rounds=1)
    assert "after 1 rounds the curve still moves by" in caplog.text


@pytest.mark.parametrize("kind", list(bad_logs()))
def test_bad_input_is_refused_in_one_sentence(kind: str) -> None:
    data, message = bad_logs()[kind]
    with pytest.raises(DataError, match=message):
        from_regression_em(data)


def test_settings_that_mean_nothing_are_refused() -> None:
    data, _ = make_clicks(100)
    with pytest.raises(ConfigError, match="rounds=0: expected at least 1"):
        from_regression_em(data, rounds=0)
    with pytest.raises(ConfigError, match="tolerance=0: expected above 0"):
        from_regression_em(data, tolerance=0)
