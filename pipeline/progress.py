"""What a run prints: a line per node, then a table."""

import time
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from heft.report.facts import parse_facts
from heft.screen import journal_of, tell

__all__ = ["NodeDone", "Progress", "print_summary"]

# Resolvers look up earlier artifacts; they are part of the nodes behind them.
_SILENT = (
    "passed_spans", "previous_embeddings", "previous_readings", "latest_blessed_model",
)  # fmt: skip
_METRICS = {
    "graded": ("ctr_auc", "ctr_ndcg_at_10", "ctr_ece"),
    "shuffled": ("ctr_gauc",),
    "natural": ("ctr_auc", "ctr_log_loss", "ctr_calibration", "ctcvr_auc"),
}


@dataclass(frozen=True)
class NodeDone:
    """One node of a run, finished.

    Attributes:
        node: its id.
        seconds: wall time; of a cached node, what the look-up took.
        cached: taken over from an earlier run.
        outputs: folder by output key; the first artifact of each.
        rows: rows it wrote, where it says so.
    """

    node: str
    seconds: float
    cached: bool
    outputs: dict[str, str]
    rows: int | None


class Progress:
    """Prints each node as it ends, and keeps what the summary needs."""

    def __init__(self, console: Console, name: str) -> None:
        self.seconds: dict[str, float] = {}
        self.outputs: dict[str, dict[str, str]] = {}
        self.current = ""
        self._console = console
        self._status: Status | None = None
        self._began = time.monotonic()
        self._journal = journal_of(console)
        tell(console, "run_started", f"[bold]{name}[/]")

    def started(self, node: str) -> None:
        """A node begins."""
        self.current, self._began = node, time.monotonic()
        if self._journal:
            self._journal.node = node
        if node not in _SILENT:
            self._status = self._console.status(f"{node} …")
            self._status.start()
            tell(self._console, "node_started", "")

    def done(self, node: NodeDone) -> None:
        """A node has ended well."""
        self.close()
        self.outputs[node.node] = node.outputs
        if node.node not in _SILENT:
            self.seconds[node.node] = 0.0 if node.cached else node.seconds
            rows = f"{node.rows:>11,}" if node.rows else " " * 11
            took = "  cached" if node.cached else f"{node.seconds:7.1f}s"
            event = "node_cached" if node.cached else "node_done"
            shown = f"  [green]✓[/] {node.node:<20}{took} {rows}"
            facts = {"seconds": round(node.seconds, 3), "rows": node.rows}
            tell(self._console, event, shown, **facts)
        if self._journal:
            self._journal.node = None

    def failed(self, why: str) -> None:
        """The current node has failed."""
        self.close()
        facts = {"seconds": round(time.monotonic() - self._began, 3), "why": why}
        tell(self._console, "node_failed", f"  [red]✗[/] {self.current}", "error", **facts)

    def close(self) -> None:
        """Takes the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def print_summary(console: Console, facts: dict[str, Any], summary: dict[str, Any]) -> None:
    """Rows, weights, metrics side by side, and whether the model was pushed."""
    if journal := journal_of(console):
        said = (summary["verdict"] or {}).get("sentence", "")
        told = ("blessed", "pushed", "rows", "metrics", "model_path", "report_path")
        facts = {name: summary[name] for name in told}
        journal.write("verdict", said, reasons=summary["blessing_reasons"], **facts)
        return
    rows = Table.grid(padding=(0, 2))
    for name, value in _figures(summary):
        rows.add_row(name, value)
    console.print()
    console.print(rows)
    console.print(_metrics_table(facts))
    _print_verdict(console, summary)


def _figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    read = summary["rows"] or {}
    texts = summary["distinct_texts"] or {}
    conflicting = sum(stream.get("conflicting", 0) for stream in summary["streams"].values())
    ess = {task: value for task, value in (summary["ess"] or {}).items() if value is not None}
    return [
        ("rows read", f"{read.get('read') or 0:,}"),
        ("rows written", f"{read.get('written') or 0:,}"),
        ("quarantined", f"{summary['quarantined'] or 0:,}"),
        ("duplicates", f"{summary['duplicates'] or 0:,}"),
        *([("conflicting", f"{conflicting:,}")] if conflicting else []),
        ("distinct texts", f"{sum(texts.values()):,}" if isinstance(texts, dict) else f"{texts:,}"),
        ("effective sample size", ", ".join(f"{task} {value:,.0f}" for task, value in ess.items())),
        ("seconds", f"{sum(summary['seconds'].values()):.0f}"),
    ]


def _metrics_table(facts: dict[str, Any]) -> Table:
    """The figures that decide, with the interval of the difference."""
    table = Table("view", "metric", "weighted", "control", "difference", box=box.SIMPLE_HEAD)
    table.add_column("95 % interval", no_wrap=True)
    comparison = parse_facts(facts).comparison
    views = comparison.views if comparison else {}
    for view, names in _METRICS.items():
        for name in names:
            found = views[view].metric(name) if view in views else None
            if found is not None:
                interval = f"{_figure(found.low, '+')} … {_figure(found.high, '+')}"
                table.add_row(
                    view, name, _figure(found.weighted), _figure(found.control),
                    _figure(found.difference, "+"), interval,
                )  # fmt: skip
    return table


def _figure(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4f}"


def _print_verdict(console: Console, summary: dict[str, Any]) -> None:
    verdict = summary["verdict"] or {}
    console.print(verdict.get("sentence", ""), soft_wrap=True)
    if summary["blessed"]:
        console.print("[bold green]blessed[/]")
    else:
        console.print("[bold red]not blessed[/]")
        for reason in summary["blessing_reasons"]:
            console.print(f"  - {reason}", soft_wrap=True, markup=False)
    pushed = summary["model_path"] if summary["pushed"] else "not pushed"
    console.print(f"model   {pushed}", soft_wrap=True, markup=False)
    console.print(f"report  {summary['report_path']}", soft_wrap=True, markup=False)
