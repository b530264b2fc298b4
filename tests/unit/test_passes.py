"""A pass tells how far it is, gives results in order, and raises what a step raised."""

import logging
import pickle
from pathlib import Path

import pytest

from heft.errors import DataError
from heft.passes import Passes


def half(carried: int, element: int) -> int:
    """Refuses odd numbers."""
    if element % 2:
        raise DataError(f"{element} is odd: expected an even number")
    return carried + element // 2


def test_results_come_in_order_with_a_line_on_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heft.passes._SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "heft.passes"):
        found = Passes(tmp_path).run("half", half, [8, 2, 6], [10, 20, 30], 100)
    assert found == [104, 101, 103]
    lines = [line for line in caplog.messages if line.startswith("half: ")]
    assert len(lines) == 3
    assert any("3 of 3 shards" in line and line.endswith(" 0 s left") for line in lines)
    assert all("rows/s" in line for line in lines)


def test_the_error_of_the_first_element_is_raised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 is odd: expected an even number"):
        Passes(tmp_path).run("half", half, [2, 3, 5], [1, 1, 1], 0)
    results = sorted(path.name for path in (tmp_path / "half").glob("*.done"))
    assert len(results) == 3
    assert pickle.loads((tmp_path / "half" / results[0]).read_bytes()) == 1


def test_estimators_of_a_notebook_can_be_carried(tmp_path: Path) -> None:
    def local(element: int) -> int:
        return element + 1

    assert Passes(tmp_path).run("call", call, [1], [1], local) == [2]


def call(carried: object, element: int) -> int:
    """Calls what was carried."""
    assert callable(carried)
    return int(carried(element))
