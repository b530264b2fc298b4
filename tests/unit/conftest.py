"""The command, run in this process, which has the engines loaded."""

import logging
import os
import sys
import warnings
from pathlib import Path

import pytest

from heft import cli
from tests.unit.commands import Ended, Heft, config_in
from tests.unit.logs.logbook import put_shop, shop


@pytest.fixture
def heft(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Heft:
    """Runs the command in this process, which has the engines loaded, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEFT_DATA", raising=False)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["heft", *map(str, arguments)])
        terminal, stream, code = os.dup(2), sys.stderr, 0
        root = logging.getLogger()
        handlers, level = root.handlers, root.level
        with warnings.catch_warnings():
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                # `quiet` has sent descriptor 2 nowhere, for good: a process ends with it.
                sys.stderr.flush()
                sys.stderr = stream
                os.dup2(terminal, 2)
                os.close(terminal)
                root.handlers, root.level = handlers, level
        out, error = capfd.readouterr()
        return Ended(code, out, error)

    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A good log, and a config that reads it."""
    put_shop(tmp_path / "logs", shop())
    return config_in(tmp_path)
