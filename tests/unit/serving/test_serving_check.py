"""The validator's library function, against real servers."""

import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf

from heft.errors import ServingError
from heft.serving_check import ServingCheckSettings, check_serving
from heft.serving_process import ServerProcess
from serving.client import Client
from serving.errors import InvalidRequest
from tests.unit.serving.models import COLUMNS, export, export_lists

ROOT = Path(__file__).resolve().parents[3]
SERVER = [sys.executable, "-m", "serving.local_server"]
SETTINGS = ServingCheckSettings(rows=20, latency_requests=5)


def _examples(rows: int) -> list[bytes]:
    result = []
    for index in range(rows):
        example = tf.train.Example()
        feature = example.features.feature
        for name in set(COLUMNS) - {"price"}:
            feature[name].bytes_list.value.append(f"{name} {index} é".encode())
        if index % 3:  # a third of the items has no price
            feature["price"].float_list.value.append(1.5 * index)
        feature["position"].int64_list.value.append(index + 1)
        feature["click"].int64_list.value.append(index % 2)
        result.append(example.SerializeToString())
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its two signatures disagree, as if serving and training were skewed."""
    return export(tmp_path_factory.mktemp("skewed") / "model", 0.0, examples_offset=0.01)


def test_a_model_that_takes_lists_is_asked_with_lists(tmp_path: Path) -> None:
    rows = []
    for index in range(12):
        example = tf.train.Example()
        feature = example.features.feature
        feature["query"].bytes_list.value.append(b"tv")
        if index % 3:
            feature["image"].float_list.value.extend([0.25 * index, -1.0])
        feature["history"].bytes_list.value.extend([b"lamp", b"tv", b"lamp", b"tv"][: index % 5])
        rows.append(example.SerializeToString())
    path = export_lists(tmp_path / "model")
    checked = check_serving(
        str(path), rows, command=SERVER, connect=Client, settings=SETTINGS, cwd=str(ROOT)
    )
    assert checked.ok, checked.why_not()
    assert len(checked.checks) > 30


def test_lists_of_different_lengths_are_refused_by_the_client() -> None:
    columns = {"query": ["tv", "lamp"], "history": [["a"], ["a", "b"]]}
    with (
        Client("grpc://localhost:1") as client,
        pytest.raises(InvalidRequest, match="history holds lists of different lengths"),
    ):
        client.predict(columns)


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_skew_between_the_signatures_is_found_and_nothing_else(model: Path) -> None:
    before = _children()
    checked = check_serving(
        str(model), _examples(50), command=SERVER, connect=Client, settings=SETTINGS, cwd=str(ROOT)
    )
    assert {check.name for check in checked.faults} == {
        "REST serving_default as in process",
        "gRPC serving_default as in process",
    }, checked.why_not()
    assert not checked.ok
    assert "ctr differs by 0.002" in checked.why_not()  # 0.01 of a logit near a half
    assert checked.rows == 20
    for latency in checked.latency_ms.values():
        assert 0 < latency["p50"] <= latency["p99"]
    hostile = [c.name for c in checked.checks if c.name.startswith(("REST ", "gRPC "))]
    assert len(hostile) > 25
    assert {"gRPC optional columns left out", "gRPC one query for all rows"} <= set(hostile)
    assert _children() == before


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no model here')", "ended with code 1: no model here"),
        ("import time; print('hm', flush=True); time.sleep(60)", "not ready within 1.0 s"),
    ],
)
def test_a_server_that_does_not_come_up_is_a_fault_and_leaves_no_process(
    model: Path, program: str, words: str
) -> None:
    before = _children()
    settings = ServingCheckSettings(rows=2, timeout_seconds=1.0)
    checked = check_serving(
        str(model),
        _examples(2),
        command=[sys.executable, "-c", program],
        connect=Client,
        settings=settings,
    )
    assert words in checked.why_not()
    assert not checked.ok
    assert _children() == before


def test_an_exception_inside_leaves_no_process(model: Path) -> None:
    before = _children()
    program = (
        "import json, pathlib, sys, time; a = sys.argv; "
        "pathlib.Path(a[a.index('--port-file') + 1]).write_text('{\"rest\": 1, \"grpc\": 1}'); "
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program]
    with (
        pytest.raises(KeyboardInterrupt),
        ServerProcess(command, str(model), None, 10.0) as server,
    ):
        assert _children() > before
        assert server.exit_code() is None
        raise KeyboardInterrupt
    assert _children() == before
    with (
        pytest.raises(ServingError, match="ended with code"),
        ServerProcess(command, str(model), None, 10.0),
    ):
        pass  # it does not handle SIGTERM


def test_a_folder_that_is_no_model_is_a_fault(tmp_path: Path) -> None:
    checked = check_serving(str(tmp_path), _examples(1), command=SERVER, connect=Client)
    assert [check.name for check in checked.faults] == ["model"]
    assert str(tmp_path) in checked.why_not()
    assert not check_serving(str(tmp_path), [], command=SERVER, connect=Client).ok


def test_predictions_that_are_no_probabilities_are_a_fault(model: Path) -> None:
    started = time.monotonic()
    expected = {name: np.full(2, value, np.float32)
                for name, value in {"ctr": 1.5, "cvr": np.nan, "ctcvr": 0.5}.items()}  # fmt: skip
    checked = check_serving(
        str(model), _examples(2), command=["false"], connect=Client, expected=expected
    )
    assert {check.name for check in checked.faults} == {
        "ctr is a probability", "cvr is a probability", "server"
    }  # fmt: skip
    assert time.monotonic() - started < 10
