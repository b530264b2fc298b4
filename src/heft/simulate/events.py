"""What happened on the pages: examination, clicks, conversions, and the truth of each."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heft.simulate import behaviour
from heft.simulate.pages import Pages
from heft.simulate.sessions import DAY_MS, MOBILE, START_MS, BotKind, Sessions, stream
from heft.simulate.settings import SimulationSettings

__all__ = ["Events", "draw_events"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_UNIFORM_CLICKS, _HAMMER_CLICKS, _RIVAL_CLICKS, _STEALTH_CLICKS = 0.5, 0.95, 0.95, 0.5
_SCAN_MS, _DWELL_MS = 2_000, 6_000.0  # a person looks down the page, then hesitates
_SCRIPT_MS = (300, 1_500)
_EXTRA_ITEMS = 0.15  # mean number of items bought beyond the first


@dataclass(frozen=True)
class Events:
    """One entry for each impression; every array has the shape (impressions,).

    `clicked` and `converted` are the events in the log: those before the end of
    the data. `potential` says whether a click leads to a conversion, for
    unclicked impressions too, and `delay` after how many milliseconds.
    """

    grade: Ints
    attraction: Floats
    examination: Floats
    examined: Bools
    click_probability: Floats
    clicked: Bools
    click_time: Ints
    conversion_probability: Floats
    potential: Bools
    delay: Ints
    converted: Bools
    value: Floats


def draw_events(
    sessions: Sessions, pages: Pages, grades: Ints, prices: Floats, settings: SimulationSettings
) -> Events:
    """Draws what visitors do; `grades` and `prices` have one entry for each pair."""
    grade, kind = grades[pages.pair], sessions.bot_kind[pages.session]
    person = kind == BotKind.PERSON
    attraction = behaviour.attractiveness(grade)
    theta, given = _looks(sessions, pages, attraction, kind, settings)
    rng = stream(settings.seed, "clicks")
    examined = rng.random(len(grade)) < theta
    clicked = examined & (rng.random(len(grade)) < given)
    flipped = person & (rng.random(len(grade)) < settings.label_noise)
    noise = np.where(person, settings.label_noise, 0.0)
    probability = theta * given
    click_time = sessions.time[pages.session] + _time_to_click(pages.rank, kind, rng)

    end = START_MS + settings.days * DAY_MS
    rng = stream(settings.seed, "conversions")
    conversion = np.where(person, behaviour.conversion_probability(grade), 0.0)
    potential = rng.random(len(grade)) < conversion
    delay = behaviour.delays_ms(
        rng, len(grade), settings.delay, settings.delay_hours, settings.delay_shape
    )
    clicked = (clicked ^ flipped) & (click_time < end)
    items = 1 + rng.poisson(_EXTRA_ITEMS, len(grade))
    return Events(
        grade=grade,
        attraction=attraction,
        examination=theta,
        examined=examined,
        click_probability=probability + noise * (1.0 - 2.0 * probability),
        clicked=clicked,
        click_time=click_time,
        conversion_probability=conversion,
        potential=potential,
        delay=delay,
        converted=clicked & potential & (click_time + delay < end),
        value=np.round(items * prices[pages.pair], 2),
    )


def _looks(
    sessions: Sessions, pages: Pages, attraction: Floats, kind: Ints, settings: SimulationSettings
) -> tuple[Floats, Floats]:
    """Probabilities of examination, and of a click if examined, by kind of visitor.

    A script reads the whole page; a stealth bot looks as people do.
    """
    mobile = sessions.device[pages.session] == MOBILE
    eta = settings.eta * np.where(mobile, settings.mobile_eta, 1.0)
    looks = behaviour.examination(pages.rank, eta)
    ones = np.ones_like(looks)
    kinds = [kind == k for k in BotKind]
    theta = np.select(kinds, [looks, ones, ones, ones, looks])
    given = np.select(
        kinds,
        [
            behaviour.click_given_examination(attraction, pages.rank, settings.trust_bias),
            _UNIFORM_CLICKS * ones,
            _HAMMER_CLICKS * (pages.rank == 0),
            _RIVAL_CLICKS * pages.target,
            _STEALTH_CLICKS * ones,
        ],
    )
    return theta, given


def _time_to_click(rank: Ints, kind: Ints, rng: np.random.Generator) -> Ints:
    """Milliseconds from the page to the click: seconds for people, less for scripts."""
    slow = _SCAN_MS * (rank + 1) + rng.exponential(_DWELL_MS, len(rank)).astype(np.int64)
    fast = rng.integers(*_SCRIPT_MS, size=len(rank))
    return np.where((kind == BotKind.PERSON) | (kind == BotKind.STEALTH), slow, fast)
