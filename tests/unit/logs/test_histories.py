"""What a user had clicked before an impression, and nothing that came after."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heft import features
from heft.errors import DataError
from heft.logs import LogsSettings, StreamSettings, preflight
from heft.logs.files import LogFile
from heft.logs.histories import last_clicks
from heft.logs.ingest import ingest
from heft.logs.reading import read_batches
from heft.logs.report import IngestReport
from tests.unit.logs.logbook import START, put, put_shop, read_examples, shop

MOST = 3


def _run(out: Path, root: Path, **others: Any) -> tuple[IngestReport, list[dict[str, Any]]]:
    uris = {split: str(out / f"Split-{split}") for split in features.SPLITS}
    own = LogsSettings(root=str(root), **({"history": MOST, "buckets": 3} | others))
    report = ingest(own, uris, str(out / "quarantine"))
    rows = [row for folder in sorted(out.glob("Split-*")) for row in read_examples(folder)]
    return report, rows


def _reference(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """The titles, from the examples alone, one by one."""
    if not row["user_id"].strip():
        return []
    clicks = [
        (other["timestamp"] + round(other["click_delay"] * 1_000), other["title"])
        for other in rows
        if other["click"] and other["title"] and other["user_id"] == row["user_id"]
        and other["request_id"] != row["request_id"]
    ]  # fmt: skip
    before = sorted((c for c in clicks if c[0] < row["timestamp"]), reverse=True)
    return [title for _, title in before][:MOST]


def _busy(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Users of many pages; clicks long after their page; anonymous rows; repeated rows."""
    draw = random.Random(seed)
    log = shop(80)
    log["clicks"] = []
    for row in log["impressions"]:
        row["user_id"] = draw.choice(["ann", "bob", "cy", "", " ", None])
        row["timestamp"] += draw.randrange(50_000)
        row["item_id"] = draw.choice([row["item_id"], row["item_id"], "never heard of"])
        if draw.random() < 0.5:
            # No two at the same time, so that the order is known.
            time = row["timestamp"] + draw.randrange(1_000_000) // 1_000 * 1_000
            log["clicks"].append({"impression_id": row["impression_id"], "timestamp": time})
    log["impressions"] += [row | {"user_id": "bob"} for row in draw.sample(log["impressions"], 20)]
    for stream in ("impressions", "clicks"):
        draw.shuffle(log[stream])
    return log


def _digest(out: Path) -> str:
    shards = sorted(out.glob("Split-*/*.gz"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()


def test_every_row_has_the_last_clicks_before_it_and_the_bytes_are_the_same_again(
    tmp_path: Path,
) -> None:
    root = put_shop(tmp_path / "log", _busy(1))
    report, rows = _run(tmp_path / "out", root)
    for row in rows:
        assert row.get("history", []) == _reference(row, rows), row["impression_id"]
    sizes = [len(row.get("history", [])) for row in rows]
    assert {0, 1, 2, MOST} == set(sizes)
    assert report.rows_without_history == sizes.count(0)
    assert report.streams["impressions"].duplicates == 20
    _run(tmp_path / "again", root)
    assert _digest(tmp_path / "again") == _digest(tmp_path / "out")
    # Other buckets, so that user and click lie elsewhere: the same histories.
    _, other = _run(tmp_path / "buckets", root, buckets=1)
    found = [{row["impression_id"]: row.get("history") for row in some} for some in (rows, other)]
    assert found[0] == found[1]


def test_a_page_does_not_tell_of_its_own_clicks(tmp_path: Path) -> None:
    """Rows of a page that were logged one after another, as on a page that loads on scrolling."""
    log = shop(40)
    log["clicks"] = []
    for row in log["impressions"]:
        row["user_id"] = "ann"
        row["timestamp"] += 10_000 * (row["position"] - 1)
        if row["position"] == 1:
            click = {"impression_id": row["impression_id"], "timestamp": row["timestamp"] + 1_000}
            log["clicks"].append(click)
    # At the very time of the next page: not before it.
    log["clicks"][4]["timestamp"] = START + 5 * 60_000
    _, rows = _run(tmp_path / "out", put_shop(tmp_path / "log", log))
    by_place = {(row["request_id"], row["position"]): row for row in rows}
    for (request, position), row in by_place.items():
        number = int(request[1:])
        pages = [n for n in range(number) if not (n == 4 and number == 5 and position == 1)]
        want = [by_place[b"r%d" % n, 1]["title"] for n in pages[::-1][:MOST]]
        assert row.get("history", []) == want


def test_a_log_without_a_catalogue_has_titles_of_its_own(tmp_path: Path) -> None:
    log = _busy(2)
    titles = {item["item_id"]: item["title"] for item in log["catalogue"]}
    for row in log["impressions"]:
        row["title"] = titles.get(row["item_id"], "stranger")
    del log["catalogue"], log["conversions"]
    root = put_shop(tmp_path / "log", log, ".parquet")
    _, rows = _run(tmp_path / "out", root, catalogue=None, conversions=None)
    assert any(b"stranger" in row.get("history", []) for row in rows)
    for row in rows:
        assert row.get("history", []) == _reference(row, rows)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_log_that_has_a_history_keeps_it(tmp_path: Path, suffix: str) -> None:
    log = shop()
    own = [[], None, ["a"], ["b", "", "c", "d", "e"]]
    for number, row in enumerate(log["impressions"]):
        texts = own[number % 4]
        row["seen"] = json.dumps(texts) if suffix == ".csv" and texts is not None else texts
        del row["user_id"]
    mapped = StreamSettings(path="impressions/span-{SPAN}/*", columns={"history": "seen"})
    root = put_shop(tmp_path / "log", log, suffix)
    _, rows = _run(tmp_path / "out", root, impressions=mapped)
    for row in rows:
        want = [[], [], [b"a"], [b"b", b"c", b"d"]][(int(row["impression_id"][1:]) - 1) % 4]
        assert row.get("history", []) == want


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 30), st.integers(1, 4))
def test_last_clicks_are_those_of_a_loop(seed: int, rows: int, clicks: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    user, click_user = (rng.integers(0, 3, n).astype(np.uint64) for n in (rows, clicks))
    time, click_time = (rng.integers(0, 12, n) for n in (rows, clicks))
    request, click_request = (rng.integers(0, 5, n).astype(np.uint64) for n in (rows, clicks))
    if not clicks or not rows:
        return
    found = last_clicks(user, time, request, click_user, click_time, click_request, most=most)
    for row in range(rows):
        good = [
            k for k in range(clicks)
            if click_user[k] == user[row] and click_time[k] < time[row]
            and click_request[k] != request[row]
        ]  # fmt: skip
        want = sorted(good, key=lambda k: (click_time[k], k), reverse=True)[:most]
        assert found[row].tolist() == want + [-1] * (most - len(want))


def test_what_histories_need_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="history=5 is made of clicks, and `clicks` is null"):
        LogsSettings(root="logs", clicks=None, conversions=None, history=5)
    log = shop()
    for row in log["impressions"]:
        del row["user_id"]
    root = put_shop(tmp_path / "log", log)
    with pytest.raises(DataError, match=r"history=3 is what a user clicked.*'user_id'"):
        preflight(LogsSettings(root=str(root), history=3))
    for row in log["impressions"]:
        row["seen"] = 5
    mapped = StreamSettings(path="impressions/span-{SPAN}/*", columns={"history": "seen"})
    root = put_shop(tmp_path / "numbers", log, ".parquet")
    with pytest.raises(DataError, match=r"'seen' .* is int64, expected a list of texts"):
        preflight(LogsSettings(root=str(root), history=3, impressions=mapped))


def test_a_history_that_is_no_list_of_texts_is_quarantined(tmp_path: Path) -> None:
    row = shop()["impressions"][0]
    cells = [["a"], "lamp", [1], ["\ud800"], {"a": 1}, ["b", None], None]
    rows = [row | {"impression_id": f"i{k}", "seen": cell} for k, cell in enumerate(cells)]
    path = put(tmp_path, "x.jsonl", rows)
    mapped = StreamSettings(path="unused", columns={"history": "seen"})
    fields = LogsSettings(root="unused", history=3, impressions=mapped).fields_of("impressions")
    file = LogFile("impressions", str(path), path.name, path.stat().st_size, 0)
    (batch,) = read_batches(file, mapped, fields)
    assert batch.columns["history"].to_pylist() == [["a"], None]
    assert [row.line for row in batch.rejected] == [2, 3, 4, 5, 6]
    assert {row.reason for row in batch.rejected} == {"history: not a list of texts"}
