"""Settings laid over a config: what wins, and how a bad overlay is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from heft.errors import ConfigError
from pipeline.config import load


def _write(path: Path, values: Any) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return _write(
        tmp_path / "shop.yaml",
        {
            "logs": {"root": "/logs", "categorical": ["device"]},
            "model": {"epochs": 3, "hidden": [64, 32], "dropout": 0.2},
        },
    )


def test_the_later_overlay_wins_and_a_setting_of_the_command_wins_over_both(
    config: Path, tmp_path: Path
) -> None:
    first = _write(tmp_path / "a.yaml", {"model": {"hidden": [8], "l2": 0.5, "epochs": 4}})
    second = _write(tmp_path / "b.yaml", {"model": {"l2": 0.25, "epochs": 5}})
    found = load(config, overlays=[first, second], overrides={"model.epochs": 6})
    assert found.model.hidden == (8,)  # a list is replaced, not joined
    assert found.model.l2 == 0.25
    assert found.model.epochs == 6
    assert found.model.dropout == 0.2 and found.logs.categorical == ("device",)
    assert load(config).model.hidden == (64, 32)


def test_a_bad_overlay_is_named(config: Path, tmp_path: Path) -> None:
    good = _write(tmp_path / "good.yaml", {"model": {"epochs": 4}})
    for values, said in (
        ({"model": {"epoch": 4}}, "unknown key 'model.epoch': expected one of"),
        ({"model": {"epochs": 0}}, "model.epochs=0"),
        ({"tune": {"space": {"dropout": {"lo": 0}}}}, "unknown key 'tune.space.dropout.lo'"),
    ):
        bad = _write(tmp_path / "bad.yaml", values)
        with pytest.raises(ConfigError) as caught:
            load(config, overlays=[good, bad])
        assert said in str(caught.value) and f"(in {bad})" in str(caught.value)
        assert "good.yaml" not in str(caught.value)
    with pytest.raises(ConfigError, match="no config file at .*gone.yaml"):
        load(config, overlays=[tmp_path / "gone.yaml"])
    with pytest.raises(ConfigError, match="holds list: expected a mapping"):
        load(config, overlays=[_write(tmp_path / "list.yaml", [1])])


def test_a_fault_of_the_config_is_not_blamed_on_an_overlay(config: Path, tmp_path: Path) -> None:
    _write(config, {"logs": {"root": "/logs"}, "model": {"epochs": 0, "l2": 0.1}})
    overlay = _write(tmp_path / "a.yaml", {"model": {"l2": 0.2}})
    with pytest.raises(ConfigError) as caught:
        load(config, overlays=[overlay])
    assert "(in " not in str(caught.value)


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ({"trials": 1}, "tune.trials=1: .*greater than or equal to 2"),
        ({"space": {}}, "nothing to search"),
        ({"space": {"sped": {"values": [1]}}}, "'sped' cannot be searched: expected some of"),
        ({"space": {"seed": {"values": [1, 2]}}}, "'seed' cannot be searched"),
        ({"space": {"dropout": {"low": 0, "high": 1.5}}}, r"dropout cannot be 1.5: .*less than 1"),
        ({"space": {"experts": {"low": 1, "high": 2.5}}}, r"experts cannot be 2.5: .*integer"),
        ({"space": {"hidden": {"values": [[64], "wide"]}}}, "hidden cannot be 'wide'"),
        ({"space": {"body": {"values": ["cnn"]}}}, "body cannot be 'cnn'"),
        ({"space": {"dropout": {"low": 0.5, "high": 0.1}}}, "low=0.5 must be below high=0.1"),
        ({"space": {"dropout": {"low": 0.1}}}, "expected both, or `values`"),
        ({"space": {"l2": {"low": 0, "high": 1, "log": True}}}, "low=0.0 has no logarithm"),
        ({"space": {"l2": {"values": []}}}, "leaves nothing to choose from"),
        ({"space": {"l2": {"values": [1], "log": True}}}, "values and a range"),
        ({"oracle": "magic"}, "tune.oracle='magic'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    config: Path, tmp_path: Path, tune: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(config, overlays=[_write(tmp_path / "tune.yaml", {"tune": tune})])
    assert "\n" not in str(caught.value)


def test_the_search_has_the_seed_of_the_config(config: Path) -> None:
    assert load(config, overrides={"seed": 9}).tune.seed == 9
    assert load(config, overrides={"seed": 9, "tune.seed": 4}).tune.seed == 4
