"""The join, against DuckDB as an obvious reference."""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.logs.attribution import Rules, join_bucket
from heft.logs.hashing import hash_ids

RULES = Rules(click_window=10.0, conversion_window=30.0)

# Few ids and few times, so that duplicates, ties and window edges are common.
_ids = st.sampled_from([f"i{n}" for n in range(8)])
_impressions = st.lists(st.tuples(_ids, st.integers(0, 12)), min_size=1, max_size=25)
_clicks = st.lists(st.tuples(_ids, st.integers(0, 30)), max_size=25)
_conversions = st.lists(
    st.tuples(_ids, st.integers(0, 70), st.sampled_from([1.0, 2.0, None])), max_size=25
)

_REFERENCE = """
WITH imp AS (
  SELECT impression_id AS id, timestamp AS shown FROM impressions
  QUALIFY row_number() OVER (PARTITION BY impression_id ORDER BY timestamp, _file, _row) = 1
), click AS (
  SELECT id, min(timestamp) AS clicked FROM imp JOIN clicks ON id = impression_id
  WHERE timestamp - shown BETWEEN 0 AND 10000 GROUP BY id
), conv AS (
  SELECT id, timestamp AS converted, coalesce(value, 0) AS value
  FROM click JOIN conversions ON id = impression_id
  WHERE timestamp - clicked BETWEEN 0 AND 30000
  QUALIFY row_number() OVER (PARTITION BY id ORDER BY timestamp, _file, _row) = 1
)
SELECT imp.id, shown, coalesce(clicked, -1), (clicked IS NOT NULL)::INT,
       coalesce((clicked - shown) / 1000, -1), (converted IS NOT NULL)::INT,
       coalesce((converted - clicked) / 1000, -1),
       coalesce(value, 0)
FROM imp LEFT JOIN click USING (id) LEFT JOIN conv USING (id) ORDER BY imp.id
"""

_KINDS = """
WITH imp AS (SELECT impression_id AS id, min(timestamp) AS shown FROM impressions GROUP BY 1),
     events AS (SELECT DISTINCT impression_id AS id, timestamp FROM clicks),
     judged AS (
       SELECT CASE WHEN shown IS NULL THEN 'orphan' WHEN timestamp < shown THEN 'early'
              WHEN timestamp > shown + 10000 THEN 'late'
              WHEN row_number() OVER (PARTITION BY events.id,
                   timestamp BETWEEN shown AND shown + 10000 ORDER BY timestamp) = 1
              THEN 'attributed' ELSE 'repeated' END AS kind
       FROM events LEFT JOIN imp USING (id))
SELECT kind, count(*) FROM judged GROUP BY 1
"""


def _table(rows: list[tuple[Any, ...]], names: list[str], kinds: list[pa.DataType]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    table = pa.table(dict(zip(names, arrays, strict=True)))
    order = np.arange(table.num_rows)
    table = table.append_column("_file", pa.array((order % 3).astype(np.int32)))
    table = table.append_column("_row", pa.array(order // 3))
    return table.append_column("_hash", pa.array(hash_ids(table.column(0).combine_chunks())))


def _tables(impressions: Any, clicks: Any, conversions: Any) -> list[pa.Table]:
    names = ["impression_id", "timestamp", "value"]
    kinds = [pa.string(), pa.int64(), pa.float64()]
    return [
        _table(
            [(row[0], row[1] * 1_000, *row[2:]) for row in rows],
            names[:width],
            kinds[:width],
        )
        for rows, width in ((impressions, 2), (clicks, 2), (conversions, 3))
    ]


@settings(max_examples=60, deadline=None)
@given(_impressions, _clicks, _conversions)
def test_join_agrees_with_duckdb_row_for_row(
    shown: list[Any], clicked: list[Any], converted: list[Any]
) -> None:
    impressions, clicks, conversions = _tables(shown, clicked, converted)
    joined = join_bucket(impressions, clicks, conversions, RULES)
    expected = duckdb.execute(_REFERENCE).fetchall()
    columns = (
        "impression_id", "timestamp", "_click_time", "click", "click_delay", "conversion",
        "conversion_delay", "conversion_value",
    )  # fmt: skip
    got = sorted(zip(*(joined.table.column(name).to_pylist() for name in columns), strict=True))
    assert got == [tuple(row) for row in expected]
    kinds = dict(duckdb.execute(_KINDS).fetchall())
    duplicates = clicks.num_rows - sum(kinds.values())
    assert joined.clicks == {k: n for k, n in (kinds | {"duplicates": duplicates}).items() if n}


@settings(max_examples=60, deadline=None)
@given(_impressions, _clicks, _conversions)
def test_every_event_has_one_fate(
    shown: list[Any], clicked: list[Any], converted: list[Any]
) -> None:
    tables = _tables(shown, clicked, converted)
    joined = join_bucket(*tables, RULES)
    counts = (joined.impressions, joined.clicks, joined.conversions)
    for table, outcomes in zip(tables, counts, strict=True):
        assert sum(outcomes.values()) == table.num_rows


@settings(max_examples=30, deadline=None)
@given(_impressions, _clicks, _conversions, st.randoms(use_true_random=False))
def test_the_order_in_which_rows_arrive_does_not_matter(
    shown: list[Any], clicked: list[Any], converted: list[Any], random: Any
) -> None:
    tables = _tables(shown, clicked, converted)
    moved = []
    for table in tables:
        order = list(range(table.num_rows))
        random.shuffle(order)
        moved.append(table.take(pa.array(order, pa.int64())))
    assert join_bucket(*tables, RULES).table.equals(join_bucket(*moved, RULES).table)


def test_ids_whose_hashes_collide_are_kept_apart() -> None:
    impressions, clicks, conversions = _tables([("a", 1), ("b", 1), ("a", 2)], [("b", 2)], [])
    same = pa.array(np.full(3, 7, np.uint64))
    place = impressions.column_names.index("_hash")
    impressions = impressions.set_column(place, "_hash", same)
    table = join_bucket(impressions, clicks, conversions, Rules(10.0, 10.0)).table
    assert dict(zip(*table.select(["impression_id", "click"]).to_pydict().values(), strict=True)) \
        == {"a": 0, "b": 1}  # fmt: skip
