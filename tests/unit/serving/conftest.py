"""Models that several files serve, exported once."""

from pathlib import Path

import pytest

from tests.unit.serving.contract import write_models


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that nobody writes to; copy it to serve from."""
    return write_models(tmp_path_factory.mktemp("exported"))
