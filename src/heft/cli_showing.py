"""How a command that did not end well says so: to people on the standard error, or as JSON."""

import signal
import time
import traceback

from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException
from typer.rich_utils import rich_format_error

from heft.cli_options import screen
from heft.errors import HeftError
from heft.signals import Ending

__all__ = ["show_crash", "show_error", "show_usage", "tell_of_end", "tell_of_signal"]


def show_error(error: HeftError) -> None:
    """One message; an error that is more than text shows itself as wide as the console."""
    if screen.journal is not None:
        _write("error", error, error.exit_code)
        return
    console = _err()
    if hasattr(error, "__rich_console__"):
        console.print("[bold red]error:[/]", end=" ")
        console.print(error)
    else:
        # As text: brackets in it are not markup.
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)


def show_usage(error: TyperException) -> None:
    """Arguments that the command does not know."""
    if screen.journal is None:
        rich_format_error(error)  # type: ignore[arg-type]  # typer types it by its click alone
    else:
        screen.journal.write("error", error.format_message(), "error", exit_code=error.exit_code)


def show_crash(error: Exception) -> None:
    """A fault of Heft's own, for machines; people get Python's traceback."""
    _write("error", error, 1, traceback="".join(traceback.format_exception(error)))


def tell_of_signal(ending: Ending) -> None:
    """The one line at the end of a command that was told to end."""
    if ending.told:
        return
    ending.told = True
    how = "interrupted" if ending.number == signal.SIGINT else "ended by SIGTERM"
    said = f"{how}; the finished nodes are kept, run again to go on"
    if screen.journal is None:
        if screen.is_terminal:
            screen.show_cursor()  # which a spinner hides
        _err().print(said)
    else:
        screen.journal.write("interrupted", said, "warning", exit_code=ending.exit_code)


def tell_of_end(code: int, began: float) -> None:
    """The last line of a log for machines.

    Args:
        code: of the command.
        began: what `time.monotonic` said at its beginning.
    """
    if screen.journal is not None:
        screen.journal.drain(2)
        seconds = round(time.monotonic() - began, 3)
        screen.journal.write("ended", exit_code=int(code), seconds=seconds)


def _write(event: str, error: Exception, code: int, **fields: str) -> None:
    if screen.journal is not None:
        kind = type(error).__name__
        screen.journal.write(event, str(error), "error", exit_code=int(code), kind=kind, **fields)


def _err() -> Console:
    # Made when it is needed: `quiet` puts another sys.stderr in place.
    return Console(stderr=True, highlight=False)
