"""Servers that tests start: free ports, logs in files, and an end to all of them."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

__all__ = ["Servers", "free_ports", "listens", "program"]


def free_ports(count: int) -> list[int]:
    """Distinct ports of this machine that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listens(port: int) -> bool:
    """Whether somebody answers there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Servers:
    """Processes with their children, each with a log in `folder`; all end with the block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running.values()):
            self._end(process)

    def start(
        self,
        name: str,
        command: Sequence[object],
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts a server whose output goes to `NAME.log`; `environment` is added to its own."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [*map(str, command)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                user=user, env=os.environ | dict(environment or {}),
            )  # fmt: skip

    def wait(self, ready: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        """Until `ready`; fails with the ends of all logs if a server ends before, or in time."""
        until = time.monotonic() + seconds
        while not ready():
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > until:
                logs = "\n".join(f"{name}: {self.log(name)[-2000:]}" for name in self._running)
                raise AssertionError(f"no {what}; ended: {ended}\n{logs}")
            time.sleep(0.5)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(20)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def program(*names: str) -> str | None:
    """The first of some programs that there is, also where only root looks."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)
