"""Two pipelines at once in one database: what each wrote is there, and only that.

`make test-mysql` runs this.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import PATIENCE, ROOT, heft
from tests.engines.mariadb import PASSWORD, Database, mariadb, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        missing() is not None and not os.environ.get("CI"), reason=f"NOT TESTED: {missing()}"
    ),
]

# As small as a street can be that pushes a model: what is looked at is the records.
CONFIG = """
seed: 3
simulate: {source: builtin, sessions: 1500}
logs: {root: "{run}/logs", grades: {path: "grades/*"}, categorical: [device]}
transform: {categorical: [category, brand, device]}
importance: {folds: 2, epochs: 1}
model: {epochs: 1}
evaluation: {tolerance: 1.0, bootstrap: {resamples: 100}}
thresholds: {minimum_ctr_auc: 0.5, calibration: [0.1, 10.0]}
serving_check: {rows: 40, latency_requests: 10}
"""
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    # Sockets have short names, and pytest's folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with mariadb(Path(folder) / "db") as server:
            yield server


def test_two_pipelines_at_once_lose_no_record(database: Database, tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG + yaml.safe_dump({"metadata": database.settings}))
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "160",
        "HEFT_METADATA_PASSWORD": PASSWORD,
    }  # fmt: skip
    for number in (1, 2):
        _run_all(config, tmp_path, environment)
        for name in NAMES:
            _check(database, name, number)
    # A type that was there twice would split what is of it.
    assert database.ask("SELECT name FROM Type GROUP BY name, type_kind HAVING COUNT(*) > 1") == []
    for name in NAMES:
        _check_lineage(tmp_path / name, environment)
    left = [
        p for p in tmp_path.rglob("*") if p.is_file() and p.suffix in {".json", ".txt", ".yaml"}
    ]
    assert len(left) > 10
    assert [path for path in left if PASSWORD in path.read_text(errors="replace")] == []
    assert not list(tmp_path.rglob("metadata.db"))


def _run_all(config: Path, runs: Path, environment: dict[str, str]) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "heft.cli", "run", str(config), "--runs", str(runs),
             "--name", name],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name in NAMES
    ]  # fmt: skip
    for process in running:
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said


def _check(database: Database, name: str, runs: int) -> None:
    """Each node has an execution for each run, all are done, and each has its outputs."""
    of_pipeline = f"""
        FROM Execution e JOIN Association a ON a.execution_id = e.id
        JOIN Context c ON c.id = a.context_id JOIN Type t ON t.id = c.type_id
        WHERE t.name = 'pipeline' AND c.name = '{name}'"""
    [[count, states]] = database.ask(
        f"SELECT COUNT(*), GROUP_CONCAT(DISTINCT e.last_known_state) {of_pipeline}"
    )
    [[nodes]] = database.ask(
        "SELECT COUNT(*) FROM Context c JOIN Type t ON t.id = c.type_id "
        f"WHERE t.name = 'node' AND c.name LIKE '{name}.%'"
    )
    assert int(nodes) >= 18
    assert int(count) == runs * int(nodes)
    # Complete (3), or taken from the cache (5).
    assert set(states.split(",")) <= {"3", "5"}
    [[silent]] = database.ask(
        f"SELECT COUNT(*) FROM (SELECT e.id {of_pipeline}) x "
        "WHERE NOT EXISTS (SELECT 1 FROM Event v WHERE v.execution_id = x.id)"
    )
    assert int(silent) == 0


def _check_lineage(folder: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "heft.cli", "lineage", str(folder), "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert {"Pusher", "WeightedTrainer", "ImportanceEstimator", "LogExampleGen"} <= {
        step["node"] for step in steps
    }
    uris = [made["uri"] for step in steps for some in step["outputs"].values() for made in some]
    assert all(uri.startswith(str(folder)) for uri in uris), "of this pipeline and no other"


def test_a_run_without_the_password_says_which_variable_and_writes_nothing(
    database: Database, tmp_path: Path
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG + yaml.safe_dump({"metadata": database.settings, "name": "three"}))
    with pytest.raises(AssertionError, match="HEFT_METADATA_PASSWORD, which is not set"):
        heft("run", config, "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
