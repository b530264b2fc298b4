"""Simulated logs shared by the tests of a session, and where real judgements are."""

import pytest

from tests.unit.simulate.readback import Log, run


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
