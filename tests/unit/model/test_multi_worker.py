"""Two workers on one machine train what one would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heft.errors import ConfigError
from heft.model.settings import ModelSettings
from heft.model.strategy import training_strategy
from tests.unit.model.conftest import fit, random_table

SETTINGS = ModelSettings(hidden=(8,), epochs=3, batch_size=64, dropout=0.0)
WORKER = """
from heft.model.strategy import is_chief, training_strategy
strategy = training_strategy("multi_worker")
import json, sys
from pathlib import Path
from tests.unit.model.test_multi_worker import SETTINGS, fit, random_table
shards, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
trained = fit(shards, shards, random_table(20, 50), folder, SETTINGS, strategy=strategy)
# Not the moving averages of batch normalisation: each worker has those of its part.
total = sum(float(abs(w.numpy()).sum()) for w in trained.core.trainable_variables)
print(json.dumps([trained.history, total, is_chief(strategy)]))
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_two_workers_agree_and_learn_what_one_does(write_log, tmp_path: Path) -> None:
    shards = write_log(2_000, seed=7).shards
    workers = [f"localhost:{port}" for port in _free_ports(2)]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, "-c", WORKER, json.dumps(shards), str(tmp_path / str(index))]
        processes.append(
            subprocess.Popen(
                command, env=os.environ | {"TF_CONFIG": json.dumps(task)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    found = []
    for process in processes:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        assert "ran out of data" not in errors
        found.append(json.loads(out.strip().splitlines()[-1]))
    (first, first_total, first_chief), (second, second_total, second_chief) = found
    assert (first_chief, second_chief) == (True, False)
    assert first == second
    assert first_total == pytest.approx(second_total, rel=1e-6)
    alone = fit(shards, shards, random_table(20, 50), tmp_path / "alone", SETTINGS)
    # Batch normalisation sees half a batch on each worker: close, not equal.
    np.testing.assert_allclose(first["val_loss"], alone.history["val_loss"], rtol=0.02)


def test_workers_without_addresses_are_told_what_is_missing(monkeypatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="without TF_CONFIG"):
        training_strategy("multi_worker")


def test_a_strategy_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of default"):
        training_strategy("many")


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_one_device_by_another_name_trains_the_same(write_log, tmp_path: Path, name: str) -> None:
    shards = write_log(700, seed=2, shards=3).shards
    table = random_table(20, 50)
    plain = fit(shards, shards, table, tmp_path / "plain", SETTINGS)
    named = SETTINGS.model_copy(update={"strategy": name})
    other = fit(shards, shards, table, tmp_path / name, named)
    np.testing.assert_allclose(other.history["loss"], plain.history["loss"], rtol=1e-5)
