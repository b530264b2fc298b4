"""Who comes when, with which query: people in their daily rhythm, bots in bursts."""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from heft.simulate.groups import TRAIN
from heft.simulate.settings import SimulationSettings

__all__ = ["DAY_MS", "DEVICES", "MOBILE", "START_MS", "BotKind", "Sessions", "draw_sessions",
           "stream"]  # fmt: skip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

START_MS = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
DEVICES = ("mobile", "desktop", "tablet")
MOBILE = 0
_DEVICE_SHARES = (0.58, 0.34, 0.08)
_SAME_DEVICE = 0.85
# New queries reach a shop all the time; those of the tune group reach it in
# the last fifth of the data.
_FIRST_TUNE_TIME = 0.8
_SESSIONS_PER_USER, _SESSIONS_PER_BOT = 4, 40
_BURST_MS = 3 * 3_600_000
# Relative traffic by hour of the day, UTC.
_HOURS = np.array([2, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 8, 9, 9, 8, 6, 4], float)


class BotKind(IntEnum):
    """How a visitor clicks."""

    PERSON = -1
    UNIFORM = 0  # clicks anything, wherever it stands
    HAMMER = 1  # clicks the first result
    COMPETITOR = 2  # clicks one product of a rival
    STEALTH = 3  # clicks by rank, as people do, but blind to relevance


@dataclass(frozen=True)
class Sessions:
    """Result pages in order of time; every array has the shape (sessions,).

    `query` is a row of the queries table. `target` is a random number in
    [0, 1) that belongs to the visitor: it names a competitor's product.
    """

    time: Ints
    query: Ints
    user: Ints
    device: Ints
    bot_kind: Ints
    target: Floats
    randomised: npt.NDArray[np.bool_]


def stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for each part of the simulation.

    So that, say, more bots do not change which queries are in the test group.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def draw_sessions(queries: pd.DataFrame, settings: SimulationSettings) -> Sessions:
    """Draws the sessions of `settings` over `queries` (see `split_queries`)."""
    robots = round(settings.bots * settings.sessions)
    people = settings.sessions - robots
    bots = max(-(-robots // _SESSIONS_PER_BOT), min(robots, 4))
    users = max(-(-people // _SESSIONS_PER_USER), 1)
    rng = stream(settings.seed, "visitors")
    # People first, then bots; the identifiers shuffled, so that they tell nothing.
    appetite = rng.gamma(1.0, size=users)
    visitor = np.concatenate(
        [
            rng.choice(users, size=people, p=appetite / appetite.sum()),
            users + np.arange(robots) % max(bots, 1),
        ]
    )
    kinds = np.concatenate([np.full(users, BotKind.PERSON), np.arange(bots) % 4]).astype(np.int64)
    identifiers = rng.permutation(users + bots)
    main_device = rng.choice(len(DEVICES), size=users + bots, p=_DEVICE_SHARES)
    other_device = rng.choice(len(DEVICES), size=settings.sessions, p=_DEVICE_SHARES)
    loyal = (rng.random(settings.sessions) < _SAME_DEVICE) | (kinds[visitor] >= 0)
    target = rng.random(users + bots)

    time = _times(visitor, kinds[visitor], users + bots, settings)
    order = np.argsort(time, kind="stable")
    query = _queries(time, visitor, kinds, queries, settings)
    randomised = stream(settings.seed, "randomised").random(settings.sessions) < settings.shuffled
    return Sessions(
        time=time[order],
        query=query[order],
        user=identifiers[visitor][order],
        device=np.where(loyal, main_device[visitor], other_device)[order],
        bot_kind=kinds[visitor][order],
        target=target[visitor][order],
        randomised=randomised,
    )


def _times(visitor: Ints, kind: Ints, visitors: int, settings: SimulationSettings) -> Ints:
    """Milliseconds since the epoch: by hour of the day, but most bots in bursts."""
    rng = stream(settings.seed, "times")
    hour = rng.choice(len(_HOURS), size=len(visitor), p=_HOURS / _HOURS.sum())
    day = rng.integers(settings.days, size=len(visitor))
    time = day * DAY_MS + hour * 3_600_000 + rng.integers(3_600_000, size=len(visitor))
    burst = rng.integers(settings.days * DAY_MS - _BURST_MS, size=visitors)[visitor]
    burst += rng.integers(_BURST_MS, size=len(visitor))
    bursting = (kind != BotKind.PERSON) & (kind != BotKind.STEALTH)
    return START_MS + np.where(bursting, burst, time)


def _queries(
    time: Ints, visitor: Ints, kinds: Ints, queries: pd.DataFrame, settings: SimulationSettings
) -> Ints:
    """A query for each session by popularity; a competitor keeps to one query."""
    rng = stream(settings.seed, "queries")
    rows = rng.permutation(np.flatnonzero(queries["loggable"]))
    weight = np.asarray(np.arange(1.0, len(rows) + 1) ** -settings.popularity, np.float64)
    early = _cumulative(weight * (queries["group"].to_numpy()[rows] == TRAIN))
    late = _cumulative(weight)
    draw = rng.random(len(visitor))
    is_late = time >= START_MS + _FIRST_TUNE_TIME * settings.days * DAY_MS
    chosen = np.where(is_late, np.searchsorted(late, draw, "right"),
                      np.searchsorted(early, draw, "right"))  # fmt: skip
    favourite = np.searchsorted(early, rng.random(len(kinds)), "right")
    rival = kinds[visitor] == BotKind.COMPETITOR
    return np.asarray(rows[np.where(rival, favourite[visitor], chosen)], dtype=np.int64)


def _cumulative(weight: Floats) -> Floats:
    total = np.cumsum(weight)
    return np.asarray(total / total[-1], dtype=np.float64)
