"""What every test has: an environment, and the real data of the shops."""

import os
from pathlib import Path

import pytest

# Logs with users are read under a key, as they are anywhere; tests of its absence take it away.
os.environ.setdefault("HEFT_PII_KEY", "a key of tests and of nobody else")

_BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shop_data() -> Path:
    """The folder of real judgements; continuous integration has it, another machine may not."""
    folder = Path(os.environ.get("HEFT_DATA", _BESIDE_THE_PROJECT))
    if not folder.is_dir():
        missing = f"NOT TESTED: no data at {folder}; set HEFT_DATA to the folder that holds it"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return folder
