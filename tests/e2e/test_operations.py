"""A run that is killed in each of its nodes, goes on, and ends as one that was left in peace."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

from heft.exit_codes import ExitCode
from heft.versions import versions
from tests.unit.commands import config_in
from tests.unit.logs.logbook import put_shop, shop
from tests.unit.small_disks import limited, may_mount, on_a_small_disk, run_heft

from .conftest import PATIENCE, ROOT
from .ready import Child, Nursery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]

# As small as a run can be with every node at work, and a model that is pushed whatever it learned.
CONFIG = f"""
seed: 3
simulate: {{source: builtin, sessions: 500}}
logs:
  root: "{{run}}/logs"
  grades: {{path: "grades/*"}}
  categorical: [device]
transform: {{categorical: [category, brand, device]}}
schema_dir: "{ROOT}/pipeline/schema/clicks"
importance: {{folds: 2, epochs: 1}}
model: {{epochs: 2, hidden: [8]}}
evaluation: {{tolerance: 1.0, bootstrap: {{resamples: 20}}, slice_resamples: 20}}
thresholds:
  minimum_ctr_auc: 0.01
  calibration: [0.001, 1000.0]
  maximum_ctr_ece: 1.0
  maximum_auc_loss: 1.0
  minimum_slice_auc: 0.0
  slice_calibration: [0.001, 1000.0]
serving_check: {{rows: 5, latency_requests: 2}}
"""
# Nodes in which the run is told to end in place of being killed.
TOLD = {"Transform": signal.SIGTERM, "WeightedTrainer": signal.SIGINT}
ENDS_IN = 12  # seconds that it may take a process to end that was told to


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("printed")) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(CONFIG)
    return folder


def _start(
    nursery: Nursery, folder: Path, name: str, *more: object, stop_in: str | None = None
) -> Child:
    return nursery.start(
        "run", folder / "tiny.yaml", "--runs", folder, "--name", name, "--log-format", "json",
        *more, stop_in=stop_in,
    )  # fmt: skip


def _run(nursery: Nursery, folder: Path, name: str, *more: object) -> Child:
    child = _start(nursery, folder, name, *more)
    code = nursery.wait()
    assert code == 0, child.errors.read_text()[-3_000:]
    return child


def _nodes(child: Child, event: str) -> dict[str, float]:
    return {e["node"]: e["seconds"] for e in child.events() if e["event"] == event}


@pytest.fixture(scope="module")
def whole(nursery: Nursery, folder: Path) -> Child:
    """A run that was left in peace."""
    return _run(nursery, folder, "whole")


def _summary(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name / "summary.json").read_text())


def _end_in(child: Child, number: int, seconds: float) -> float:
    """Ends a run some time after the executor of a node was to begin; returns when."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, child.errors.read_text()
        time.sleep(0.01)
    if seconds:
        os.killpg(child.pid, signal.SIGCONT)
        time.sleep(seconds)
    if number == signal.SIGKILL:
        os.killpg(child.pid, number)  # with all that it has started
    else:
        os.kill(child.pid, number)
        os.killpg(child.pid, signal.SIGCONT)
    return time.monotonic()


def _outputs(node: Path) -> set[Path]:
    return {path for path in node.glob("*/*") if path.name.isdigit()}


class Memory:
    """What ML Metadata knows of a run."""

    def __init__(self, run_dir: Path) -> None:
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(run_dir / "metadata.db")
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READONLY
        self.store = metadata_store.MetadataStore(config)
        self.nodes: dict[int, str] = {}
        for kind in self.store.get_contexts_by_type("node"):
            for execution in self.store.get_executions_by_context(kind.id):
                self.nodes[execution.id] = kind.name.split(".", 1)[1]

    def nodes_in(self, state: int) -> Counter[str]:
        executions = self.store.get_executions()
        return Counter(self.nodes[e.id] for e in executions if e.last_known_state == state)

    def ids_in(self, state: int) -> list[int]:
        return [e.id for e in self.store.get_executions() if e.last_known_state == state]

    def missing(self) -> list[str]:
        """Folders of live artifacts that are not there."""
        return [uri for uri in self.live() if not os.path.exists(uri)]

    def live(self) -> list[str]:
        """Folders of artifacts that are whole."""
        return [a.uri for a in self.store.get_artifacts() if a.state == pb.Artifact.LIVE]


def test_killed_in_each_node_it_ends_as_if_it_had_been_left_in_peace(
    nursery: Nursery, folder: Path, whole: Child
) -> None:
    took = _nodes(whole, "node_done")
    order, chance = list(took), random.Random(20)
    assert len(order) == 15, order
    root, done = folder / "killed" / "artifacts", set()
    ended = []
    for node in order:
        number = TOLD.get(node, signal.SIGKILL)
        before = _outputs(root / node)
        child = _start(nursery, folder, "killed", stop_in=node)
        # Some executors are over in a tenth of a second: no time to lose there.
        late = chance.uniform(0.05, 0.4) * took[node] if took[node] > 3 else 0.0
        at = _end_in(child, number, late)
        assert _outputs(root / node) - before, "killed before there was anything to lose"
        code = nursery.wait()
        events = child.events()
        started = [e["node"] for e in events if e["event"] == "node_started"]
        assert started[-1] == node
        # What an earlier start had finished is taken over, and nothing else is.
        assert {e["node"] for e in events if e["event"] == "node_cached"} == done
        done |= {e["node"] for e in events if e["event"] == "node_done"}
        assert node not in done, "it had ended before it was killed"
        memory = Memory(folder / "killed")
        assert memory.nodes_in(pb.Execution.RUNNING) == {node: 1}
        assert memory.missing() == []
        ended += memory.ids_in(pb.Execution.RUNNING)
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL
        else:
            assert code == 128 + number, child.errors.read_text()[-3_000:]
            assert time.monotonic() - at < ENDS_IN
            said = [e for e in events if e["event"] in ("interrupted", "error", "node_failed")]
            assert [e["event"] for e in said] == ["interrupted"]
            assert events[-1]["event"] == "ended"
    child = _run(nursery, folder, "killed")
    assert set(_nodes(child, "node_cached")) == done
    memory = Memory(folder / "killed")
    assert len(memory.live()) >= len(order)
    assert memory.nodes_in(pb.Execution.RUNNING) == {}
    assert memory.nodes_in(pb.Execution.FAILED) == Counter(order)
    # Nothing was finished twice, and of what was killed nothing is left.
    finished = memory.nodes_in(pb.Execution.COMPLETE)
    assert {node: finished[node] for node in order} == dict.fromkeys(order, 1)
    assert memory.missing() == []
    assert [path for i in ended for path in root.glob(f"*/*/{i}")] == []
    assert [path for i in ended for path in root.glob(f"*/.system/*/{i}")] == []
    [version] = versions(folder / "killed" / "serving" / "heft")
    left, right = _summary(folder, "whole"), _summary(folder, "killed")
    assert right["pushed"] and Path(right["model_path"]) == version.path
    for name in ("rows", "streams", "quarantined", "distinct_texts", "ess"):
        assert left[name] == right[name], name
    # TensorFlow's threads add in no fixed order, which moves the last digits of a training.
    for name in ("metrics", "verdict"):
        numbers = _numbers(left[name])
        assert _numbers(right[name]) == pytest.approx(numbers, abs=1e-3, nan_ok=True), name
    assert set(right["seconds"]) == set(order)


def _numbers(facts: dict[str, Any], path: str = "") -> dict[str, float]:
    """The numbers of nested facts, by path."""
    found: dict[str, float] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{path}/{name}")
        elif isinstance(value, int | float):
            found[f"{path}/{name}"] = float(value)
    return found


def test_what_old_runs_left_goes_and_the_next_run_misses_nothing(
    nursery: Nursery, folder: Path, whole: Child
) -> None:
    run_dir, root = folder / "whole", folder / "whole" / "artifacts"
    changed = ("--set", "model.learning_rate=0.004")
    second = _run(nursery, folder, "whole", *changed)
    assert {"WeightedTrainer", "ReportGen"} <= set(_nodes(second, "node_done"))
    after, models = _summary(folder, "whole"), root / "WeightedTrainer" / "model"
    assert len(list(models.iterdir())) == 2
    # As a node leaves it that is killed.
    half = root / "Transform" / "transform_graph" / "9999"
    half.mkdir()
    (half / "half").write_text("written")

    def clean(*more: object) -> list[dict[str, Any]]:
        child = nursery.start(
            "clean", folder / "tiny.yaml", "--runs", folder, "--name", "whole",
            "--log-format", "json", *more,
        )  # fmt: skip
        assert nursery.wait() == 0, child.errors.read_text()
        return [event for event in child.events() if event["event"] == "removed"]

    def gone(found: list[dict[str, Any]]) -> set[str]:
        return {event["message"] for event in found if ".system" not in event["message"]}

    assert gone(clean("--dry-run")) == {str(half)}
    listed = clean("--keep", 1, "--dry-run")
    assert len(list(models.iterdir())) == 2 and half.is_dir()
    removed = clean("--keep", 1)
    assert [event["message"] for event in removed] == [event["message"] for event in listed]
    assert str(half) in gone(removed) and len(list(models.iterdir())) == 1
    assert sum(event["bytes"] for event in removed) > 1_000_000
    assert not any(Path(event["message"]).exists() for event in removed)
    assert Memory(run_dir).missing() == []
    assert clean("--keep", 1) == []
    # The run that was kept is still wholly in the cache, and says the same.
    again = _run(nursery, folder, "whole", *changed)
    assert _nodes(again, "node_done") == {}
    now = _summary(folder, "whole")
    assert now["metrics"] == after["metrics"] and now["model_path"] == after["model_path"]
    # What was removed is made again where it is asked for, and is what it was.
    third = _run(nursery, folder, "whole")
    assert "WeightedTrainer" in _nodes(third, "node_done")
    assert Memory(run_dir).missing() == []


def test_a_disk_that_fills_up_in_a_node_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    disk, command = tmp_path / "disk", ("run", tmp_path / "tiny.yaml", "--runs")
    if may_mount():
        code, said = on_a_small_disk("1200k", "", disk, *command, disk)
        assert f"no space is left for {disk}" in said
    else:  # no right to mount: a limit of the files' size does the same to who writes
        code, said = limited(tmp_path, 400, *command, disk)
        assert "may not grow" in said
    assert code == ExitCode.STORAGE
    assert said.startswith("error: ") and " failed: " in said and said.count("\n") == 1, said


def test_a_folder_that_is_read_only_is_found_before_anything_is_done(tmp_path: Path) -> None:
    put_shop(tmp_path / "logs", shop())
    disk, arguments = tmp_path / "disk", ("run", config_in(tmp_path), "--runs")
    if may_mount():
        code, said = on_a_small_disk("1m", "remount,ro", disk, *arguments, disk / "runs")
        assert f"{disk}/runs cannot be written, its file system is read-only" in said
    else:
        disk.mkdir(mode=0o500)
        code, said = run_heft([], tmp_path, *arguments, disk / "runs")
        assert f"{disk}/runs" in said and "this user has no right to" in said
    assert (code, said.count("\n")) == (ExitCode.STORAGE, 1), said


def test_a_limit_of_the_files_size_is_one_message(tmp_path: Path) -> None:
    code, said = limited(
        tmp_path, 20, "simulate", "builtin", "--out", tmp_path / "m", "--sessions", 400
    )
    assert (code, said.count("\n")) == (ExitCode.STORAGE, 1), said
    assert "may not grow any further" in said
