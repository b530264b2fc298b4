"""Where the commands speak: to people, or to machines in JSON."""

import io
from typing import Any

from rich.console import Console, RenderableType
from rich.status import Status

from heft.journal import Journal

__all__ = ["Screen", "journal_of", "tell"]

_WIDTH = 160


class Screen(Console):
    """A console; with a journal, all that it is given to print becomes an event there.

    Attributes:
        journal: None for a terminal or a text file.
    """

    journal: Journal | None = None

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, or writes an event `message` with the text."""
        if self.journal is None:
            super().print(*objects, **options)
        elif text := _plain(*objects, **options):
            self.journal.write("message", text)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A spinner; none with a journal."""
        if self.journal is None:
            return super().status(status, **options)
        return Status(status, console=Console(file=io.StringIO()), **options)


def journal_of(console: Console) -> Journal | None:
    """The journal of a screen that speaks to machines, else None."""
    return console.journal if isinstance(console, Screen) else None


def tell(console: Console, event: str, shown: str, level: str = "info", **fields: Any) -> None:
    """Prints a line for people; for machines writes an event with its fields in its place.

    Args:
        console: a screen, or any console, which prints.
        event: its name.
        shown: with rich's markup; may be empty, for what people see anyway.
        level: of the event.
        fields: of the event.
    """
    if journal := journal_of(console):
        journal.write(event, _plain(shown, soft_wrap=True).strip(), level, **fields)
    elif shown:
        console.print(shown, soft_wrap=True)


def _plain(*objects: Any, **options: Any) -> str:
    """What would be printed, without colours."""
    page = io.StringIO()
    console = Console(file=page, width=_WIDTH, color_system=None, highlight=False)
    console.print(*objects, **options)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()).strip("\n")
