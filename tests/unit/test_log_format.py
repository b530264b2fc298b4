"""`--log-format json`: whoever speaks, each line is an object, and persons are in none."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from heft.exit_codes import ExitCode
from heft.journal import Journal
from heft.screen import Screen, tell
from pipeline.progress import NodeDone, Progress, print_summary
from tests.unit.commands import Heft, config_in
from tests.unit.logs.logbook import put, put_shop, shop

Event = dict[str, Any]
ARGUMENTS = ("self", "event", "message", "level")
PERSON = "somebody@example.com"


def _events(text: str) -> list[Event]:
    """Every line, which has what every line must have."""
    found = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    for event in found:
        assert {"time", "level", "event", "message"} <= event.keys()
        assert event["level"] in ("debug", "info", "warning", "error")
        at = datetime.fromisoformat(event["time"])
        assert at.utcoffset() == datetime.now(UTC).utcoffset()
    return found


@pytest.fixture
def journal(tmp_path: Path) -> tuple[Journal, Callable[[], list[Event]]]:
    """A journal, and what it has been told."""
    path = tmp_path / "journal"
    file = path.open("wb", buffering=0)
    return Journal(file.fileno()), lambda: (file.flush(), _events(path.read_text()))[1]


def test_a_command_says_everything_in_json(heft: Heft, log: Path, tmp_path: Path) -> None:
    ended = heft("ingest", log, "--out", tmp_path / "examples", "--log-format", "json")
    assert (ended.code, ended.out) == (0, "")
    events = _events(ended.error)
    assert [event["event"] for event in events[-1:]] == ["ended"]
    assert events[-1]["exit_code"] == 0 and events[-1]["seconds"] > 0
    said = "\n".join(event["message"] for event in events)
    assert "impressions" in said and "splits" in said and "\x1b" not in said
    # In text it is people that read, on the standard output.
    ended = heft("ingest", log, "--out", tmp_path / "again")
    assert "impressions" in ended.out and ended.error == ""


@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_what_goes_wrong_is_an_event_with_the_exit_code(
    heft: Heft, log: Path, tmp_path: Path, verbose: tuple[str, ...]
) -> None:
    ended = heft("run", log, "--span", 9, "--log-format", "json", *verbose)
    assert ended.code == ExitCode.BAD_INPUT
    events = _events(ended.error)
    [error] = [event for event in events if event["event"] == "error"]
    assert (error["level"], error["exit_code"], error["kind"]) == ("error", 2, "DataError")
    assert "span=9" in error["message"] and error["run"] == "shop"
    assert events[-1]["exit_code"] == 2


def test_arguments_that_are_wrong_are_events_too(heft: Heft, log: Path) -> None:
    for arguments in (("--log-format", "json", "--epochs"), ("--fast", "--log-format", "json")):
        ended = heft("run", log, *arguments)
        assert ended.code == ExitCode.BAD_INPUT
    assert "No such option" in heft("run", log, "--log-format", "json", "--x").error
    ended = heft("run", log, "--log-format", "xml")
    assert ended.code == ExitCode.BAD_INPUT and "xml" in ended.error


def test_a_fault_of_hefts_own_is_an_event_with_its_traceback(
    heft: Heft, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("pipeline.ingesting.ingest_logs", broken)
    ended = heft("ingest", log, "--log-format", "json")
    assert ended.code == ExitCode.FAILED
    error, last = _events(ended.error)
    assert error["message"] == "of all things" and "ZeroDivisionError" in error["traceback"]
    assert last["event"] == "ended"


def test_no_person_is_in_it(heft: Heft, tmp_path: Path) -> None:
    records = shop()
    for row in records["impressions"]:
        row["user_id"] = PERSON
    put_shop(tmp_path / "logs", records)
    bad = f"impression_id,timestamp\n{PERSON},soon\n".encode()
    put(tmp_path / "logs", "clicks/span-1/z.csv", bad)
    config = config_in(tmp_path)
    for arguments in (("--check",), ("--out", tmp_path / "examples"),
                      ("--check", "--set", "logs.max_quarantine_rate=0.01")):  # fmt: skip
        ended = heft("ingest", config, *arguments, "-v", "--log-format", "json")
        assert len(_events(ended.error)) > 2
        assert PERSON not in ended.error + ended.out


def test_engines_python_and_c_write_lines_that_are_json(
    tmp_path: Path,
) -> None:
    """By records of logging, by prints, by warnings, and past Python to the descriptor itself."""
    code = """
import logging, os, sys, warnings
from pathlib import Path
from heft.console import log_to_file, quiet
from heft.journal import Journal
verbose = sys.argv[1] == "verbose"
journal = Journal(os.dup(2))
quiet(verbose, journal)
log_to_file(Path(sys.argv[2]), verbose, journal)
import absl.logging
absl.logging.info("absl speaks")
absl.logging.warning('absl "warns"\\nin two lines')
logging.getLogger("apache_beam").warning("%d items", "not a number")
print("a print", file=sys.stderr)
warnings.warn("old news")
os.write(2, b"native \\xff line\\n")
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("it failed")
journal.drain(2)
journal.write("ended", exit_code=0)
"""
    for how, told in (("quiet", False), ("verbose", True)):
        done = subprocess.run(
            [sys.executable, "-c", code, how, str(tmp_path / how)], capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": "src"}, timeout=60, check=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.stdout == ""
        events = _events(done.stderr)
        messages = [event["message"] for event in events]
        assert events[-1]["event"] == "ended"
        assert 'absl "warns"\nin two lines' in messages and "%d items" in messages
        assert "a print" in messages
        assert ("absl speaks" in messages) is told
        assert ("native � line" in messages) is told
        assert ("old news" in messages) is told
        [failed] = [event for event in events if event["message"] == "it failed"]
        assert "ZeroDivisionError" in failed["traceback"] and failed["level"] == "error"
        # The file has it all, whatever the terminal gets.
        assert b"absl speaks" in (tmp_path / how).read_bytes()


@given(
    message=st.text(),
    fields=st.dictionaries(
        st.from_regex(r"[a-z]{1,9}", fullmatch=True).filter(lambda n: n not in ARGUMENTS),
        st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.floats()), st.binary()),
    ),
)
def test_any_text_and_number_makes_one_line(message: str, fields: dict[str, Any]) -> None:
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as lines:
        Journal(writes).write("x", message, "info", **fields)
        os.close(writes)
        written = lines.read()
    assert written.count(b"\n") == 1 and written.endswith(b"\n")
    event = json.loads(written, parse_constant=pytest.fail)
    # A field of an event does not overwrite what every line has.
    assert event["message"] == message


def test_lines_of_many_threads_stay_whole(
    journal: tuple[Journal, Callable[[], list[Event]]],
) -> None:
    told, events = journal
    work = [
        threading.Thread(target=lambda n=n: [told.write("x", str(n) * 3_000) for _ in range(20)])
        for n in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    messages = [event["message"] for event in events()]
    assert sorted(messages) == sorted(str(n) * 3_000 for n in range(8) for _ in range(20))


def test_nobody_who_listens_is_no_reason_to_stop() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    Journal(writes).write("x")
    os.close(writes)


def test_nodes_verdict_and_tables_are_events(
    journal: tuple[Journal, Callable[[], list[Event]]],
) -> None:
    told, events = journal
    screen = Screen(force_terminal=True)
    screen.journal = told
    told.run = "shop"
    progress = Progress(screen, "shop")
    progress.started("passed_spans")
    progress.done(NodeDone("passed_spans", 0.1, False, {}, None))
    for node, cached in (("LogExampleGen", True), ("Transform", False)):
        progress.started(node)
        progress.done(NodeDone(node, 1.23456, cached, {}, 62_068))
    progress.started("WeightedTrainer")
    progress.failed("no clicks")
    table = Table("a")
    table.add_row("[red]1[/]")
    screen.print(table)
    with screen.status("working"):
        tell(screen, "warning", "[yellow]careful[/]", "warning")
    summary = {"blessed": True, "pushed": False, "blessing_reasons": ["older"], "rows": {"read": 3},
               "metrics": {"weighted": {"auc": float("nan")}}, "verdict": {"sentence": "Helps."},
               "model_path": None, "report_path": "/r"}  # fmt: skip
    print_summary(screen, {}, summary)
    found = events()
    assert [(event["event"], event.get("node")) for event in found] == [
        ("run_started", None), ("node_started", "LogExampleGen"), ("node_cached", "LogExampleGen"),
        ("node_started", "Transform"), ("node_done", "Transform"),
        ("node_started", "WeightedTrainer"), ("node_failed", "WeightedTrainer"),
        ("message", "WeightedTrainer"), ("warning", "WeightedTrainer"),
        ("verdict", "WeightedTrainer"),
    ]  # fmt: skip
    assert {event["run"] for event in found} == {"shop"}
    done = found[4]
    assert (done["seconds"], done["rows"]) == (1.235, 62_068)
    assert found[6]["level"] == "error" and found[6]["why"] == "no clicks"
    assert "1" in found[7]["message"] and found[8]["message"] == "careful"
    verdict = found[-1]
    assert (verdict["blessed"], verdict["pushed"], verdict["message"]) == (True, False, "Helps.")
    assert verdict["reasons"] == ["older"] and verdict["metrics"]["weighted"]["auc"] is None


def test_a_console_of_people_prints_the_same_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Console(), "node_done", "  [green]✓[/] Transform", seconds=1.0)
    tell(Console(), "notified", "")
    assert capsys.readouterr().out == "  ✓ Transform\n"
