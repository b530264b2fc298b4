"""Examination by dual learning, against planted curves and slow gradients."""

from dataclasses import replace

import numpy as np
import pytest

from heft.errors import ConfigError, DataError
from heft.importance.dual_learning import _gradients, _Lists, from_dual_learning
from heft.importance.stacked import Scaling, Stacked
from tests.unit.importance.planted_clicks import bad_logs, click_rates, make_clicks, relative_error


@pytest.mark.parametrize(("eta", "top", "tolerance"), [(0, 10, 0.15), (1, 10, 0.15), (2, 6, 0.15)])
def test_the_planted_curve_is_found_where_click_rates_are_far_off(
    eta: float, top: int, tolerance: float
) -> None:
    data, theta = make_clicks(eta=eta)
    fitted = from_dual_learning(data)
    naive = relative_error(click_rates(data), theta, top)
    assert naive > 0.3
    assert relative_error(fitted.values, theta, top) < min(tolerance, naive / 2)
    assert fitted.source == "dual learning"
    assert fitted.clicks == data.label.sum()
    assert fitted.values[0] == 1
    assert (np.diff(fitted.values) <= 0).all()


def test_how_good_a_query_is_cannot_pass_for_examination() -> None:
    """Long pages answer good queries: click rates rise with depth, although θ falls."""
    data, theta = make_clicks()
    rng = np.random.default_rng(1)
    good = (data.group % 2).astype(bool)
    poor_click = data.label * (rng.random(len(data)) < 0.3)
    log = replace(data, label=np.where(good, data.label, poor_click))
    short = log.take(good | (data.position <= 3))
    assert relative_error(from_dual_learning(short).values, theta) < 0.25


def test_what_only_the_ranker_knew_looks_like_examination() -> None:
    """The limit that the documentation states: better than click rates, and still too steep."""
    data, theta = make_clicks(unseen=1.0)
    fitted = from_dual_learning(data).values
    assert 0.15 < relative_error(fitted, theta) < relative_error(click_rates(data), theta)
    assert (fitted[3:] < theta[3:]).all()


@pytest.mark.parametrize("hidden", [0, 6])
def test_gradients_are_those_of_the_two_losses(hidden: int) -> None:
    data, _ = make_clicks(40)
    data = replace(data, human=np.linspace(0.5, 1.0, len(data)).astype(np.float32))
    lists = _Lists.of(data, folds=2, seed=0)
    [batch] = lists.batches(10_000, np.random.default_rng(0))
    scaling = Scaling.of(data.features)
    rankers = Stacked(data.features.shape[1], hidden, np.zeros(2), seed=1)
    rankers.w2 += np.random.default_rng(3).normal(0, 0.3, rankers.w2.shape).astype(np.float32)
    curve = np.log(np.linspace(1.0, 0.2, 10))
    clip = 3.0
    gradients, back = _gradients(rankers, curve, batch, data.features, scaling, clip)

    human, count = data.human, len(batch.begin)
    requests = [np.flatnonzero(data.group == g) for g in np.unique(data.group)]
    requests = [rows for rows in requests if data.label[rows].any()]
    requests = [rows[np.argsort(data.position[rows])] for rows in requests]
    fold = {int(data.group[r]): int(f) for r, f in zip(batch.rows, batch.fold, strict=True)}
    assert count == len(requests)

    # In double precision, with steps too small for a kink of the hidden units to lie within.
    w1, b1, w2, _ = exact = [p.astype(float) for p in rankers.parameters()]

    def logits(rows: np.ndarray, ranker: int) -> np.ndarray:
        inputs = scaling.rows(data.features, rows).astype(float)
        if hidden:
            own = slice(ranker * hidden, (ranker + 1) * hidden)
            inputs = np.maximum(inputs @ w1[:, own] + b1[own], 0)
        return inputs @ w2[ranker]

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return z - np.log(np.exp(z).sum())

    def ranker_loss() -> float:
        total = 0.0
        for rows in requests:
            theta = np.exp(curve[data.position[rows] - 1])
            weight = data.label[rows] * human[rows] * np.minimum(theta[0] / theta, clip)
            for ranker in {0, 1} - {fold[int(data.group[rows[0]])]}:
                total -= (weight * log_softmax(logits(rows, ranker))).sum()
        return total / count

    def curve_loss(values: np.ndarray) -> float:
        total = 0.0
        for rows in requests:
            odds = np.exp(logits(rows, fold[int(data.group[rows[0]])]))
            weight = data.label[rows] * human[rows] * np.minimum(odds.mean() / odds, clip)
            total -= (weight * log_softmax(values[data.position[rows] - 1])).sum()
        return total / count

    for k in range(10):
        step = 1e-4 * (np.arange(10) == k)
        slow = (curve_loss(curve + step) - curve_loss(curve - step)) / 2e-4
        assert back[k] == pytest.approx(slow, abs=1e-5)
    for values, gradient in zip(exact[:3], gradients[:3], strict=True):
        for at in list(np.ndindex(values.shape))[:8]:
            kept = values[at]
            values[at] = kept + 1e-6
            above = ranker_loss()
            values[at] = kept - 1e-6
            below = ranker_loss()
            values[at] = kept
            assert gradient[at] == pytest.approx((above - below) / 2e-6, abs=1e-4)


def test_it_says_the_same_again_and_in_any_order_of_rows() -> None:
    data, _ = make_clicks(800)
    first = from_dual_learning(data, random_state=3)
    np.testing.assert_array_equal(from_dual_learning(data, random_state=3).values, first.values)
    turned = data.take(np.random.default_rng(0).permutation(len(data)))
    again = from_dual_learning(turned, random_state=3)
    np.testing.assert_allclose(again.values, first.values, rtol=0.02)


def test_bots_count_as_little_as_they_are_human() -> None:
    data, theta = make_clicks()
    bot = data.group % 5 == 0
    label = np.where(bot, (data.position > 5).astype(int), data.label)  # they like the depths
    log = replace(data, label=label)
    told = from_dual_learning(replace(log, human=np.where(bot, 0.0, 1.0).astype(np.float32)))
    assert relative_error(from_dual_learning(log).values, theta) > 0.5
    assert relative_error(told.values, theta) < 0.2


def test_rows_without_a_position_and_deep_sentinels_do_no_harm() -> None:
    data, theta = make_clicks(2_000)
    position = data.position.copy()
    position[::20] = 0
    position[1] = 2_147_483_647
    values = from_dual_learning(replace(data, position=position)).values
    assert len(values) <= 500
    assert np.isfinite(values).all()
    assert relative_error(values, theta) < 0.25


@pytest.mark.parametrize("kind", list(bad_logs()))
def test_bad_input_is_refused_in_one_sentence(kind: str) -> None:
    data, message = bad_logs()[kind]
    with pytest.raises(DataError, match=message):
        from_dual_learning(data)


def test_requests_of_one_row_say_nothing_and_are_refused() -> None:
    data, _ = make_clicks(200)
    with pytest.raises(DataError, match="0 clicks in requests of two rows or more: expected at le"):
        from_dual_learning(replace(data, group=np.arange(len(data))))


def test_settings_that_mean_nothing_are_refused() -> None:
    data, _ = make_clicks(100)
    wrong = {"hidden": -1, "folds": 1, "epochs": 0, "clip": 1.0}
    for name, value in wrong.items():
        with pytest.raises(ConfigError, match=f"{name}={value}: expected"):
            from_dual_learning(data, **{name: value})
