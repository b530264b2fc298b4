"""Examination from a log whose pairs seldom repeat: regression-EM."""

import logging

import numpy as np

from heft.errors import ConfigError
from heft.importance.base import ImportanceData
from heft.importance.examination import Examination, _monotone
from heft.importance.keys import row_order
from heft.importance.positioned import DEEPEST, human_mass, positioned
from heft.importance.proxy import OutOfFoldProxy

__all__ = ["from_regression_em"]

Array = np.ndarray

_log = logging.getLogger(__name__)

_LEAST = 1e-3  # of examination
_BINS = 512  # of attractiveness, in the M-step of examination
_INNER = 500
# A round goes this far past its own answer: EM creeps, and up to 2 it still converges.
_STRIDE = 1.5


def from_regression_em(
    data: ImportanceData,
    proxy: OutOfFoldProxy | None = None,
    rounds: int = 20,
    tolerance: float = 0.01,
    minimum_clicks: int = 50,
    random_state: int = 0,
) -> Examination:
    """Examination by position where a model tells attractiveness from features.

    P(click) = θ(k)·a(x). A row without a click was examined with probability
    θ(1 − a)/(1 − θa), and was attractive with probability a(1 − θ)/(1 − θa): the
    E-step. The M-step sets θ(k) to the mean of the former over position k and
    trains a(x) on the latter. Wang, Golbandi, Bendersky, Metzler & Najork 2018,
    *Position Bias Estimation for Unbiased Learning to Rank in Personal Search*.

    The networks renew the posterior at every gradient step: they are trained under
    y ~ Bernoulli(θa), whose gradient is that of the M-step at the posterior of the
    moment (Fisher's identity). Posteriors frozen for a round need some five times
    the rounds. What they say of a row comes from networks that have not seen its
    request. θ(1) is 1: the scale of θ, which a log cannot tell from that of a, stays
    in a. The start is the click rate by position.

    The curve is right as far as the features explain how the production ranker
    placed the items. What the ranker knew beyond them looks like examination,
    and the curve falls too fast. No pair needs to repeat, and no page be shuffled.

    Args:
        data: the samples; rows without a position are left out, and `human` says how
            much of a row counts (networks see it with that probability).
        proxy: shared out-of-fold model, for its settings; a new one is trained in
            each round. Its own if none is given.
        rounds: most rounds, at least 1. Each trains the networks once: 5 to 10 are
            usual, at 0.7 s each for 190,000 rows × 36 on two cores.
        tolerance: it ends when θ would move by less than this share of itself.
        minimum_clicks: fewer than this and the estimate is refused.
        random_state: seed of the own proxy and of which rows stand for people.

    Raises:
        ConfigError: rounds or tolerance that mean nothing.
        DataError: see `positioned`.
    """
    if rounds < 1:
        raise ConfigError(f"rounds={rounds}: expected at least 1")
    if not tolerance > 0:
        raise ConfigError(f"tolerance={tolerance}: expected above 0")
    data = positioned(data, minimum_clicks)
    proxy = proxy or OutOfFoldProxy(random_state=random_state)
    place = np.minimum(data.position, DEEPEST) - 1
    mass = human_mass(data)
    people = _people(data, mass, random_state)
    shown = np.bincount(place, mass)
    theta = np.bincount(place, mass * data.label) / np.maximum(shown, 1e-12)
    first = int(place.min())
    theta = _gauged(theta / max(theta[first], 1e-12), first)
    for _ in range(rounds):
        fresh = OutOfFoldProxy(
            proxy.folds, proxy.epochs, proxy.hidden_units, proxy.batch_size, proxy.random_state
        )
        observed = data.with_observed(theta[place].astype(np.float32))
        fresh.fit(observed if people is None else observed.take(people))
        attractive = fresh.trace(data).final
        best = _likeliest(place, data.label, attractive, mass, theta, first)
        move = np.log(best / theta)
        change = float(np.abs(move[shown > 0]).max())
        theta = best if change < tolerance else _gauged(theta * np.exp(_STRIDE * move), first)
        if change < tolerance:
            break
    else:
        _log.warning(
            "regression-EM: after %d rounds the curve still moves by %.1f %%; more rounds may help",
            rounds,
            100 * change,
        )
    clicks = round(float((mass * data.label).sum()))
    exposure = np.bincount(place, mass * attractive, minlength=len(theta))
    return Examination(_monotone(theta * exposure, exposure), clicks, "regression-EM")


def _gauged(theta: Array, first: int) -> Array:
    """Within (0, 1), and 1 at the first position; 1 elsewhere would be a place EM cannot leave."""
    theta = np.clip(theta, _LEAST, 0.99)
    theta[first] = 1.0
    return theta


def _people(data: ImportanceData, mass: Array, seed: int) -> Array | None:
    """Row numbers, each with probability `mass` by hash of its keys; None for all of them."""
    if (mass >= 1).all():
        return None
    order = row_order(data, seed)
    draw = np.empty(len(data))
    draw[order] = (np.arange(len(data)) + 0.5) / len(data)
    return np.flatnonzero(draw < mass)


def _likeliest(
    place: Array, click: Array, attractive: Array, mass: Array, theta: Array, first: int
) -> Array:
    """θ by EM at fixed attractiveness: the mean posterior of examination, until it stays.

    Rows without a click are summed by position and bin of attractiveness first, so
    that a step costs positions · bins.
    """
    places = len(theta)
    missed = np.flatnonzero(click == 0)
    a = np.clip(attractive[missed].astype(np.float64), 1e-6, 1 - 1e-6)
    cell = place[missed] * _BINS + np.minimum((a * _BINS).astype(np.int64), _BINS - 1)
    count = np.bincount(cell, mass[missed], minlength=places * _BINS)
    total = np.bincount(cell, mass[missed] * a, minlength=places * _BINS)
    count, total = count.reshape(places, _BINS), total.reshape(places, _BINS)
    level = total / np.maximum(count, 1e-12)
    clicked = np.bincount(place, mass * click, minlength=places)
    shown = np.maximum(clicked + count.sum(axis=1), 1e-12)
    theta = _gauged(theta, first)
    for _ in range(_INNER):
        examined = theta[:, None] * (1 - level) / (1 - theta[:, None] * level)
        better = np.maximum((clicked + (count * examined).sum(axis=1)) / shown, _LEAST)
        settled = np.abs(better - theta).max() < 1e-6
        theta = better
        if settled:
            break
    return theta
