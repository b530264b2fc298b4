"""What a user sees: one table, as wide as the console, with what to do below."""

import io
import json
import pickle
from pathlib import Path

import pytest
from rich.console import Console

from heft.errors import DataError, GateError
from heft.gate.anomaly import Anomaly, said, shown
from heft.gate.findings import FACTS_FILE, Passed
from heft.gate.table import AnomaliesFound, table_text

FOUND = [
    Anomaly("train", "price", "out of range", "at least 0", "-2.5 to 99", 1_204, ("-2.5", "-1")),
    Anomaly("all", "CTR", "rate", "0.07 to 0.15, as it was 0.1 before", "0.04: 4 clicks", 100),
    Anomaly("train", "device", "drift", "L-infinity at most 0.3", "0.5", 7, ("[bold]tv[/]",)),
]


def _printed(error: GateError, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(error)
    return out.getvalue()


def test_the_text_has_every_anomaly_and_says_what_to_do() -> None:
    error = AnomaliesFound(3, FOUND, "/runs/shop/anomalies.txt")
    assert error.exit_code == 3
    lines = str(error).splitlines()
    assert lines[0] == "3 anomalies in span 3, and the run stops:"
    for name in ("split", "feature", "anomaly", "expected", "what came", "rows", "such as"):
        assert name in lines[1]
    assert "1,204" in str(error) and "-2.5, -1" in str(error)
    assert "heft schema accept CONFIG price, and review the change in git" in lines[-3]
    assert "--set gate.since=3" in lines[-2]
    assert lines[-1] == "The table lies in /runs/shop/anomalies.txt"
    assert max(map(len, table_text(FOUND).splitlines())) <= 120


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_console_has_no_line_wider_than_itself_and_no_markup(width: int) -> None:
    printed = _printed(AnomaliesFound(3, FOUND, "/a.txt"), width)
    table = [line for line in printed.splitlines() if "heft schema" not in line]
    assert max(map(len, table)) <= max(width, 70)
    flat = "".join(printed.split())
    assert "[bold]tv[/]" in flat or width == 60
    assert "1,204" in printed


def test_the_advice_is_of_what_was_found() -> None:
    leak = AnomaliesFound(1, [Anomaly("train", "dwell", "label leak", "a", "b")], "/a.txt")
    assert "has to leave `transform`" in str(leak)
    assert "schema accept" not in str(leak) and "gate.since" not in str(leak)
    odd = AnomaliesFound(1, [Anomaly("all", "CTR", "rate", "0.1 to 0.2 at any time", "b")], "/a")
    assert "set other bounds under gate.labels" in str(odd) and "1 anomaly in" in str(odd)


def test_it_travels_between_processes() -> None:
    error = AnomaliesFound(3, FOUND, "/a.txt")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, GateError) and str(again) == str(error)


def test_values_are_shown_without_people_in_them() -> None:
    assert shown("call +49 30 1234567 or ann@x.org") == "call <phone> or <email>"
    assert shown(b"\xff\nx") == "\ufffd\ufffdx"
    assert said("user_id", ["u1"], ("user_id",)) == ("(not shown: a column of persons)",)
    assert said("user_id", [], ("user_id",)) == ()


def test_an_artifact_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no gate\.json"):
        Passed.load(str(tmp_path))
    (tmp_path / FACTS_FILE).write_text(json.dumps({"format": 0}))
    with pytest.raises(DataError, match="another format"):
        Passed.load(str(tmp_path))
