#!/usr/bin/env python3
"""Whether the container does what it was started for; Docker's HEALTHCHECK runs it.

What is asked depends on the program that the container runs:

- `serving.local_server`: does the model answer as available?
- Beam's worker pool: does it take connections?
- anything else, a job: can it still write where it works? A full disk or a
  folder that became read-only is what a job notices last.

Kubernetes does not look at it: a job's health there is its exit code, and a
server has probes of its own (serving/kubernetes).
"""

import argparse
import json
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

_POOL_PORT = 50_000  # of `boot --worker_pool`; Beam has it fixed
_SECONDS = 5.0


def fault(arguments: Sequence[str], folder: Path, pool_port: int = _POOL_PORT) -> str | None:
    """What is wrong with a container that runs `arguments` and works in `folder`, if anything."""
    if "serving.local_server" in arguments:
        return _server_fault(arguments)
    if any(argument.lstrip("-").split("=")[0] == "worker_pool" for argument in arguments):
        return _pool_fault(pool_port)
    return _folder_fault(folder)


def _server_fault(arguments: Sequence[str]) -> str | None:
    parser = argparse.ArgumentParser(allow_abbrev=True, add_help=False)
    parser.add_argument("--rest-port", type=int, default=8501)
    parser.add_argument("--model-name", default="heft")
    given, _ = parser.parse_known_args(arguments)
    address = f"http://127.0.0.1:{given.rest_port}/v1/models/{given.model_name}"
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            versions = json.load(answer)["model_version_status"]
    except (OSError, ValueError, KeyError) as error:
        return f"{address} does not answer: {error}"
    states = sorted({version["state"] for version in versions})
    return None if "AVAILABLE" in states else f"no version is available, states: {states}"


def _pool_fault(port: int) -> str | None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS).close()
    except OSError as error:
        return f"the worker pool takes no connection on port {port}: {error}"
    return None


def _folder_fault(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return f"cannot write in {folder}: {error.strerror or error}"
    return None


def main() -> int:
    """0 if healthy, else 1, with the reason."""
    arguments = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    found = fault(arguments, Path.cwd())
    if found is not None:
        print(found, file=sys.stderr)
    return int(found is not None)


if __name__ == "__main__":
    sys.exit(main())
