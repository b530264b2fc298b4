"""Last clicks, views and flags, against DuckDB as an obvious reference."""

from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.logs.attribution import Joined, Rules, join_bucket
from tests.unit.logs.test_attribution import _clicks, _conversions, _ids, _impressions, _tables

RULES = Rules(click_window=10.0, conversion_window=30.0, click="last", view_window=15.0)

_COLUMNS = ("impression_id", "_click_time", "click", "click_delay", "conversion",
            "conversion_delay", "conversion_value")  # fmt: skip

# A conversion is credited to the last click before it; of an impression that nobody clicked,
# to the view.
_REFERENCE = """
WITH imp AS (
  SELECT impression_id AS id, timestamp AS shown FROM impressions
  QUALIFY row_number() OVER (PARTITION BY impression_id ORDER BY timestamp, _file, _row) = 1
), inside AS (
  SELECT id, shown, timestamp AS clicked FROM imp JOIN clicks ON id = impression_id
  WHERE timestamp - shown BETWEEN 0 AND 10000
), last AS (SELECT id, max(clicked) AS clicked FROM inside GROUP BY id),
candidates AS (
  SELECT c.impression_id AS id, c.timestamp AS converted, coalesce(c.value, 0) AS value,
         _file, _row, coalesce(max(inside.clicked), any_value(imp.shown)) AS since,
         max(inside.clicked) AS credited
  FROM conversions c JOIN imp ON imp.id = c.impression_id
  LEFT JOIN inside ON inside.id = imp.id AND inside.clicked <= c.timestamp
  WHERE inside.clicked IS NOT NULL OR imp.id NOT IN (SELECT id FROM last)
  GROUP BY ALL
), conv AS (
  SELECT * FROM candidates
  WHERE converted - since BETWEEN 0 AND if(credited IS NULL, 15000, 30000)
  QUALIFY row_number() OVER (PARTITION BY id ORDER BY converted, _file, _row) = 1
)
SELECT imp.id, coalesce(credited, clicked, -1), (clicked IS NOT NULL)::INT,
       coalesce((coalesce(credited, clicked) - shown) / 1000, -1), (converted IS NOT NULL)::INT,
       coalesce((converted - since) / 1000, -1), coalesce(value, 0)
FROM imp LEFT JOIN last USING (id) LEFT JOIN conv USING (id) ORDER BY imp.id
"""


def _rows(joined: Joined) -> list[tuple[Any, ...]]:
    columns = (joined.table.column(name).to_pylist() for name in _COLUMNS)
    return sorted(zip(*columns, strict=True))


@settings(max_examples=60, deadline=None)
@given(_impressions, _clicks, _conversions)
def test_last_clicks_and_views_agree_with_duckdb_row_for_row(
    shown: list[Any], clicked: list[Any], converted: list[Any]
) -> None:
    impressions, clicks, conversions = _tables(shown, clicked, converted)
    joined = join_bucket(impressions, clicks, conversions, RULES)
    assert _rows(joined) == duckdb.execute(_REFERENCE).fetchall()
    views = sum(row[4] and not row[2] for row in _rows(joined))
    assert joined.notes.get("view-through", 0) == views
    for table, counts in ((clicks, joined.clicks), (conversions, joined.conversions)):
        assert sum(counts.values()) == table.num_rows


_flagged = st.lists(
    st.tuples(_ids, st.integers(0, 12), st.booleans(), st.booleans()), min_size=1, max_size=25
)


@settings(max_examples=40, deadline=None)
@given(_flagged, _conversions)
def test_a_flag_in_any_row_of_an_impression_counts_as_its_click(
    rows: list[Any], converted: list[Any]
) -> None:
    impressions, clicks, conversions = _tables([row[:2] for row in rows], [], converted)
    impressions = impressions.append_column("click", pa.array([int(row[2]) for row in rows]))
    rules = Rules(click_window=10.0, conversion_window=30.0)
    joined = join_bucket(impressions, clicks, conversions, rules)
    clicked = {row[0] for row in rows if row[2]}
    first = {i: min(row[1] for row in rows if row[0] == i) * 1_000 for i in {r[0] for r in rows}}
    for name, time, click, delay, conversion, _, _ in _rows(joined):
        assert click == (name in clicked)
        assert time == (first[name] if click else -1)
        assert delay == -1  # a flag does not say when
        waits = [row[1] * 1_000 - first[name] for row in converted if row[0] == name]
        assert conversion == (click and any(0 <= wait <= 30_000 for wait in waits))


@settings(max_examples=40, deadline=None)
@given(_flagged, st.sampled_from([None, 5.0]))
def test_a_flagged_conversion_needs_a_click_unless_views_count(
    rows: list[Any], view_window: float | None
) -> None:
    impressions, clicks, conversions = _tables([row[:2] for row in rows], [], [])
    for place, name in ((2, "click"), (3, "conversion")):
        impressions = impressions.append_column(name, pa.array([int(r[place]) for r in rows]))
    rules = Rules(10.0, 30.0, view_window=view_window)
    joined = join_bucket(impressions, clicks, conversions, rules)
    clicked, bought = ({row[0] for row in rows if row[place]} for place in (2, 3))
    counted = bought if view_window else bought & clicked
    assert {row[0] for row in _rows(joined) if row[4]} == counted
    assert joined.notes.get("unclicked flags", 0) == len(bought - counted)
    assert joined.notes.get("view-through", 0) == len(counted - clicked)
