"""`heft` in processes of their own, without the twenty seconds of imports for each.

One process imports the engines and forks for each command. A child is a process as any other:
it leads a session of its own, runs `heft.cli.main`, and is killed and waited for as such.

Run as a program it reads a command a line from its standard input, as JSON, and writes the
child's number, and, when that has ended, its status: negative for a signal.
"""

import json
import os
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
    """Starts `heft` from a process that has the engines loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, 0
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "160"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forked"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._line() == "ready"

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.communicate(timeout=60)

    def start(self, *arguments: object) -> Child:
        """Runs `heft` with arguments; one at a time."""
        self._started += 1
        out, errors = (self._folder / f"{self._started}.{name}" for name in ("out", "err"))
        command = [*map(str, arguments)], str(out), str(errors)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return Child(int(self._line()), errors, out)

    def wait(self) -> int:
        """The exit code of the last one, once it is over; negative for the signal's number."""
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process with the engines has ended"
        return line.strip()


def _serve() -> None:
    tell = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Imported, and not yet used: nothing has threads before the fork.
    import pipeline.cleaning
    import pipeline.pipeline
    import pipeline.running  # noqa: F401
    from heft import cli

    for path in sorted(ROOT.glob("components/*/executor.py")):
        __import__(f"components.{path.parent.name}.executor")
    tell.write("ready\n")
    for line in sys.stdin:
        arguments, out, errors = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            for path, descriptor in ((os.devnull, 0), (out, 1), (errors, 2)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), descriptor)
            sys.argv = ["heft", *arguments]
            cli.main()
        tell.write(f"{child}\n")
        _, status = os.waitpid(child, 0)
        tell.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    _serve()
