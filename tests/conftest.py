"""What every test has: an environment, the real data of the shops, and a browser."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.browser.chromium import Chromium, find_chromium

# Logs with users are read under a key, as they are anywhere; tests of its absence take it away.
os.environ.setdefault("HEFT_PII_KEY", "a key of tests and of nobody else")

_BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


_OF_THE_STREET = {f"tests/e2e/test_{name}.py" for name in ("street", "gate", "engines")}


class _ByFile(LoadFileScheduling):
    """Workers take a file at a time, but all that share the one run of the street together."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "the street" if file in _OF_THE_STREET else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def shop_data() -> Path:
    """The folder of real judgements; continuous integration has it, another machine may not."""
    folder = Path(os.environ.get("HEFT_DATA", _BESIDE_THE_PROJECT))
    if not folder.is_dir():
        _missing(f"no data at {folder}; set HEFT_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """A browser; continuous integration installs one, another machine may not have it."""
    program = find_chromium()
    if program is None:
        _missing("no Chromium on the PATH; Debian: apt-get install chromium")
    assert program is not None
    browser = Chromium(program)
    yield browser
    browser.close()


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"NOT TESTED: {what}")
    pytest.skip(f"NOT TESTED: {what}")
