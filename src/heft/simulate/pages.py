"""Result pages: which judged items a session saw, and in which order."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from heft.simulate.sessions import Sessions, stream
from heft.simulate.settings import SimulationSettings

__all__ = ["Pages", "draw_pages"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Random numbers held at once while pages are drawn.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Pages:
    """Impressions page by page, top to bottom; every array has the shape (impressions,).

    `session` is a row of the sessions, `pair` a row of the pairs, `rank` counts
    from 0, `target` says that the pair is the one a competitor's bot is after.
    """

    session: Ints
    pair: Ints
    rank: Ints
    target: npt.NDArray[np.bool_]


def draw_pages(
    sessions: Sessions, queries: pd.DataFrame, scores: Floats, settings: SimulationSettings
) -> Pages:
    """Orders each session's candidates, the judged items of its query.

    The order is Plackett-Luce over `scores / temperature` (by the Gumbel trick;
    Bruch et al., A Stochastic Treatment of Learning to Rank Scoring Functions,
    WSDM 2020), cut at the page size. On randomised pages those same items stand
    in a uniformly random order. `scores` has one entry for each pair, and pairs
    are grouped by query in the order of `queries`.
    """
    judged = queries["judged"].to_numpy()
    first = np.concatenate([[0], np.cumsum(judged)[:-1]])
    width = int(judged[sessions.query].max())
    size = min(settings.page_size, width)
    rng, shuffler = stream(settings.seed, "pages"), stream(settings.seed, "shuffles")
    shown, step = [], max(_BLOCK // width, 1)
    for start in range(0, len(sessions.query), step):
        query = sessions.query[start : start + step, None]
        pair = first[query] + np.arange(width)
        there = np.arange(width) < judged[query]
        noise = rng.gumbel(size=pair.shape)
        score = scores[np.minimum(pair, len(scores) - 1)] / settings.temperature + noise
        best = np.argsort(np.where(there, -score, np.inf), axis=1, kind="stable")[:, :size]
        page = np.where(np.take_along_axis(there, best, 1), np.take_along_axis(pair, best, 1), -1)
        mixing = np.where(page >= 0, shuffler.random(page.shape), np.inf)
        mixed = np.take_along_axis(page, np.argsort(mixing, axis=1, kind="stable"), 1)
        shown.append(np.where(sessions.randomised[start : start + step, None], mixed, page))
    page = np.concatenate(shown)
    session, rank = np.nonzero(page >= 0)
    pair = page[session, rank]
    query = sessions.query[session]
    target = first[query] + np.floor(sessions.target[session] * judged[query]).astype(np.int64)
    return Pages(session, pair, rank, pair == target)
