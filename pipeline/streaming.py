"""`heft stream`: log files as they land, each training a run in a process of its own."""

import json
import os
import signal
import subprocess
import sys

from rich.markup import escape

from heft.errors import ConfigError
from heft.exit_codes import ExitCode
from heft.run_lock import alone
from heft.screen import journal_of
from heft.streaming.follow import Outcome, Window, follow
from heft.streaming.inbox import Inbox, MicroBatch
from heft.versions import versions
from pipeline.street import Street

__all__ = ["stream_logs"]

_STATE, _LOCK = "stream.json", "stream.lock"
_REASONS = {
    ExitCode.BAD_INPUT: "its input cannot be used",
    ExitCode.GATE: "a gate stopped it",
    ExitCode.LOCKED: "another command is at work in the run's folder",
    ExitCode.STORAGE: "a disk is full, or the folder cannot be written",
    ExitCode.INTERRUPTED: "it was interrupted",
    ExitCode.TERMINATED: "it was interrupted",
}


def stream_logs(street: Street, *, once: bool = False) -> None:
    """Watches the inbox of a config until it is interrupted.

    Raises:
        ConfigError: the config cannot be used for this.
        LockedError: another process streams into the run, or its training is not over yet.
    """
    run_dir = street.run_dir
    config = street.load(run_dir)
    if config.simulate is not None:
        raise ConfigError(
            "a stream takes the logs that land, and this config simulates its own: leave out "
            "`simulate`"
        )
    _with_warm_start(street)
    inbox, console = Inbox(config.logs, config.stream), street.console

    def taken(batch: MicroBatch, conversions: int) -> None:
        for name, why in batch.rejected.items():
            console.print(f"[red]rejected[/] {escape(name)}: {escape(why)}", soft_wrap=True)
        if batch.files:
            rows = ", ".join(f"{batch.rows.get(name, 0):,} {name}" for name in batch.files)
            console.print(
                f"span {batch.span}: {rows}; {conversions:,} conversions since the last training"
            )

    def trained(window: Window, outcome: Outcome) -> None:
        if outcome.version is not None:
            console.print(f"[green]pushed[/] version {outcome.version}")
        else:
            console.print(f"[yellow]no new version[/]: {escape(outcome.reason)}", soft_wrap=True)

    if journal := journal_of(console):
        journal.run = run_dir.name
    # Not the lock that a training takes: between two of them other commands may run.
    with alone(run_dir, "heft stream", _LOCK) as lock:
        console.print(f"watching {config.stream.inbox}", soft_wrap=True, markup=False)
        follow(
            inbox, config.stream, run_dir / _STATE, lambda window: _train(street, window, lock),
            taken=taken, trained=trained, once=once,
        )  # fmt: skip


def _with_warm_start(street: Street) -> None:
    """Found before a file is taken: settings that a warm start does not go with."""
    warm = Street(
        street.config_path, street.runs, street.data_dir, street.overlays,
        street.overrides | {"model.warm_start": True}, street.console,
    )  # fmt: skip
    warm.load()


def _train(street: Street, window: Window, lock: int) -> Outcome:
    """`heft run` on the spans of a window, beginning with the last blessed model's weights."""
    run_dir = street.run_dir
    before = {version.number for version in versions(run_dir / "serving" / "heft")}
    changes = street.overrides | {
        "logs.span": window.last, "logs.window": window.count, "model.warm_start": True,
    }  # fmt: skip
    command = [sys.executable, "-m", "heft.cli", "run", str(street.config_path)]
    command += ["--runs", str(street.runs), *(["-v"] if street.verbose else [])]
    for overlay in street.overlays:
        command += ["--with", str(overlay)]
    for key, value in changes.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    environment = os.environ | {"HEFT_DATA": str(street.data_dir)}
    journal = journal_of(street.console)
    if journal:
        command += ["--log-format", "json"]
    # The training holds the lock too, so that a stream that is killed leaves it locked.
    child = subprocess.Popen(
        command, pass_fds=(lock,), env=environment, stderr=journal or sys.stderr
    )
    try:
        code = child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    if code != 0:
        why = _REASONS.get(code, f"it ended with code {code}")
        return Outcome(None, f"{why}; the spans stay, and count in the next training")
    new = [v.number for v in versions(run_dir / "serving" / "heft") if v.number not in before]
    if new:
        return Outcome(max(new))
    return Outcome(None, f"not every gate let it through; {run_dir}/report says why")
