"""A server under load and under fire; the small versions are in the other files."""

import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.serving.fuzz import fuzzed
from benchmarks.serving.load import Change, Load, Sent, capacity
from benchmarks.serving.server import Server
from serving.client import Client
from serving.labels import move_labels
from tests.unit.serving.contract import ONE, Served, models_config
from tests.unit.serving.server import wait_until


def _load(*sent: Sent) -> Load:
    load = Load({"a": [lambda: 0]}, rate=1, seconds=0, callers=1)
    load.sent.extend(sent)
    return load


def test_a_wrong_answer_is_one_that_no_model_gave_there_then() -> None:
    """Of the judge of the load test itself."""
    changes = [Change("a", 10, 12, 0, 1), Change("a", 20, 22, 1, 0), Change("b", 5, 6, 0, 1)]
    right = [
        Sent("a", 1, 2, 0), Sent("a", 9, 11, 0), Sent("a", 9, 11, 1), Sent("a", 11, 11.5, 0),
        Sent("a", 13, 14, 1), Sent("a", 21, 23, 0), Sent("a", 23, 24, 0), Sent("b", 7, 8, 1),
    ]  # fmt: skip
    assert _load(*right).faults({"a": 0, "b": 0}, changes) == []
    wrong = [Sent("a", 1, 2, 1), Sent("a", 13, 14, 0), Sent("a", 23, 24, 1), Sent("b", 7, 8, 0),
             Sent("a", 1, 2, -1), Sent("a", 1, 2, -1, "TimedOut: late")]  # fmt: skip
    assert len(_load(*wrong).faults({"a": 0, "b": 0}, changes)) == len(wrong)


def test_arrivals_keep_their_rate_whether_others_are_answered_or_not() -> None:
    def slow() -> int:
        time.sleep(0.05)
        return 0

    with Load({"a": [slow]}, rate=100, seconds=1, callers=20) as load:
        pass
    begun = sorted(one.begun for one in load.sent)
    assert len(begun) == 100
    assert 0.6 < begun[-1] - begun[0] < 2.5
    assert load.faults({"a": 0}, []) == []
    assert capacity([slow], 0.3, callers=4) == pytest.approx(80, rel=0.5)


@pytest.fixture
def served(exported: Path, tmp_path: Path) -> Served:
    root = tmp_path / "models"
    shutil.copytree(exported, root)
    return Served("", "", root)


def _asks(root: Path, client: Client) -> Callable[[], int]:
    """Which of the exported models answered."""
    columns = {name: tf.constant(values) for name, values in ONE.items()}
    said = [
        float(tf.saved_model.load(str(root / "exported" / str(n)))
              .signatures["serving_default"](**columns)["ctr"][0]) for n in range(3)
    ]  # fmt: skip

    def ask() -> int:
        gaps = np.abs(np.array(said) - client.predict(ONE)["ctr"][0])
        return int(np.argmin(gaps)) if gaps.min() < 1e-6 else -1

    return ask


@pytest.mark.slow
def test_a_minute_of_load_with_five_swaps_and_a_canary_that_moves(
    served: Served, tmp_path: Path
) -> None:
    config = models_config(served.root, str(served.root))
    served.push("labelled", 2, 1)
    move_labels(config, {"stable": 1, "canary": 1}, "labelled")
    server = Server(tmp_path, config)
    server.start()
    targets = (server.rest, server.grpc)
    plain = [Client(target, "swapped", retries=0) for target in targets]
    canary = [Client(target, "labelled", label="canary", retries=0) for target in targets]
    asks = {"swapped": [_asks(served.root, c) for c in plain * 2],
            "canary": [_asks(served.root, c) for c in canary]}  # fmt: skip
    rate, changes = 0.8 * capacity(asks["swapped"], 3, callers=4), []
    with Load(asks, rate, seconds=60, callers=32) as load:
        for swap in range(5):
            time.sleep(9)
            begun = time.monotonic()
            served.push("swapped", swap + 2, (swap + 1) % 3)
            wait_until(lambda v=swap + 1: plain[0].states().get(v) == "END", 30)
            changes.append(Change("swapped", begun, time.monotonic(), swap % 3, (swap + 1) % 3))
            if swap == 2:
                begun = time.monotonic()
                move_labels(config, {"canary": 2}, "labelled")
                wait_until(lambda: asks["canary"][0]() == 1, 30)
                changes.append(Change("canary", begun, time.monotonic(), 0, 1))
    assert load.faults({"swapped": 0, "canary": 0}, changes) == []
    assert len(load.sent) > 1_000
    answered = {(one.place, one.answered) for one in load.sent}
    assert answered == {*itertools.product(["swapped"], range(3)), ("canary", 0), ("canary", 1)}
    assert server.stop() == 0


@pytest.mark.slow
def test_ten_thousand_hostile_requests_and_memory_that_stays_flat(
    served: Served, tmp_path: Path
) -> None:
    server = Server(tmp_path, models_config(served.root, str(served.root)))
    server.start()
    statuses, growth = fuzzed(server.rest, server.process.pid, 10_000)
    assert sum(statuses.values()) >= 10_000
    assert min(statuses[200], statuses[400], statuses[404]) > 100
    assert growth < 32
    assert server.process.poll() is None
    assert server.stop() == 0
