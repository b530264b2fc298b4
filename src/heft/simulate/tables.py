"""The simulation as tables: what a shop would have logged, and what only the simulator knows."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from heft.simulate.events import Events
from heft.simulate.groups import TEST
from heft.simulate.judgements import Judgements
from heft.simulate.pages import Pages
from heft.simulate.sessions import DEVICES, BotKind, Sessions

__all__ = ["arrow", "grade_table", "log_tables", "truth_tables"]

Ints = npt.NDArray[np.int64]


def log_tables(
    sessions: Sessions, pages: Pages, events: Events, judgements: Judgements
) -> dict[str, pa.Table]:
    """Impressions, clicks and conversions as a shop logs them, each in order of time."""
    time = sessions.time[pages.session]
    ids = _impression_ids(pages)
    impressions = pa.table(
        {
            "impression_id": ids,
            "request_id": _numbered("r", pages.session),
            "user_id": _numbered("u", sessions.user[pages.session]),
            "query": _texts(judgements.pairs["query"], pages.pair),
            "item_id": _texts(judgements.pairs["item_id"], pages.pair),
            "position": pages.rank + 1,
            "timestamp": time,
            "randomised": sessions.randomised[pages.session].astype(np.int64),
            "device": _texts(pd.Series(DEVICES), sessions.device[pages.session]),
        }
    )
    clicks = _in_order(events.clicked, events.click_time)
    bought = _in_order(events.converted, events.click_time + events.delay)
    return {
        "impressions": impressions,
        "clicks": pa.table(
            {"impression_id": ids.take(clicks), "timestamp": events.click_time[clicks]}
        ),
        "conversions": pa.table(
            {
                "impression_id": ids.take(bought),
                "timestamp": (events.click_time + events.delay)[bought],
                "value": events.value[bought],
            }
        ),
    }


def truth_tables(
    sessions: Sessions,
    pages: Pages,
    events: Events,
    judgements: Judgements,
    queries: pd.DataFrame,
) -> dict[str, pa.Table]:
    """What no later node may read: impressions, queries and grades with their groups.

    Milliseconds of `conversion_delay` are given for every impression whose
    click leads to a conversion, clicked or not, in the log or after its end.
    """
    kind = sessions.bot_kind[pages.session]
    impressions = pa.table(
        {
            "impression_id": _impression_ids(pages),
            "grade": events.grade,
            "attractiveness": events.attraction,
            "examined": events.examined,
            "examination_probability": events.examination,
            "click_probability": events.click_probability,
            "is_bot": kind != BotKind.PERSON,
            "bot_kind": _texts(pd.Series([k.name.lower() for k in BotKind]), kind + 1),
            "conversion_probability": events.conversion_probability,
            "potential_conversion": events.potential,
            "conversion_delay": pa.array(events.delay, mask=~events.potential),
        }
    )
    return {
        "impressions": impressions,
        "queries": arrow(queries),
        "grades": arrow(judgements.pairs.merge(queries[["query", "group"]], on="query")),
    }


def grade_table(judgements: Judgements, queries: pd.DataFrame) -> pa.Table:
    """The human grades of the test group's pairs: query, item_id, grade."""
    test = judgements.pairs["query"].isin(queries.loc[queries["group"] == TEST, "query"])
    return arrow(judgements.pairs[test])


def arrow(frame: pd.DataFrame) -> pa.Table:
    """`frame` without its index; NaN becomes null, which is how every format says unknown."""
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()


def _impression_ids(pages: Pages) -> pa.Array:
    return pc.binary_join_element_wise(
        _numbered("i", pages.session), pc.utf8_lpad(_digits(pages.rank + 1), 2, "0"), "-"
    )


def _numbered(prefix: str, numbers: Ints) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(_digits(numbers), 8, "0"), "")


def _digits(numbers: Ints) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _texts(texts: pd.Series, codes: Ints) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(codes))


def _in_order(happened: npt.NDArray[np.bool_], time: Ints) -> Ints:
    rows = np.flatnonzero(happened)
    return rows[np.argsort(time[rows], kind="stable")]
