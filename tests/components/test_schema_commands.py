"""`heft schema` on a log, through the nodes that a run shares with it."""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from heft.errors import ConfigError, GateError, InputError
from heft.gate.schema_text import parsed
from pipeline.schemas import accept_schema, diff_schema, infer_schema
from pipeline.street import Street
from tests.unit.logs.logbook import put_shop, shop

# TFX asks protobuf in a way that protobuf has given up.
pytestmark = pytest.mark.filterwarnings("ignore:label")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command sends logs to its run's folder, and its process ends."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


@dataclass
class Shop:
    """A log of two spans, and what commands over it printed."""

    folder: Path

    def street(self, **overrides: Any) -> Street:
        self.printed = io.StringIO()
        console = Console(file=self.printed, width=200)
        return Street(
            self.folder / "shop.yaml", self.folder / "runs", self.folder, (), overrides, console,
            verbose=True,
        )  # fmt: skip

    @property
    def said(self) -> str:
        return self.printed.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    log = shop()
    put_shop(folder / "logs", log, span=1)
    for row in log["impressions"]:
        row["device"] = "tv" if row["device"] == "desk" else row["device"]
    put_shop(folder / "logs", log, span=2)
    config = {
        "logs": {"root": str(folder / "logs"), "categorical": ["device"]},
        "transform": {"categorical": ["category", "device"]},
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(config))
    return Shop(folder)


def test_a_schema_is_written_held_against_the_next_span_and_widened(made: Shop) -> None:
    schemas = made.folder / "schema"
    with pytest.raises(ConfigError, match="say --out FOLDER"):
        infer_schema(made.street(), None, force=False, values=20)
    path = infer_schema(made.street(**{"logs.span": 1}), schemas, force=False, values=20)
    assert f"schema_dir: {schemas}" in made.said and "span 1" in made.said
    here = {"schema_dir": str(schemas)}
    with pytest.raises(InputError, match="is there already"):
        infer_schema(made.street(**here), None, force=False, values=20)
    # What it was made from is as it says.
    assert diff_schema(made.street(**here, **{"logs.span": 1}), strict=True) == 0
    assert "StatisticsGen         cached" in made.said
    # The next span has televisions.
    assert diff_schema(made.street(**here), strict=False) == 1
    assert "~ device: unexpected values: expected one of desk, phone" in made.said
    assert "heft schema accept" in made.said and "shop.yaml device" in made.said
    with pytest.raises(GateError, match="device"):
        diff_schema(made.street(**here), strict=True)
    for names, everything in (([], False), (["device"], True)):
        with pytest.raises(InputError, match="not both"):
            accept_schema(made.street(**here), names, everything)
    before = path.read_text()
    with pytest.raises(InputError, match="brand: nothing to accept"):
        accept_schema(made.street(**here), ["brand"], False)
    assert path.read_text() == before
    accept_schema(made.street(**here), [], True)
    new = path.read_text()
    assert new.splitlines() == [
        line
        for old in before.splitlines()
        for line in ([old, '    value: "tv"'] if old == '    value: "phone"' else [old])
    ]
    assert diff_schema(made.street(**here), strict=True) == 0
    assert parsed(new).feature[0].name == "impression_id"


def test_without_a_schema_there_is_nothing_to_hold_data_against(made: Shop) -> None:
    with pytest.raises(ConfigError, match="the config names no schema_dir"):
        diff_schema(made.street(), False)
    with pytest.raises(ConfigError, match="no schema.pbtxt there"):
        diff_schema(made.street(schema_dir=str(made.folder / "gone")), False)
