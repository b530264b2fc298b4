"""Workers find each other, and say who is missing."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heft.errors import TrainingError
from heft.pod.rendezvous import free_address, meet, tf_config


def test_all_workers_see_the_same_addresses(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: meet(tmp_path / "t", i, 3, f"10.0.0.{i}:80", 30), range(3)))
    assert found == [["10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80"]] * 3


def test_a_worker_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"worker 0 waited 0 s for workers \[1\] of 2"):
        meet(tmp_path, 0, 2, "a:1", patience=0, sleep=lambda _: None)


def test_the_address_that_a_killed_worker_left_is_not_taken(tmp_path: Path) -> None:
    left = tmp_path / "1.json"
    left.write_text(json.dumps("dead:1"))
    os.utime(left, (1e9, 1e9))
    came = []

    def comes(_: float) -> None:
        came.append(1)
        left.write_text(json.dumps("alive:2"))

    assert meet(tmp_path, 0, 2, "a:1", patience=60, sleep=comes) == ["a:1", "alive:2"]
    assert came == [1]


def test_tensorflow_reads_who_is_there_and_who_it_is() -> None:
    told = json.loads(tf_config(["a:1", "b:2"], 1))
    assert told == {
        "cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1},
    }  # fmt: skip


def test_an_address_is_one_to_listen_at() -> None:
    host, port = free_address().split(":")
    with socket.create_server((host, int(port))):
        pass
