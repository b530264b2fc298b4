"""The table of anomalies, and the error that shows it."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from heft.errors import GateError
from heft.gate.anomaly import ALL, Anomaly

__all__ = ["AnomaliesFound", "anomaly_table", "table_text"]

_TEXT_WIDTH = 120
_COLUMNS = ("split", "feature", "anomaly", "expected", "what came", "rows", "such as")
_OF_SCHEMA = frozenset(
    {"missing column", "unknown column", "missing values", "out of range", "unexpected values",
     "another type", "values in a row"}
)  # fmt: skip


def anomaly_table(anomalies: Sequence[Anomaly]) -> Table:
    """One row for each anomaly; values are text, whatever is in them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(
            name,
            justify="right" if name == "rows" else "left",
            no_wrap=name in ("split", "rows"),
            overflow="fold",
        )
    for one in anomalies:
        rows = "–" if one.rows is None else f"{one.rows:,}"
        cells = (one.split, one.feature, one.kind, one.expected, one.came, rows)
        table.add_row(*(Text(cell) for cell in (*cells, ", ".join(one.examples))))
    return table


def table_text(anomalies: Sequence[Anomaly]) -> str:
    """The table for files and logs, 120 columns wide."""
    console = Console(file=io.StringIO(), width=_TEXT_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(anomaly_table(anomalies))
    lines = captured.get().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


class AnomaliesFound(GateError):
    """The span is not what it should be. On a console a table as wide as that; as text one
    of 120 columns."""

    def __init__(self, span: int, anomalies: Sequence[Anomaly], path: str) -> None:
        self.anomalies = tuple(anomalies)
        self._head = f"{_counted(len(anomalies))} in span {span}, and the run stops:"
        self._tail = "\n".join([*_advice(span, anomalies), f"The table lies in {path}"])
        super().__init__(f"{self._head}\n{table_text(anomalies)}{self._tail}")

    def __reduce__(self) -> tuple[type[GateError], tuple[str]]:
        """Between processes it travels as its text."""
        return GateError, (str(self),)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For `Console.print`."""
        yield Text(self._head)
        yield anomaly_table(self.anomalies)
        yield Text(self._tail, no_wrap=True, overflow="ignore")


def _counted(number: int) -> str:
    return "1 anomaly" if number == 1 else f"{number} anomalies"


def _advice(span: int, anomalies: Sequence[Anomaly]) -> list[str]:
    """What to do, for the kinds that there are."""
    kinds = {one.kind for one in anomalies}
    lines = ["Mend the log and run again."]
    if "label leak" in kinds:
        lines.append("A column that knows the label has to leave `transform`: it would be learned.")
    of_schema = sorted({one.feature for one in anomalies if one.kind in _OF_SCHEMA})
    accepted = []
    if of_schema:
        names = " ".join(of_schema)
        accepted.append(f"- heft schema accept CONFIG {names}, and review the change in git")
    if any(one.kind == "drift" or "before" in one.expected for one in anomalies):
        accepted.append(f"- --set gate.since={span} lets history begin anew with this span")
    if "skew" in kinds:
        accepted.append("- serve columns as they are logged, or give them a skew_comparator")
    if any(one.split == ALL and "before" not in one.expected for one in anomalies):
        accepted.append("- set other bounds under gate.labels in the config")
    return [*lines, *(["Where the data is right:", *accepted] if accepted else [])]
