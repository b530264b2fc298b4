"""Simulated logs shared by the tests of a session, and where real judgements are."""

import os
from pathlib import Path

import pytest

from tests.unit.simulate.readback import Log, run

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """No bots, no trust bias, every page shuffled: examination and relevance alone."""
    return run(
        tmp_path_factory.mktemp("plain") / "log",
        sessions=20_000, seed=1, bots=0.0, trust_bias="none", shuffled=1.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """The defaults, with more bots and more shuffled pages, in three spans."""
    return run(
        tmp_path_factory.mktemp("usual") / "log",
        sessions=20_000, seed=2, bots=0.1, shuffled=0.1, spans=3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real judgements; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("HEFT_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"NOT TESTED: no data at {folder}; set HEFT_DATA to the folder that holds it")
    return folder
