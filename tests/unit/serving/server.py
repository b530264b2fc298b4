"""Runs the stand-in as a real process for the tests."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Server", "wait_until"]

ROOT = Path(__file__).resolve().parents[3]
_READY_SECONDS = 60.0


class Server:
    """A server process that can be killed and started again."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.rest = self.grpc = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Returns the seconds until it was ready."""
        ports = self.folder / "ports.json"
        ports.unlink(missing_ok=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "serving.local_server", "--rest-port", "0"]
        command += ["--grpc-port", "0", "--poll-seconds", "0.1", "--port-file", str(ports)]
        self.process = subprocess.Popen(
            [*command, *self.arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not ports.exists():
            if self.process.poll() is not None:
                raise AssertionError(self.process.communicate())
            assert time.monotonic() - started < _READY_SECONDS, "not ready in time"
            time.sleep(0.05)
        found = json.loads(ports.read_text())
        self.rest = f"http://127.0.0.1:{found['rest']}"
        self.grpc = f"grpc://127.0.0.1:{found['grpc']}"
        return time.monotonic() - started

    def kill(self) -> None:
        """As a machine that loses power would."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str, str]:
        """Ends it politely; exit code, stdout and stderr."""
        assert self.process is not None
        self.process.terminate()
        stdout, stderr = self.process.communicate(timeout=20)
        return self.process.returncode, stdout, stderr


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Returns once `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
