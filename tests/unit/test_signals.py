"""Ctrl-C and SIGTERM end a command soon, with one message, whatever an engine makes of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heft.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]
COMMAND = """
import sys, time
from heft import cli, signals
from heft.cli_options import LogFormat
signals._PATIENCE = 0.5

@cli.app.command()
def wait(log_format: LogFormat = "text") -> None:
    print("at work", flush=True)
    WORK

cli.main()
"""
LISTENS = "time.sleep(60)"
SWALLOWS = """
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""
WRAPS = """
    try:
        time.sleep(60)
    except KeyboardInterrupt as error:
        raise RuntimeError("the engine failed") from error
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED, "interrupted; the finished nodes are kept"),
        (signal.SIGTERM, ExitCode.TERMINATED, "ended by SIGTERM; the finished nodes are kept"),
    ],
)
@pytest.mark.parametrize("work", [LISTENS, SWALLOWS, WRAPS], ids=["listens", "swallows", "wraps"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_signal_ends_it(
    number: int, code: ExitCode, said: str, work: str, log_format: str
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.replace("    WORK", work if "\n" in work else f"    {work}"),
         "wait", "--log-format", log_format],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    began = time.monotonic()
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # whoever asks twice does not cut the tidying up short
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == code
    if log_format == "text":
        assert error.startswith(said) and error.count("\n") == 1, error
        return
    interrupted, ended = [json.loads(line) for line in error.splitlines()]
    assert interrupted["event"] == "interrupted" and interrupted["message"].startswith(said)
    assert (ended["event"], ended["exit_code"]) == ("ended", code)
