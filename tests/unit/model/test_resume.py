"""A training that is killed goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from heft.model.settings import ModelSettings
from heft.model.training import Trained
from heft.text.table import TextTable
from tests.unit.model.conftest import ClickLog, fit, random_table

# A learned weighting compiles its steps three times over.
MODES = ("loss", "sampling", "private", pytest.param("learned", marks=pytest.mark.slow))


def _settings(mode: str) -> ModelSettings:
    settings = ModelSettings(hidden=(8,), epochs=4, batch_size=64, dropout=0.3, learning_rate=1e-2)
    how = {"privacy": {"noise_multiplier": 0.5}} if mode == "private" else {"weights": mode}
    return ModelSettings.model_validate(settings.model_dump() | how)


class KilledAt(keras.callbacks.Callback):
    """The power fails at one step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.step -= 1
        if not self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until(mode: str, shards: list[str], folder: Path, callbacks: tuple = ()) -> Trained:
    return fit(
        shards[:1], shards[1:], random_table(20, 50), folder, _settings(mode),
        resume_dir=folder / "resume", callbacks=callbacks,
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_after_a_kill_the_same_metrics_and_weights_come_out(
    write_log, tmp_path: Path, mode: str, table: TextTable
) -> None:
    log: ClickLog = write_log(2_000, seed=7)
    whole = train_until(mode, log.shards, tmp_path / "whole")
    steps, epochs = 1_000 // 64 + 1, len(whole.history["loss"])
    step = int(np.random.default_rng(os.getpid()).integers(steps + 1, epochs * steps - 1))
    code = (
        "from pathlib import Path; from tests.unit.model.test_resume import *; "
        f"train_until({mode!r}, {json.dumps(log.shards)}, Path({str(tmp_path / 'killed')!r}), "
        f"(KilledAt({step}),))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert (tmp_path / "killed/resume/state.json").is_file()
    again = train_until(mode, log.shards, tmp_path / "killed")
    for name, values in whole.history.items():
        assert again.history[name] == pytest.approx(values, rel=1e-4), f"killed at step {step}"
    for one, other in zip(whole.core.get_weights(), again.core.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_training_that_was_done_is_not_done_again(write_log, tmp_path: Path) -> None:
    log: ClickLog = write_log(2_000, seed=7)
    first = train_until("loss", log.shards, tmp_path)
    again = train_until("loss", log.shards, tmp_path, (KilledAt(1),))
    assert again.history == first.history


def test_states_do_not_pile_up(write_log, tmp_path: Path) -> None:
    log: ClickLog = write_log(2_000, seed=7)
    train_until("loss", log.shards, tmp_path)
    assert len(list((tmp_path / "resume").glob("*.weights.h5"))) <= 2
