"""The guide's configs are configs."""

import re
from pathlib import Path

import pytest
import yaml

from heft.logs import LogsSettings, preflight
from tests.unit.logs.logbook import put, shop

_GUIDE = Path(__file__).parents[3] / "docs/logs.md"
_CONFIGS = re.findall(r"```yaml\n(.*?)```", _GUIDE.read_text(), re.S)


@pytest.mark.parametrize("text", _CONFIGS)
def test_configs_of_the_guide_load(text: str) -> None:
    LogsSettings.model_validate(yaml.safe_load(text)["logs"])


def test_an_advertising_log_needs_a_mapping_only(tmp_path: Path) -> None:
    (text,) = [text for text in _CONFIGS if "auction_id" in text]
    names = yaml.safe_load(text)["logs"]["impressions"]["columns"]
    log = shop()
    titles = {item["item_id"]: item for item in log["catalogue"]}
    rows = [
        {names.get(k, k): v for k, v in (titles[row["item_id"]] | row).items()}
        for row in log["impressions"]
    ]
    put(tmp_path, "served/span-1/a.csv", rows)
    put(tmp_path, "clicks/span-1/a.csv", log["clicks"])
    settings = LogsSettings.model_validate(yaml.safe_load(text)["logs"] | {"root": str(tmp_path)})
    assert preflight(settings).files == {"impressions": 1, "clicks": 1}
