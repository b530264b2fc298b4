"""What engines in Java and their Python workers need to start on this machine."""

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.processes import Servers, listens

__all__ = ["ENGINES", "Cluster", "java", "opened", "worker_command", "worker_pool"]

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / ".engines"

# What engines and their serialisers look into, closed since Java 9.
_OPENED = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.io", "java.nio",
    "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar", "java.text",
    "java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
)  # fmt: skip
_WORKER = """#!/bin/sh
cd '{root}'
export PYTHONPATH='{root}/src:{root}' TF_CPP_MIN_LOG_LEVEL=2
exec '{python}' -m pipeline.run_beam_worker "$@" >> '{folder}/workers.log' 2>&1
"""


@dataclass(frozen=True)
class Cluster:
    """An engine that is up.

    Attributes:
        engine: its word in a config.
        job_endpoint: of Beam's job server.
        page: of its master.
        worker: the command that starts a Python worker.
        pool: host:port of a pool of workers that is up.
        folder: of its logs.
        states: of all jobs, from what the master says under `path`.
        path: of the page.
    """

    engine: str
    job_endpoint: str
    page: str
    worker: str
    pool: str
    folder: Path
    path: str
    states: Callable[[dict[str, Any]], list[str]]

    def ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.page}/{path}", timeout=10) as answer:
            return json.load(answer)

    def jobs(self) -> list[str]:
        """The state of each job so far."""
        return self.states(self.ask(self.path))


def opened() -> list[str]:
    """Flags of a Java virtual machine."""
    return [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED]


def java(jars: Path) -> list[str]:
    """A command that a main class and its arguments follow."""
    # One thread collects garbage: the cores belong to the work.
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", *opened(), "-cp", f"{jars}{os.sep}*"]


def worker_pool(servers: Servers, port: int) -> None:
    """Starts a pool of Python workers on this code, and waits for it."""
    paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    environment = {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "2"}
    servers.start("pool", [sys.executable, "-m", "tests.engines.pool", port], None, environment)
    servers.wait(lambda: listens(port), "pool of workers")


def worker_command(folder: Path) -> str:
    """A script that starts a Python worker on this code, whose output goes to `workers.log`."""
    script = folder / "worker.sh"
    script.write_text(_WORKER.format(root=ROOT, python=sys.executable, folder=folder))
    script.chmod(0o755)
    return str(script)
