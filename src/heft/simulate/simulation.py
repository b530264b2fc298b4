"""A simulated log, from judgements to files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from heft.simulate.events import Events, draw_events
from heft.simulate.groups import GROUPS, TRAIN, split_queries
from heft.simulate.judgements import Judgements
from heft.simulate.pages import Pages, draw_pages
from heft.simulate.ranker import ranker_scores
from heft.simulate.sessions import DAY_MS, START_MS, BotKind, Sessions, draw_sessions, stream
from heft.simulate.settings import SimulationSettings
from heft.simulate.sources import load_judgements
from heft.simulate.storage import MARKER, whole_folder, write_table
from heft.simulate.tables import arrow, grade_table, log_tables, truth_tables

__all__ = ["simulate"]

Progress = Callable[[str], None]


def simulate(
    settings: SimulationSettings, out: Path, *, progress: Progress | None = None
) -> dict[str, int]:
    """Simulates the logs of a shop and writes them, with the truth beside them.

    Under `out`: impressions, clicks and conversions in `span-N` folders (an
    event in the span in which it happens), catalogue, grades (of the test
    group's queries, which no log contains), truth, and simulation.json
    (settings and counts). The folder appears when all is written; an earlier
    simulation there is replaced. The same settings and data give the same bytes.

    Args:
        settings: what to simulate.
        out: the folder to write.
        progress: called with the name of each stage as it begins.

    Returns:
        Counts: sessions, impressions, clicks, conversions, unseen_conversions
        (after the end of the data), users, bots, bot_sessions,
        randomised_sessions, items, pairs, graded_pairs, and queries by group.

    Raises:
        ConfigError: `data` does not fit the source.
        DataError: the data cannot be used, or `out` holds something else.
    """
    tell = progress or (lambda stage: None)
    tell(f"read {settings.source}")
    judgements = load_judgements(settings)
    queries = split_queries(judgements, settings.min_candidates, stream(settings.seed, "groups"))
    with whole_folder(Path(out)) as folder:
        tell("train production ranker")
        scores = _production_scores(judgements, queries, settings)
        tell("draw sessions")
        sessions = draw_sessions(queries, settings)
        pages = draw_pages(sessions, queries, scores, settings)
        prices = judgements.catalogue.set_index("item_id")["price"].fillna(1.0)
        events = draw_events(
            sessions,
            pages,
            judgements.pairs["grade"].to_numpy(),
            prices.loc[judgements.pairs["item_id"]].to_numpy(),
            settings,
        )
        tell("write logs")
        _write_log(log_tables(sessions, pages, events, judgements), folder, settings)
        write_table(arrow(judgements.catalogue), folder / "catalogue", settings.format)
        graded = grade_table(judgements, queries)
        write_table(graded, folder / "grades", settings.format)
        tell("write truth")
        truth = truth_tables(sessions, pages, events, judgements, queries)
        (folder / "truth").mkdir()
        for name, table in truth.items():
            pa.parquet.write_table(table, folder / "truth" / f"{name}.parquet")
        counts = _counts(sessions, pages, events, judgements, queries)
        counts["graded_pairs"] = graded.num_rows
        facts = {"settings": settings.model_dump(), "counts": counts}
        (folder / MARKER).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return counts


def _production_scores(
    judgements: Judgements, queries: pd.DataFrame, settings: SimulationSettings
) -> npt.NDArray[np.float64]:
    pairs = judgements.pairs.merge(
        judgements.catalogue[["item_id", "title"]], on="item_id", how="left"
    )
    train = queries.loc[queries["group"] == TRAIN, "query"]
    return ranker_scores(
        pairs["query"],
        pairs["title"],
        pairs["grade"].to_numpy(),
        pairs["query"].isin(train).to_numpy(),
        settings.ranker_share,
        stream(settings.seed, "ranker"),
    )


def _write_log(tables: dict[str, pa.Table], folder: Path, settings: SimulationSettings) -> None:
    """Each event goes to the span in which it happened; spans are whole days."""
    edges = [
        START_MS + DAY_MS * (settings.days * i // settings.spans) for i in range(settings.spans + 1)
    ]
    for name, table in tables.items():
        time = table["timestamp"]
        for span in range(settings.spans):
            inside = pc.and_(pc.greater_equal(time, edges[span]), pc.less(time, edges[span + 1]))
            write_table(table.filter(inside), folder / name / f"span-{span + 1}", settings.format)


def _counts(
    sessions: Sessions,
    pages: Pages,
    events: Events,
    judgements: Judgements,
    queries: pd.DataFrame,
) -> dict[str, int]:
    bot = sessions.bot_kind != BotKind.PERSON
    counts = {
        "sessions": len(sessions.time),
        "impressions": len(pages.rank),
        "clicks": int(events.clicked.sum()),
        "conversions": int(events.converted.sum()),
        "unseen_conversions": int((events.clicked & events.potential & ~events.converted).sum()),
        "users": len(np.unique(sessions.user)),
        "bots": len(np.unique(sessions.user[bot])),
        "bot_sessions": int(bot.sum()),
        "randomised_sessions": int(sessions.randomised.sum()),
        "items": len(judgements.catalogue),
        "pairs": len(judgements.pairs),
    }
    for group in GROUPS:
        counts[f"{group}_queries"] = int((queries["group"] == group).sum())
    return counts
