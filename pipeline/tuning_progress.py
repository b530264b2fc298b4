"""What a search prints: a line per trial, then a table."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heft.tuning.outcome import differing
from heft.tuning.search import Trial, best
from heft.tuning.settings import TuneSettings
from heft.tuning.trials import Beat

__all__ = ["SearchProgress", "print_outcome"]


class SearchProgress:
    """Says how far a search is, how fast, and how long it may take yet."""

    def __init__(self, console: Console, settings: TuneSettings, known: int, rows: int) -> None:
        self._console = console
        self._trials = settings.trials
        self._done: list[Trial] = []
        self._trained = 0
        self._seconds = self._rate = 0.0
        self._began = time.monotonic()
        self._status = console.status("")
        console.print(
            f"\n{settings.trials} trials on {rows:,} rows, {settings.oracle}, seed {settings.seed}"
            + (f"; {min(known, settings.trials)} are there already" if known else "")
        )

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def beat(self, beat: Beat) -> None:
        """A trial has done another epoch."""
        self._rate = beat.rows_per_second
        self._status.update(
            f"trial {beat.number + 1} of {self._trials}, epoch {beat.epochs} of at most {beat.of}, "
            f"{beat.rows_per_second:,.0f} rows/s, {self._left()}"
        )

    def done(self, trial: Trial, known: bool) -> None:
        """A trial has ended, or was in the journal."""
        self._done.append(trial)
        if not known:
            self._trained += 1
            self._seconds = time.monotonic() - self._began
        mark = "[red]✗[/]" if trial.loss is None else "[green]✓[/]"
        took = "   known" if known else f"{trial.seconds:7.1f}s"
        said = _loss(trial) if trial.loss is not None else escape(trial.trouble)
        least = best(self._done)
        tail = "" if least.loss is None else f"   least {_loss(least)}"
        more = ""
        if not known and len(self._done) < self._trials:
            more = f"   {self._rate:,.0f} rows/s, {self._left()}"
        self._console.print(
            f"  {mark} trial {trial.number + 1:<4}{took}   {said}{tail}{more}", soft_wrap=True
        )

    def _left(self) -> str:
        if not self._trained:
            return "no trial done yet"
        left = self._seconds / self._trained * (self._trials - len(self._done))
        left -= time.monotonic() - self._began - self._seconds
        return f"about {max(int(left), 0) // 60}:{max(int(left), 0) % 60:02d} left"


def print_outcome(console: Console, trials: Sequence[Trial], config: Path, overlay: Path) -> None:
    """All trials, the least loss first, and what to do with the best."""
    own, found = trials[0], best(list(trials))
    table = Table("trial", "settings that differ", "loss on tune", "seconds", box=box.SIMPLE_HEAD)
    for trial in sorted(trials, key=lambda t: (t.loss is None, t.loss, t.number)):
        changes = "the config's own" if trial is own else _written(differing(trial, own))
        table.add_row(
            str(trial.number + 1), escape(changes or "none"), _loss(trial), f"{trial.seconds:.1f}"
        )
    console.print(table)
    if found is own:
        console.print("No trial has a lower loss than the config's own settings.")
    else:
        before = "no loss" if own.loss is None else _loss(own)
        console.print(
            f"Trial {found.number + 1} has the least loss on tune, {_loss(found)}; the config's "
            f"own settings have {before}.",
            soft_wrap=True,
        )
    console.print(f"overlay {overlay}", soft_wrap=True, markup=False)
    console.print(f"use it  heft run {config} --with {overlay}", soft_wrap=True, markup=False)


def _loss(trial: Trial) -> str:
    return "failed" if trial.loss is None else f"{trial.loss:.5f}"


def _written(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(changes.items()))
