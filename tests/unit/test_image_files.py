"""What the Dockerfile and its locks say, checked without building anything."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def _entries(name: str) -> set[tuple[str, str, frozenset[str]]]:
    """Name, version and hashes of every package of a lock; some it has for two platforms."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = set()
    for entry in re.split(r"\n(?=\S)", text):
        named = re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry)
        if named:
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
            found.add((named[1], named[2], hashes))
    return found


def _versions(name: str) -> dict[str, str]:
    return {package: version for package, version, _ in _entries(name)}


@pytest.mark.parametrize("name", ["image", "gpu", "tools"])
def test_every_lock_is_hashed_and_names_no_address(name: str) -> None:
    entries = _entries(f"requirements-{name}.lock")
    assert len(entries) >= 10
    assert len(_versions(f"requirements-{name}.lock")) == len(entries)
    assert [package for package, _, hashes in entries if not hashes] == []
    assert not re.search(r"https?://", (ROOT / f"requirements-{name}.lock").read_text())


def test_the_image_has_the_versions_that_the_tests_ran_on_and_no_tools_of_tests() -> None:
    shipped = _entries("requirements-image.lock")
    assert {name for name, *_ in shipped - _entries("requirements.lock")} == {"pip"}
    names = {name for name, *_ in shipped}
    assert not {"pytest", "moto", "mypy", "ruff", "hypothesis", "wandb"} & names


def test_cuda_is_what_tensorflow_asks_for() -> None:
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    locked = _versions("requirements-gpu.lock")
    asked = [Requirement(line) for line in requires("tensorflow") or ()]
    cuda = [r for r in asked if r.marker and "and-cuda" in str(r.marker)]
    assert {r.name for r in cuda} == locked.keys()
    assert [r.name for r in cuda if locked[r.name] not in r.specifier] == []


def test_boot_is_of_the_beam_that_is_locked() -> None:
    version = _versions("requirements.lock")["apache-beam"]
    assert f"ARG BEAM_SDK=apache/beam_python3.11_sdk:{version}" in DOCKERFILE


def test_the_base_is_pinned_and_so_is_every_stage() -> None:
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.M)
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, re.M)
    names = {name for _, name in stages}
    assert {"cpu", "gpu"} <= names
    assert {source for source, _ in stages} <= {"${BASE}", "${BEAM_SDK}"} | names
    # What a build without --target makes, and who runs it.
    assert stages[-1][1] == "cpu"
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.M) == ["10001:10001"]


@pytest.fixture(scope="module")
def health() -> ModuleType:
    spec = importlib.util.spec_from_file_location("health", ROOT / "docker/health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Answers(BaseHTTPRequestHandler):
    """TensorFlow Serving's answer for three models: one is served, one loads, one is another's."""

    def do_GET(self) -> None:
        state = {"/v1/models/heft": "AVAILABLE", "/v1/models/new": "LOADING"}.get(self.path)
        self.send_response(200 if state else 404)
        self.end_headers()
        self.wfile.write(b'{"model_version_status": [{"state": "%s"}]}' % str(state).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("heft", None),
        ("new", "no version is available, states: ['LOADING']"),
        ("old", "HTTP Error 404"),
    ],
)
def test_a_server_is_as_healthy_as_its_model(
    health: ModuleType, port: int, model: str, said: str | None, tmp_path: Path
) -> None:
    command = ["python", "-m", "serving.local_server", f"--rest-port={port}", "--model-name", model]
    fault = health.fault(command, tmp_path)
    assert fault is None if said is None else said in fault


def test_a_pool_is_healthy_while_it_takes_connections(
    health: ModuleType, port: int, tmp_path: Path
) -> None:
    boot = ["/opt/apache/beam/boot", "--worker_pool"]
    assert health.fault(boot, tmp_path, pool_port=port) is None
    assert "takes no connection on port 1" in health.fault(boot, tmp_path, pool_port=1)


def test_a_job_is_healthy_while_it_can_write(health: ModuleType, tmp_path: Path) -> None:
    run = ["heft", "run", "config.yaml"]
    assert health.fault(run, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert "cannot write in" in health.fault(run, tmp_path / "gone")


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        ([], "heft --help"),
        (["--version"], "heft --version"),
        (["run", "config.yaml"], "heft run config.yaml"),
        (["env", "printf", "a program"], "a program"),
        (["--worker_pool"], "boot --worker_pool"),
        (["--id=1-1", "--provision_endpoint=x:1"], "boot --id=1-1 --provision_endpoint=x:1"),
    ],
)
def test_the_entrypoint_starts_what_is_meant(
    arguments: list[str], started: str, tmp_path: Path
) -> None:
    for name in ("heft", "boot"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    script = (ROOT / "docker/entrypoint.sh").read_text()
    script = script.replace("/opt/apache/beam/boot", str(tmp_path / "boot"))
    done = subprocess.run(
        ["sh", "-c", script, "sh", *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == started


def test_the_health_check_is_a_program(tmp_path: Path) -> None:
    """Run by hand it looks at the first process of this machine, which is some job."""
    done = subprocess.run(
        [sys.executable, ROOT / "docker/health.py"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
