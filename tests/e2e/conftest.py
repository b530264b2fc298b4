"""One real run of the street, made once and shared by all tests beside this file."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Small, but every node is real. The tolerance lets the model through whatever
# so few sessions say of weighting; that the gate shuts is tested on its own.
CONFIG = """
name: small
seed: 3
simulate: {source: builtin, sessions: 1500}
logs:
  root: "{run}/logs"
  grades: {path: "grades/*"}
  categorical: [device]
transform: {categorical: [category, brand, device]}
schema_dir: SCHEMA
slices: [device]
importance: {folds: 2, epochs: 2}
model: {epochs: 2}
evaluation: {tolerance: 1.0, bootstrap: {resamples: 100}}
thresholds: {minimum_ctr_auc: 0.5, calibration: [0.3, 3.0]}
serving_check: {rows: 40, latency_requests: 10}
serving: {rankings: {value: ctcvr * (100 - price)}}
"""

# A run takes two minutes on two quiet cores; a busy machine is no failure of the street.
PATIENCE = 1_500

NODE = re.compile(r"✓ (\w+)\s+(cached|[\d.]+s)")


@dataclass(frozen=True)
class Street:
    """A finished run and what it printed."""

    config: Path
    runs: Path
    printed: str

    @property
    def folder(self) -> Path:
        return self.runs / "small"

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "summary.json").read_text())

    @property
    def facts(self) -> dict:
        return json.loads((self.folder / "report" / "report.json").read_text())

    @property
    def version(self) -> Path:
        [version] = (self.folder / "serving" / "heft").iterdir()
        return version

    def again(self, tree: Path = ROOT, until: str = "") -> dict[str, str]:
        """Runs once more on the code in `tree`; node → `cached` or its seconds.

        With `until`, it is told to end when that node is done.
        """
        command = _command("run", self.config, "--runs", self.runs, tree=tree)
        if not until:
            return dict(NODE.findall(_printed(**command)))
        found: dict[str, str] = {}
        with subprocess.Popen(
            **command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child:
            for line in child.stdout:
                found |= NODE.findall(line)
                if until in found:
                    child.terminate()
                    break
            child.communicate(timeout=PATIENCE)
        return found


def heft(*arguments: object, tree: Path = ROOT) -> str:
    """Runs the command on the code in `tree`; returns what it printed."""
    return _printed(**_command(*arguments, tree=tree))


def _command(*arguments: object, tree: Path) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": f"{tree / 'src'}:{tree}", "COLUMNS": "160"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "heft.cli", *map(str, arguments)]
    return {"args": command, "cwd": tree, "env": environment}


def _printed(**command: Any) -> str:
    done = subprocess.run(**command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    folder = tmp_path_factory.mktemp("street")
    config = folder / "small.yaml"
    config.write_text(CONFIG.replace("SCHEMA", str(ROOT / "pipeline/schema/clicks")))
    printed = heft("run", config, "--runs", folder / "runs")
    return Street(config, folder / "runs", printed)
