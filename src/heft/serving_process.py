"""A model server as a child process that cannot outlive its use."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import tensorflow as tf

from heft.errors import ServingError

__all__ = ["ServerProcess"]

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 15.0  # between SIGTERM and SIGKILL
_LAST_WORDS = 2_000  # bytes of the server's stderr that an error repeats


class ServerProcess:
    """Serves one SavedModel while the `with` block lasts.

    The server reads a pipe that this process holds and ends when the pipe
    closes, so that it goes even if this process is killed.

    Args:
        command: starts the server; the arguments of `serving.local_server` are added.
        model_dir: a SavedModel, on any file system TensorFlow reads.
        cwd: the folder to start it in.
        timeout_seconds: until it has to be ready.

    Raises:
        ServingError: it ended, or was not ready in time, or did not end well when told to.
    """

    def __init__(
        self, command: Sequence[str], model_dir: str, cwd: str | None, timeout_seconds: float
    ) -> None:
        self.command = list(command)
        self.model_dir = model_dir
        self.cwd = cwd
        self.timeout_seconds = timeout_seconds
        self.start_seconds = 0.0
        self.rest_target = self.grpc_target = ""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="heft-serving-"))
        try:
            self._start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._stop()
        finally:
            self._clean_up()

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def _start(self) -> None:
        base, ports = self._folder / "heft", self._folder / "ports.json"
        _copy(self.model_dir, base / "1")
        started = time.monotonic()
        with (self._folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    *self.command,
                    *("--model-base-path", str(base), "--model-name", "heft"),
                    *("--rest-port", "0", "--grpc-port", "0", "--port-file", str(ports)),
                    "--until-stdin-closes",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.cwd,
            )
        while not ports.exists():
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ServingError(f"the server ended with code {code}: {self._last_words()}")
            if time.monotonic() - started > self.timeout_seconds:
                raise ServingError(
                    f"the server was not ready within {self.timeout_seconds} s: raise "
                    f"timeout_seconds, or look at what it said: {self._last_words() or 'nothing'}"
                )
            time.sleep(_POLL_SECONDS)
        self.start_seconds = time.monotonic() - started
        found = json.loads(ports.read_text())
        self.rest_target = f"http://127.0.0.1:{found['rest']}"
        self.grpc_target = f"grpc://127.0.0.1:{found['grpc']}"

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServingError(f"the server did not end within {_GRACE_SECONDS} s") from None
        if code != 0:
            raise ServingError(f"the server ended with code {code}: {self._last_words()}")

    def _clean_up(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _last_words(self) -> str:
        said = (self._folder / "stderr").read_bytes()[-_LAST_WORDS:]
        return said.decode(errors="replace").strip()


def _copy(source: str, target: Path) -> None:
    for folder, _, names in tf.io.gfile.walk(source):
        inside = target / folder.removeprefix(source).strip("/")
        inside.mkdir(parents=True, exist_ok=True)
        for name in names:
            tf.io.gfile.copy(f"{folder.rstrip('/')}/{name}", str(inside / name))
