"""What engines in Java and their Python workers need to start on this machine."""

import os
import sys
from pathlib import Path

__all__ = ["ROOT", "java", "opened", "worker_command"]

ROOT = Path(__file__).resolve().parents[2]

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


def opened() -> list[str]:
    """Flags of a Java virtual machine."""
    return [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED]


def java(jars: Path) -> list[str]:
    """A command that a main class and its arguments follow."""
    # One thread collects garbage: the cores belong to the work.
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", *opened(), "-cp", f"{jars}{os.sep}*"]


def worker_command(folder: Path) -> str:
    """A script that starts a Python worker on this code, whose output goes to `workers.log`."""
    script = folder / "worker.sh"
    script.write_text(_WORKER.format(root=ROOT, python=sys.executable, folder=folder))
    script.chmod(0o755)
    return str(script)
