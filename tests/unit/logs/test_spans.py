"""Dates and numbers as spans, and windows of several."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heft.errors import DataError
from heft.logs import LogsSettings, StreamSettings, input_fingerprint, preflight
from heft.logs.files import resolve_spans
from tests.unit.logs.logbook import put, shop
from tests.unit.logs.test_ingest import _examples, _run

DAY = "{YYYY}-{MM}-{DD}"


def _days(root: Path, days: list[str], pattern: str = "dt={day}") -> dict[str, Any]:
    """A log with a page of impressions and clicks for each day; settings to read it."""
    for number, day in enumerate(days):
        log = shop(12)
        for stream in ("impressions", "clicks"):
            for row in log[stream]:
                row["impression_id"] = f"{day}-{row['impression_id']}"
                row["timestamp"] += number * 86_400_000
                row.pop("user_id", None)
            put(root, f"{stream}/{pattern.format(day=day)}/a.jsonl", log[stream])
    streams = {
        name: StreamSettings(path=f"{name}/{pattern.format(day=DAY)}/*")
        for name in ("impressions", "clicks")
    }
    return {"root": str(root), "conversions": None, "catalogue": None, **streams}


def test_the_latest_day_is_read_unless_another_is_named(tmp_path: Path) -> None:
    log = _days(tmp_path, ["2026-02-28", "2026-03-01", "2025-12-31"])
    assert preflight(LogsSettings(**log)).spans == (20260301,)
    for said in ("2026-02-28", 20260228, "20260228"):
        assert preflight(LogsSettings(**log, span=said)).spans == (20260228,)


def test_a_window_is_of_days_and_not_of_numbers(tmp_path: Path) -> None:
    days = ["2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
    log = _days(tmp_path / "log", days)
    settings = LogsSettings(**log, span="2024-03-01", window=3)
    assert resolve_spans(settings) == (20240228, 20240229, 20240301)
    assert preflight(settings).files == {"impressions": 3, "clicks": 3}
    report = _run(tmp_path / "out", **log, span="2024-03-01", window=3)
    assert (report.span, report.window) == (20240301, 3)
    ids = {row["impression_id"].decode()[:10] for row in _examples(tmp_path / "out")}
    assert ids == set(days[:3])
    assert report.streams["clicks"].unattributed == {}


def test_marks_may_stand_anywhere_in_a_path(tmp_path: Path) -> None:
    put(tmp_path, "impressions/2026/03/01/2026-a.jsonl", shop()["impressions"])
    stream = StreamSettings(path="impressions/{YYYY}/{MM}/{DD}/{YYYY}-*")
    settings = LogsSettings(root=str(tmp_path), impressions=stream)
    assert resolve_spans(settings) == (20260301,)
    put(tmp_path, "impressions/2026/04/01/2025-a.jsonl", shop()["impressions"])
    assert resolve_spans(settings) == (20260301,), "a mark that is repeated must say the same"
    put(tmp_path, "impressions/2026/13/40/2026-a.jsonl", shop()["impressions"])
    assert resolve_spans(settings) == (20260301,), "that is no day"


def test_a_missing_day_is_an_error_and_not_the_day_before(tmp_path: Path) -> None:
    log = _days(tmp_path, ["2026-02-27", "2026-03-01"])
    with pytest.raises(DataError, match=r"span=2026-03-02 is not there: .* has the spans "
                       r"2026-02-27, 2026-03-01"):  # fmt: skip
        preflight(LogsSettings(**log, span="2026-03-02"))
    with pytest.raises(DataError, match=r"span=2026-03-01 with window=3 wants 2026-02-28, which"):
        preflight(LogsSettings(**log, window=3))
    (tmp_path / "clicks/dt=2026-03-01/a.jsonl").unlink()
    with pytest.raises(DataError, match=r"clicks: no files match .* for span 2026-03-01 .*null"):
        preflight(LogsSettings(**log))


def test_a_window_of_numbers_counts_up(tmp_path: Path) -> None:
    for span in (8, 9, 10):
        put(tmp_path, f"impressions/span-{span}/a.jsonl", shop()["impressions"])
    log = {"root": str(tmp_path), "clicks": None, "conversions": None, "catalogue": None}
    assert resolve_spans(LogsSettings(**log, window=3)) == (8, 9, 10)
    with pytest.raises(DataError, match="window=4 wants 7, which is not there"):
        resolve_spans(LogsSettings(**log, window=4))
    digests = {input_fingerprint(LogsSettings(**log, window=window)) for window in (1, 2, 3)}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"impressions": {"path": "a/{YYYY}-{MM}/*"}}, "{YYYY}, {MM} and {DD} together"),
        ({"impressions": {"path": "a/{SPAN}/{DD}/*"}}, "{SPAN} alone"),
        ({"impressions": {"path": "a/{HH}/*"}}, "has {HH}: expected {SPAN}"),
        ({"impressions": {"path": "a/*"}, "window": 2}, "impressions.path='a/\\*' names none"),
        ({"span": "yesterday"}, "latest"),
        ({"window": 0}, "greater than or equal to 1"),
    ],
)
def test_paths_that_name_no_span(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("}", r"\}")):
        LogsSettings(root="/x", **settings)


def test_a_number_that_is_no_day(tmp_path: Path) -> None:
    log = _days(tmp_path, ["2026-03-01"])
    with pytest.raises(DataError, match=r"span=20260231 is no day.*such as 2026-03-01"):
        preflight(LogsSettings(**log, span=20260231))
