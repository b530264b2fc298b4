"""Telling a webhook how a run ended. A notification that fails is said, and changes nothing."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from heft.errors import GateError, HeftError
from heft.exit_codes import ExitCode
from heft.notify import NotifySettings, payload, send
from heft.screen import tell
from heft.storage import storage_fault
from pipeline.config import PipelineConfig

__all__ = ["Told", "notified"]

_LONGEST = 500  # characters of a message that are sent


class Told:
    """How the run ended, once it has.

    Attributes:
        summary: of the run; empty before its end.
    """

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}

    def ended_with(self, summary: dict[str, Any]) -> None:
        """The run is over, and this came of it."""
        self.summary = summary


@contextmanager
def notified(config: PipelineConfig, console: Console) -> Iterator[Told]:
    """Tells the config's webhook how what is done in this context ended; errors go on."""
    told, settings = Told(), config.notify
    url = None if settings is None else _address(settings)
    if settings is not None and url is None:
        said = f"notify: {settings.url_variable} is not set, nobody will be told of this run"
        tell(console, "warning", f"  [yellow]![/] {escape(said)}", "warning")
    try:
        yield told
    except Exception as error:
        if settings is not None and url is not None:
            _tell_of_error(error, config.name, url, settings, console)
        raise
    if settings is not None and url is not None:
        _tell_of_end(told.summary, config.name, url, settings, console)


def _address(settings: NotifySettings) -> str | None:
    if settings.url is not None:
        return settings.url.get_secret_value()
    return os.environ.get(settings.url_variable) or None


def _tell_of_error(
    error: Exception, run: str, url: str, settings: NotifySettings, console: Console
) -> None:
    fault = (
        error if isinstance(error, HeftError) else storage_fault(error, os.getcwd(), anywhere=True)
    )
    facts = {
        "exit_code": int(ExitCode.FAILED if fault is None else fault.exit_code),
        "node": None if fault is None else fault.node,
    }
    said = str(fault or f"{type(error).__name__}, see the log")
    event = "gate" if isinstance(error, GateError) else "failure"
    _notify(event, run, said, facts, url, settings, console)


def _tell_of_end(
    summary: dict[str, Any], run: str, url: str, settings: NotifySettings, console: Console
) -> None:
    facts = {"exit_code": 0, "report": summary["report_path"]}
    if summary["pushed"]:
        facts["model"] = summary["model_path"]
        said = (summary["verdict"] or {}).get("sentence", "")
        _notify("pushed", run, said, facts, url, settings, console)
        return
    reasons = list(summary["blessing_reasons"])
    facts |= {"blessed": summary["blessed"], "reasons": reasons}
    said = "; ".join(reasons) or "the push was refused"
    _notify("not_blessed", run, said, facts, url, settings, console)


def _notify(
    event: str, run: str, said: str, facts: dict[str, Any], url: str, settings: NotifySettings,
    console: Console,
) -> None:  # fmt: skip
    if event not in settings.events:
        return
    # The first line: further ones show rows, and a webhook is somebody else's.
    line = said.strip().partition("\n")[0][:_LONGEST]
    fault = send(url, payload(event, run, line, host=socket.gethostname(), **facts), settings)
    if fault is not None:
        shown = f"  [yellow]![/] nobody was told: {escape(fault)}"
        tell(console, "notify_failed", shown, "warning", about=event)
    else:
        tell(console, "notified", "", about=event)
