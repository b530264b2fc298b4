"""`heft` in processes of their own, with the twenty seconds of imports taken beforehand.

While one command is at work the process of the next imports the engines, and then waits to be
told what to do. It leads a session of its own, runs `heft.cli.main` once, and is killed and
waited for as any other.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Child:
    """A command at work, or over.

    Attributes:
        pid: of its process, which leads a group of the same number.
        errors: file of what it writes to its standard error.
        out: file of what it prints.
    """

    pid: int
    errors: Path
    out: Path

    def events(self) -> list[dict[str, Any]]:
        """What it has told so far; a line that is being written is left out."""
        whole = self.errors.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]


class Nursery:
    """Starts `heft` in a process that has the engines loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, 0
        self._working: subprocess.Popen[str] | None = None
        self._next = self._prepare()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for process in (self._working, self._next):
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def start(self, *arguments: object, stop_in: str | None = None) -> Child:
        """Runs `heft` with arguments, one at a time.

        Args:
            stop_in: a node; the process stops, as by SIGSTOP, when its executor is to begin.
        """
        process, self._started = self._next, self._started + 1
        out, errors = (self._folder / f"{self._started}.{name}" for name in ("out", "err"))
        out.touch(), errors.touch()
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n", "the engines could not be imported"
        process.stdin.write(
            json.dumps([[*map(str, arguments)], str(out), str(errors), stop_in]) + "\n"
        )
        process.stdin.flush()
        self._working, self._next = process, self._prepare()
        return Child(process.pid, errors, out)

    def wait(self) -> int:
        """The exit code of the last one, once it is over; negative for the signal's number."""
        assert self._working is not None
        process, self._working = self._working, None
        process.communicate()
        return process.returncode

    def _prepare(self) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "160"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.ready"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip


def _serve() -> None:
    tell = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import pipeline.cleaning
    import pipeline.pipeline
    import pipeline.running  # noqa: F401
    from heft import cli

    for path in sorted(ROOT.glob("components/*/executor.py")):
        __import__(f"components.{path.parent.name}.executor")
    tell.write("ready\n")
    arguments, out, errors, stop_in = json.loads(sys.stdin.readline())
    for path, descriptor in ((os.devnull, 0), (out, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), descriptor)
    tell.close()
    if stop_in is not None:
        _stop_in(stop_in)
    sys.argv = ["heft", *arguments]
    cli.main()


def _stop_in(node: str) -> None:
    """Some executors take milliseconds: from outside, the moment would be missed."""
    from tfx.orchestration.portable import launcher

    run = launcher.Launcher._run_executor

    def run_stopping(self: Any, *details: Any) -> Any:
        operator = self._executor_operator
        execute = operator.run_executor

        def stop_then_execute(*details: Any) -> Any:
            os.kill(os.getpid(), signal.SIGSTOP)
            return execute(*details)

        if self._pipeline_node.node_info.id == node:
            operator.run_executor = stop_then_execute
        return run(self, *details)

    launcher.Launcher._run_executor = run_stopping


if __name__ == "__main__":
    _serve()
