"""A page that has everything in it."""

from pathlib import Path
from typing import Any

import pytest

from heft.report import render
from tests.browser.chromium import Chromium
from tests.unit.report.conftest import full_facts


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    return full_facts()


@pytest.fixture(scope="session")
def page(facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(facts), encoding="utf-8")
    return path


@pytest.fixture
def opened(chromium: Chromium, page: Path) -> Chromium:
    """The page in a wide window in daylight, as it is when it was just loaded."""
    chromium.show(1200)
    chromium.open(page)
    return chromium
