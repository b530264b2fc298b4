"""A log for machines: one JSON object on each line, whoever speaks."""

import io
import json
import logging
import math
import os
import threading
import traceback
import warnings
from datetime import UTC, datetime
from typing import Any

__all__ = ["Journal", "JournalHandler", "JournalText", "warnings_to"]

_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}


class Journal:
    """Writes events to a file descriptor, each line whole, from whatever thread.

    Every line has `time` (ISO 8601, UTC), `level`, `event` and `message`, and `run` and `node`
    once they are known; further fields are the event's own.

    Args:
        descriptor: to write to.

    Attributes:
        run: name of the run, in every line from now on; None before it is known.
        node: that is at work; None between nodes.
    """

    def __init__(self, descriptor: int) -> None:
        self.run: str | None = None
        self.node: str | None = None
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._pumps: list[threading.Thread] = []

    def fileno(self) -> int:
        """Where it writes, so that a child process can write there too."""
        return self._descriptor

    def take_over(self, descriptor: int, logger: str) -> None:
        """What is written to a descriptor, past Python, becomes events line by line."""
        reads, writes = os.pipe()
        os.dup2(writes, descriptor)
        os.close(writes)

        def read() -> None:
            text = JournalText(self, logger)
            with os.fdopen(reads, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    text.write(line)

        pump = threading.Thread(target=read, daemon=True, name="journal")
        pump.start()
        self._pumps.append(pump)

    def drain(self, descriptor: int) -> None:
        """Waits for what was written to a descriptor that was taken over, which leads nowhere
        from now on."""
        if self._pumps:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), descriptor)
            for pump in self._pumps:
                pump.join(1.0)  # a child process may go on writing

    def write(self, event: str, message: str = "", level: str = "info", **fields: Any) -> None:
        """Writes a line; what has no JSON of its own is written as text."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "level": level, "event": event}
        known = {"run": self.run, "node": self.node}
        line |= {name: value for name, value in known.items() if value is not None}
        # ASCII, so that no reader takes a separator of Unicode for the end of a line.
        whole = _finite(line | (fields | line) | {"message": message})
        left = json.dumps(whole, default=str).encode() + b"\n"
        with self._lock:
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:
                return  # nobody reads any more, which is no reason to stop


def _finite(value: Any) -> Any:
    """The same with null where JSON has no number."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JournalHandler(logging.Handler):
    """Hands records of Python's logging to a journal, as events `log`."""

    def __init__(self, journal: Journal, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """One line, with the traceback in it where there is one."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit the text: the text is what there is
            message = str(record.msg)
        fields = {"logger": record.name}
        if record.exc_info:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        level = _LEVELS.get(record.levelno, "error" if record.levelno > 30 else "info")
        self._journal.write("log", message, level, **fields)


class JournalText(io.TextIOBase):
    """A text stream of which each line becomes an event.

    It takes the place of `sys.stderr`, so that whatever somebody prints there stays JSON.
    """

    def __init__(self, journal: Journal, logger: str) -> None:
        self._journal, self._logger, self._rest = journal, logger, ""

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """That of the standard error, for programs that are to write there themselves."""
        return 2

    def write(self, text: str) -> int:
        """Keeps what follows the last end of a line until that has come too."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._journal.write("log", line.rstrip(), logger=self._logger)
        return len(text)


def warnings_to(journal: Journal) -> None:
    """Python's warnings become events too."""

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        journal.write("log", str(message), "warning", logger=category.__name__)

    warnings.showwarning = show
