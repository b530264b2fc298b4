"""The stand-in as a process that can be killed."""

import json
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Server"]

ROOT = Path(__file__).parents[2]
_READY_SECONDS = 120.0


class Server:
    """Serves the models of a models.config.

    Args:
        folder: for its port file.
        config: the models.config.
    """

    def __init__(self, folder: Path, config: Path, *arguments: str) -> None:
        self._ports = folder / "ports.json"
        self._command = [
            sys.executable, "-m", "serving.local_server", "--model-config-file", str(config),
            "--rest-port", "0", "--grpc-port", "0", "--port-file", str(self._ports),
            "--poll-seconds", "0.2", "--until-stdin-closes", *arguments,
        ]  # fmt: skip
        self.rest = self.grpc = ""

    def start(self) -> float:
        """Returns the seconds until it was ready."""
        self._ports.unlink(missing_ok=True)
        began = time.monotonic()
        self.process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        while not self._ports.exists():
            if self.process.poll() is not None or time.monotonic() - began > _READY_SECONDS:
                raise RuntimeError(f"the server did not come up: {self.process.poll()}")
            time.sleep(0.02)
        found = json.loads(self._ports.read_text())
        self.rest = f"http://127.0.0.1:{found['rest']}"
        self.grpc = f"grpc://127.0.0.1:{found['grpc']}"
        return time.monotonic() - began

    def kill(self) -> None:
        """As a machine that loses power would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ends it; its exit code."""
        self.process.terminate()
        return self.process.wait(30)
