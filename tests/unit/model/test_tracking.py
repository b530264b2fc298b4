"""What Weights & Biases is told: a stand-in on sys.path writes down every call."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heft.errors import ConfigError
from heft.model.settings import ModelSettings
from heft.model.tracking import tracked
from heft.text.table import TextTable
from tests.unit.model.conftest import fit

STAND_IN = """
calls = []

class Error(Exception):
    pass

class Settings:
    def __init__(self, silent):
        self.silent = silent

class _Summary(dict):
    pass

class _Run:
    def __init__(self):
        self.summary = _Summary()
    def log(self, data, step):
        calls.append(("log", step, data))
    def finish(self, exit_code=0):
        calls.append(("finish", exit_code, dict(self.summary)))

def init(*, project, mode, name, dir, config, settings):
    if project == "refused":
        raise Error("no key")
    calls.append(("init", project, mode, name, dir, config, settings.silent))
    return _Run()
"""
TRACKED = ModelSettings(
    hidden=(4,), epochs=3, patience=3, batch_size=64, learning_rate=1e-2,
    tracking={"wandb": {"project": "shop"}},
)  # fmt: skip


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    import wandb  # type: ignore[import-not-found]

    yield wandb.calls
    sys.modules.pop("wandb", None)


def test_every_epoch_the_settings_and_the_outcome_are_handed_on(
    write_log: Any, table: TextTable, tmp_path: Path, calls: list[tuple]
) -> None:
    log = write_log(600, seed=1)
    with tracked(TRACKED, "weighted", tmp_path) as tracker:
        trained = fit(log.shards, log.shards, table, tmp_path, TRACKED, callbacks=tracker.callbacks)
        tracker.summarise(trained.history)
    begun, *epochs, ended = calls
    assert begun[:5] == ("init", "shop", "offline", "weighted", str(tmp_path))
    assert begun[5]["hidden"] == [4]
    assert "tracking" not in begun[5]
    json.dumps(begun[5])  # nothing in it that a tracker could not show
    assert [(kind, step) for kind, step, _ in epochs] == [("log", 1), ("log", 2), ("log", 3)]
    for name in ("loss", "val_loss"):
        assert [data[name] for *_, data in epochs] == trained.history[name]
    best = min(trained.history["val_loss"])
    assert ended[:2] == ("finish", 0)
    assert ended[2]["best_val_loss"] == best
    assert trained.history["val_loss"][ended[2]["best_epoch"] - 1] == best


def test_a_training_that_fails_is_told_as_failed(tmp_path: Path, calls: list[tuple]) -> None:
    with pytest.raises(ZeroDivisionError), tracked(TRACKED, "weighted", tmp_path):
        raise ZeroDivisionError
    assert calls[-1][:2] == ("finish", 1)


def test_what_it_does_not_want_is_one_message(tmp_path: Path, calls: list[tuple]) -> None:
    refused = ModelSettings(tracking={"wandb": {"project": "refused", "mode": "online"}})
    with (
        pytest.raises(ConfigError, match="mode=online: no key; expected its key .*WANDB_API_KEY"),
        tracked(refused, "weighted", tmp_path),
    ):
        pass
    assert calls == []


def test_a_missing_package_is_one_message_and_none_is_asked_for_without_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(ConfigError, match=r"wandb is not installed: .*pip install wandb"),
        tracked(TRACKED, "weighted", tmp_path),
    ):
        pass
    with tracked(ModelSettings(), "weighted", tmp_path) as tracker:
        assert tracker.callbacks == ()
        tracker.summarise({})


def test_a_project_has_a_name() -> None:
    with pytest.raises(ValidationError, match="project"):
        ModelSettings(tracking={"wandb": {"project": ""}})


def test_the_real_package_writes_an_offline_run(tmp_path: Path) -> None:
    code = (
        "from heft.model.settings import ModelSettings; from heft.model.tracking import tracked\n"
        "settings = ModelSettings(tracking={'wandb': {'project': 'shop'}})\n"
        f"with tracked(settings, 'weighted', {str(tmp_path)!r}) as tracker:\n"
        "    [callback] = tracker.callbacks\n"
        "    callback.on_epoch_end(0, {'loss': 1.0, 'val_loss': 2.0})\n"
        "    tracker.summarise({'loss': [1.0], 'val_loss': [2.0]})\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)
    [run] = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"best_val_loss" in run.read_bytes()
