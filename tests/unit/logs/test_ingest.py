"""The whole pipeline, on files, as a run has it."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heft import features
from heft.errors import DataError, GateError
from heft.logs import LogsSettings, StreamSettings
from heft.logs.ingest import ingest
from heft.logs.report import IngestReport
from heft.logs.sampling import sample_log
from tests.unit.logs.logbook import (
    START,
    put,
    put_shop,
    read_examples,
    read_quarantine,
    shop,
)

# HMAC-SHA-256 of "u3" under the key of tests/conftest.py, as `openssl dgst -hmac` has it.
USER_3 = b"aKx5CfG6BSJomZXCeiDoKW8PKJnwsEVTEu5ABWPKKCU"
GRADES = StreamSettings(path="grades/*")


def _run(out: Path, **settings: Any) -> IngestReport:
    uris = {split: str(out / f"Split-{split}") for split in features.SPLITS}
    return ingest(LogsSettings(buckets=3, **settings), uris, str(out / "quarantine"))


def _examples(out: Path) -> list[dict[str, Any]]:
    return [
        row | {"split": folder.name.removeprefix("Split-")}
        for folder in sorted(out.glob("Split-*")) for row in read_examples(folder)
    ]  # fmt: skip


def _digests(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*")) if path.is_file()
    }  # fmt: skip


def _messy(seed: int) -> dict[str, list[dict[str, Any]]]:
    """A log out of order, with duplicates, strangers and crossed windows."""
    draw = random.Random(seed)
    log = shop(60)
    for stream, window in (("clicks", 20_000), ("conversions", 80_000)):
        events = [
            {"impression_id": f"i{draw.randrange(190)}",
             "timestamp": START + draw.randrange(3_600) * 1_000 + draw.randrange(window)}
            for _ in range(150)
        ]  # fmt: skip
        if stream == "conversions":
            events = [event | {"value": draw.randrange(100) / 4} for event in events]
        log[stream] += events + draw.sample(events, 20)
    again = [row | {"timestamp": row["timestamp"] + draw.randrange(-9_000, 9_000)}
             for row in draw.sample(log["impressions"], 30)]  # fmt: skip
    log["impressions"] += again
    for row in draw.sample(log["impressions"], 9):
        row["item_id"] = "never heard of"
    for stream in ("impressions", "clicks", "conversions"):
        draw.shuffle(log[stream])
    return log


_REFERENCE = """
WITH imp AS (
  SELECT impression_id AS id, request_id, item_id, timestamp AS shown
  FROM read_json('{root}/impressions/span-1/*', filename = true)
  QUALIFY row_number() OVER (PARTITION BY impression_id ORDER BY timestamp, filename) = 1
), clicks AS (SELECT * FROM read_json('{root}/clicks/span-1/*')),
conversions AS (SELECT * FROM read_json('{root}/conversions/span-1/*')),
ending AS (SELECT max(timestamp) AS latest FROM (
  SELECT timestamp FROM clicks UNION ALL SELECT timestamp FROM conversions
  UNION ALL SELECT shown FROM imp)),
click AS (
  SELECT id, min(timestamp) AS clicked FROM imp JOIN clicks ON id = impression_id
  WHERE timestamp - shown BETWEEN 0 AND 1200000 GROUP BY id
), conv AS (
  SELECT id, min(timestamp) AS converted FROM click JOIN conversions ON id = impression_id
  WHERE timestamp - clicked BETWEEN 0 AND 1500000 GROUP BY id
)
SELECT id, shown, (clicked IS NOT NULL)::INT,
       coalesce((clicked - shown) / 1000, -1)::FLOAT, (converted IS NOT NULL)::INT,
       coalesce((converted - clicked) / 1000, -1)::FLOAT,
       least((latest - coalesce(clicked, shown)) / 1000, 1500)::FLOAT, coalesce(title, '')
FROM imp LEFT JOIN click USING (id) LEFT JOIN conv USING (id) CROSS JOIN ending
LEFT JOIN read_json('{root}/catalogue/*') USING (item_id) ORDER BY id
"""

_CONFLICTS = """
WITH shown AS (
  SELECT *, row_number() OVER (PARTITION BY impression_id ORDER BY timestamp, filename) AS place
  FROM read_json('{root}/impressions/span-1/*', filename = true))
SELECT count(*) FROM shown again JOIN shown kept USING (impression_id)
WHERE kept.place = 1 AND (again.item_id, again.request_id) != (kept.item_id, kept.request_id)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_written_rows_agree_with_duckdb(tmp_path: Path, seed: int) -> None:
    root = put_shop(tmp_path / "log", _messy(seed))
    report = _run(
        tmp_path / "out", root=str(root), click_window=1_200, conversion_window=1_500,
        categorical=("device",), max_conflict_rate=0.1,
    )  # fmt: skip
    rows = _examples(tmp_path / "out")
    columns = ("impression_id", "timestamp", "click", "click_delay", "conversion",
               "conversion_delay", "observation", "title")  # fmt: skip
    got = sorted(
        tuple(v.decode() if isinstance(v, bytes) else v for v in (row[c] for c in columns))
        for row in rows
    )
    assert got == duckdb.execute(_REFERENCE.format(root=root)).fetchall()
    assert {row["device"] for row in rows} == {b"phone", b"desk"}
    assert report.unknown_items == sum(row["title"] == b"" for row in rows) > 0
    assert report.splits == {s: n for s in features.SPLITS if (n := _count(rows, s))}
    own = report.streams["impressions"]
    assert own.duplicates + own.conflicting == 30
    assert own.conflicting == duckdb.execute(_CONFLICTS.format(root=root)).fetchone()[0]
    assert sum(report.streams["clicks"].unattributed.values()) > 0
    requests: dict[bytes, set[str]] = {}
    for row in rows:
        requests.setdefault(row["request_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in requests.values())


def _count(rows: list[dict[str, Any]], split: str) -> int:
    return sum(row["split"] == split for row in rows)


def test_examples_have_the_columns_of_the_contract(tmp_path: Path) -> None:
    log = shop() | {"grades": [{"query": "q", "item_id": "p1", "grade": 2}] * 2}
    log["impressions"][11]["propensity"] = 0.25
    report = _run(
        tmp_path / "out", root=str(put_shop(tmp_path / "log", log)), grades=GRADES,
        categorical=("device",), numeric=("price",),
    )  # fmt: skip
    (first,) = [r for r in _examples(tmp_path / "out") if r["impression_id"] == b"i12"]
    assert first == {
        "impression_id": b"i12", "request_id": b"r3", "user_id": USER_3, "item_id": b"p12",
        "query": b"query 3", "title": b"title 12", "position": 3, "timestamp": START + 180_000,
        "randomised": 0, "propensity": 0.25, "category": b"c0", "brand": b"b", "price": 12.5,
        "click": 1, "click_delay": 5.0, "conversion": 1, "conversion_delay": 60.0,
        "conversion_value": 9.5, "observation": 2_405.0 - 185.0, "device": b"desk",
        "split": "train",
    }  # fmt: skip
    (graded,) = read_examples(tmp_path / "out/Split-graded")
    assert graded == {
        "impression_id": b"q\tp1", "request_id": b"q", "item_id": b"p1", "query": b"q",
        "title": b"title 1", "category": b"c1", "brand": b"b", "price": 1.5, "grade": 2.0,
        "device": b"",
    }  # fmt: skip
    assert report.streams["grades"].duplicates == 1
    names = {path.name for path in (tmp_path / "out/Split-graded").iterdir()}
    assert names == {f"data_tfrecord-0000{n}-of-00003.gz" for n in range(3)}


def test_same_log_same_bytes_on_every_run_and_from_every_format(tmp_path: Path) -> None:
    log = _messy(3)
    _run(tmp_path / "a", root=str(put_shop(tmp_path / "log", log)), max_conflict_rate=0.1)
    _run(tmp_path / "b", root=str(tmp_path / "log"), max_conflict_rate=0.1)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    again = put_shop(tmp_path / "again", log, ".parquet")
    _run(tmp_path / "c", root=str(again), max_conflict_rate=0.1)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "c")


def test_streams_a_log_does_not_have(tmp_path: Path) -> None:
    log = shop()
    items = {item["item_id"]: item for item in log["catalogue"]}
    rows = [items[row["item_id"]] | row for row in log["impressions"]]
    put_shop(tmp_path / "log", {"impressions": rows})
    report = _run(
        tmp_path / "out", root=str(tmp_path / "log"), clicks=None, conversions=None,
        catalogue=None,
    )  # fmt: skip
    examples = _examples(tmp_path / "out")
    assert len(examples) == len(rows) and report.unknown_items == 0
    assert {row["click"] for row in examples} == {0}
    assert {row["title"] for row in examples} == {f"title {n}".encode() for n in range(13)}


def test_rejected_rows_are_kept_and_counted(tmp_path: Path) -> None:
    log = shop(60)
    for row in log["impressions"]:
        del row["user_id"]  # of a log with people no line is kept as it was
    root = put_shop(tmp_path / "log", log)
    put(root, "impressions/span-1/z.jsonl", b'{"position": 0,\n{"impression_id": "x"}\n')
    put(root, "clicks/span-1/z.csv", b"impression_id,timestamp\ni4,soon\n")
    report = _run(tmp_path / "out", root=str(root))
    assert [
        (row["stream"], row["source"], row["line"], row["raw"])
        for row in read_quarantine(tmp_path / "out/quarantine")
    ] == [
        ("impressions", "impressions/span-1/z.jsonl", 1, '{"position": 0,'),
        ("impressions", "impressions/span-1/z.jsonl", 2, '{"impression_id": "x"}'),
        ("clicks", "clicks/span-1/z.csv", 2, "i4,soon"),
    ]
    assert report.streams["clicks"].reasons == {"timestamp: not a number": 1}
    assert report.rows_quarantined == 3
    assert report.streams["impressions"].read == 182
    summary = json.loads((tmp_path / "out/quarantine/summary.json").read_text())
    assert IngestReport.model_validate(summary) == report


def test_too_many_rejected_rows_stop_the_run_and_nothing_is_written(tmp_path: Path) -> None:
    root = put_shop(tmp_path / "log", shop())
    put(root, "clicks/span-1/z.csv", b"impression_id,timestamp\n" + b"i4,5\n,6\n,7\n" * 3)
    with pytest.raises(GateError, match=r"clicks: 6 of 39 rows \(15.4%\) cannot be used.*"
                       r"impression_id: missing value \(6\).*z.csv, line 3"):  # fmt: skip
        _run(tmp_path / "out", root=str(root))
    assert not list((tmp_path / "out").glob("Split-*"))
    assert len(read_quarantine(tmp_path / "out/quarantine")) == 6


def _observed(tmp_path: Path, name: str, **settings: Any) -> tuple[IngestReport, list[float]]:
    report = _run(tmp_path / name, root=str(tmp_path / "log"), **settings)
    return report, [row["observation"] for row in _examples(tmp_path / name)]


def test_one_time_far_ahead_does_not_end_the_log(tmp_path: Path) -> None:
    root = put_shop(tmp_path / "log", shop(60))
    report, usual = _observed(tmp_path, "a")
    assert max(usual) == 3_605 and report.end_of_data == START + 3_605_000
    assert report.notes is None
    ahead = shop(60)["impressions"][0] | {"impression_id": "x", "request_id": "x",
                                          "timestamp": 4_102_444_799_000}  # fmt: skip
    put(root, "impressions/span-1/z.jsonl", [ahead])
    report, found = _observed(tmp_path, "b")
    assert report.end_of_data == START + 3_605_000 and report.notes == {"past the end": 1}
    assert sorted(found) == sorted([*usual, 0.0])


def test_the_end_may_be_named(tmp_path: Path) -> None:
    put_shop(tmp_path / "log", shop(60))
    report, found = _observed(tmp_path, "a", end="2023-11-15")
    assert report.end_of_data == 1_700_092_799_999 and report.notes is None
    assert min(found) > 86_000
    report, found = _observed(tmp_path, "b", end="2023-11-14T23:00:00+00:00")
    assert max(found) == 2_800 and min(found) == 0
    late = sum(row["timestamp"] > START + 2_800_000
               for rows in shop(60).values() for row in rows if "timestamp" in row)  # fmt: skip
    assert report.notes == {"past the end": late}


def test_ids_of_several_impressions_stop_the_run_and_nothing_is_written(tmp_path: Path) -> None:
    log = shop(60)
    for row in log["impressions"]:
        row["impression_id"] = f"i{row['position']}"
    log["clicks"] = [{"impression_id": "i1", "timestamp": START}]
    root = put_shop(tmp_path / "log", log)
    with pytest.raises(GateError, match=r"177 of 180 rows .* more than max_conflict_rate=0.01"):
        _run(tmp_path / "out", root=str(root))
    assert not list((tmp_path / "out").glob("Split-*"))
    sample = sample_log(LogsSettings(root=str(root)))
    assert sample.streams["impressions"].conflicting == 177


def test_a_few_conflicts_are_counted_apart_from_duplicates(tmp_path: Path) -> None:
    log = shop(60)
    log["impressions"] += [log["impressions"][0], log["impressions"][5] | {"item_id": "p12"}]
    root = str(put_shop(tmp_path / "log", log))
    report = _run(tmp_path / "out", root=root)
    own = report.streams["impressions"]
    assert (own.read, own.written, own.duplicates, own.conflicting) == (182, 180, 1, 1)
    assert len(_examples(tmp_path / "out")) == 180
    shown = sample_log(LogsSettings(root=root)).streams["impressions"]
    assert (shown.duplicates, shown.conflicting) == (1, 1)


def test_clicks_that_meet_no_impression_stop_the_run(tmp_path: Path) -> None:
    log = shop(60)
    for row in log["clicks"]:
        row["impression_id"] = f"page/{row['impression_id']}"
    root = str(put_shop(tmp_path / "log", log))
    with pytest.raises(GateError, match=r"clicks: none of 45 rows has the impression_id of an"):
        _run(tmp_path / "out", root=root)
    assert not list((tmp_path / "out").glob("Split-*"))
    assert sample_log(LogsSettings(root=root)).streams["clicks"].orphans == 45


def test_a_file_that_breaks_off_stops_the_run(tmp_path: Path) -> None:
    root = put_shop(tmp_path / "log", shop(), ".csv.gz")
    path = root / "clicks/span-1/part-0.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"clicks/span-1/part-0.csv.gz cannot be read to its end"):
        _run(tmp_path / "out", root=str(root))
    assert not list((tmp_path / "out").glob("Split-*"))


def test_a_split_that_would_be_empty_stops_the_run(tmp_path: Path) -> None:
    log = shop()
    for row in log["impressions"]:
        row["timestamp"] = START
    with pytest.raises(DataError, match="the split 'train' is empty"):
        _run(tmp_path / "out", root=str(put_shop(tmp_path / "log", log)))
    assert not list((tmp_path / "out").glob("Split-*"))
