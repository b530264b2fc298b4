"""A search finds what was planted, goes on after a kill, and says what it cannot do."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heft.errors import ConfigError, TrainingError
from heft.model.settings import ModelSettings
from heft.model.training import TrainingRows
from heft.tuning.outcome import differing, write_overlay
from heft.tuning.search import Journal, Trial, best, search
from heft.tuning.settings import SpaceEntry, TuneSettings
from heft.tuning.space import Space
from heft.tuning.trials import Beat, TrialTrainer
from pipeline.config import load
from tests.unit.model.conftest import EXAMINATION, SIZES, packed, random_table

# One that barely learns: what is planted is that others learn.
OWN = ModelSettings(hidden=(8,), epochs=2, batch_size=64, learning_rate=1e-5, dropout=0.0)
ENTRIES = {
    "learning_rate": SpaceEntry(low=1e-5, high=3e-2, log=True),
    "hidden": SpaceEntry(values=((8,), (16,))),
}


def _plain(number: int, settings: ModelSettings) -> float:
    """A loss without noise: a bowl in the rate, a step in the body."""
    return abs(np.log(settings.learning_rate / 3e-3)) + 2.0 * (settings.body == "mlp")


def _search(
    folder: Path, trials: int, train: Any = _plain, own: ModelSettings = OWN, **settings: Any
) -> list[Trial]:
    entries = settings.pop("entries", None) or {
        **ENTRIES, "body": SpaceEntry(values=("mlp", "dcn_v2")),
        "cross_layers": SpaceEntry(low=1, high=3),
    }  # fmt: skip
    space = Space.of(own, entries, 2_000)
    tune = TuneSettings(trials=trials, **{"oracle": "random", **settings})
    return search(space, tune, train, Journal(folder / "trials.jsonl", space.facts()))


def train_log(shards: list[str], folder: Path, trials: int, done: int | None = None) -> list[Trial]:
    """Real trainings on a small log; the process kills itself in the trial after `done`."""
    rows = TrainingRows(
        packed(shards[:1], folder / "rows"), packed(shards[1:], folder / "rows", "tune")
    )

    def beat(seen: Beat) -> None:
        if seen.number == done and seen.epochs == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    clicks = [(theta, 0.0) for theta in EXAMINATION]
    trainer = TrialTrainer(
        rows, random_table(20, 50), SIZES.with_rates(rows.train), clicks, folder / "state",
        on_beat=beat,
    )  # fmt: skip
    # Three of these four trials have a rate that learns among them, whatever is drawn.
    few = ENTRIES | {"learning_rate": SpaceEntry(values=(1e-5, 1e-2))}
    return _search(folder, trials, trainer, entries=few)


def _same(some: list[Trial], others: list[Trial]) -> None:
    assert [(t.number, t.values, t.changes) for t in some] == [
        (t.number, t.values, t.changes) for t in others
    ]
    assert [t.loss for t in some] == pytest.approx([t.loss for t in others], rel=1e-5)


@pytest.mark.slow
def test_training_finds_the_setting_that_learns_and_goes_on_after_a_kill(
    write_log, tmp_path: Path
) -> None:
    log = write_log(2_000, seed=7)
    whole = train_log(log.shards, tmp_path / "whole", 3)
    assert whole[0].changes == {"learning_rate": 1e-5, "hidden": [8]}
    found = best(whole)
    assert found.changes["learning_rate"] == 1e-2
    assert found.loss is not None and whole[0].loss is not None
    assert found.loss < whole[0].loss - 0.01
    assert not list((tmp_path / "whole/state").glob("trial-*"))

    code = (
        "from pathlib import Path; from tests.unit.model.test_tuning import *; "
        f"train_log({log.shards!r}, Path({str(tmp_path / 'killed')!r}), 3, done=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    lines = (tmp_path / "killed/trials.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines[1:]]
    assert [record["number"] for record in kept] == [0]
    again = train_log(log.shards, tmp_path / "killed", 3)
    _same(again, whole)
    # The trials of before were not trained again: their seconds are those of before.
    assert [t.seconds for t in again[:1]] == [record["seconds"] for record in kept]


def test_the_oracle_closes_in_on_a_planted_optimum(tmp_path: Path) -> None:
    drawn = _search(tmp_path / "random", 16)
    found = _search(tmp_path / "bayesian", 16, oracle="bayesian")
    least = best(found)
    assert least.changes["body"] == "dcn_v2"
    assert least.loss is not None and least.loss < 0.5
    # Its last guesses are better than chance, the median of random ones.
    late = [trial.loss for trial in found[8:]]
    assert np.median(late) < np.median([trial.loss for trial in drawn])


def test_the_same_seed_asks_the_same_and_more_trials_go_on(tmp_path: Path) -> None:
    first = _search(tmp_path / "a", 8, oracle="bayesian")
    _same(_search(tmp_path / "b", 8, oracle="bayesian"), first)
    calls: list[int] = []

    def counting(number: int, settings: ModelSettings) -> float:
        calls.append(number)
        return _plain(number, settings)

    more = _search(tmp_path / "a", 10, counting, oracle="bayesian")
    assert calls == [8, 9]
    _same(more[:8], first)
    other = _search(tmp_path / "c", 8, seed=1)
    assert [t.values for t in other][1:] != [t.values for t in first][1:]


def test_a_search_of_something_else_begins_anew(tmp_path: Path) -> None:
    _search(tmp_path, 4)
    calls: list[int] = []

    def counting(number: int, settings: ModelSettings) -> float:
        calls.append(number)
        return 1.0

    _search(tmp_path, 4, counting, own=OWN.model_copy(update={"l2": 0.5}))
    assert calls == [0, 1, 2, 3]


def test_a_line_that_a_kill_cut_short_is_done_again(tmp_path: Path) -> None:
    whole = _search(tmp_path, 5)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text()[:-20])
    _same(_search(tmp_path, 5), whole)


def test_nothing_is_tried_twice_and_a_small_space_ends_the_search(tmp_path: Path) -> None:
    entries = {"hidden": SpaceEntry(values=([8], [16], [32]))}
    trials = _search(tmp_path, 20, entries=entries)
    assert sorted(trial.changes["hidden"] for trial in trials) == [[8], [16], [32]]
    # What has no effect with the body of a trial is not drawn for it.
    mixed = _search(tmp_path / "mixed", 12)
    for trial in mixed:
        assert ("cross_layers" in trial.changes) == (trial.changes["body"] == "dcn_v2")


def test_a_trial_that_fails_is_the_end_of_that_trial_alone(tmp_path: Path) -> None:
    def broken(number: int, settings: ModelSettings) -> float:
        if settings.body == "mlp":
            raise TrainingError("the loss is not a finite number")
        return _plain(number, settings)

    trials = _search(tmp_path, 12, broken)
    failed = [trial for trial in trials if trial.loss is None]
    assert trials[0] in failed and 0 < len(failed) < 12
    assert best(trials).changes["body"] == "dcn_v2"
    assert all(trial.trouble == "the loss is not a finite number" for trial in failed)

    def never(number: int, settings: ModelSettings) -> float:
        raise TrainingError("no clicks")

    with pytest.raises(TrainingError, match="none of 3 trials had a loss: no clicks"):
        _search(tmp_path / "never", 3, never)


def test_values_that_do_not_go_together_fail_with_their_reason(tmp_path: Path) -> None:
    entries = {
        "architecture": SpaceEntry(values=("esmm", "mmoe")),
        "hidden": SpaceEntry(values=([], [8])),
    }
    trials = _search(tmp_path, 8, entries=entries)
    [odd] = [trial for trial in trials if trial.loss is None]
    assert odd.changes == {"architecture": "mmoe", "hidden": []}
    assert "shares nothing" in odd.trouble


@pytest.mark.parametrize(
    ("entries", "own", "said"),
    [
        ({"experts": SpaceEntry(low=2, high=4)}, {}, "no effect: it is for architecture: mmoe or"),
        ({"cross_layers": SpaceEntry(low=1, high=2)}, {}, "no effect: it is for body: dcn_v2"),
        ({"dropout": SpaceEntry(values=(0.0,))}, {}, "no value beside the config's own"),
        ({"body": SpaceEntry(low=0, high=1)}, {}, "tune.space.body: expected `values`"),
        ({"l2": SpaceEntry(low=0.1, high=1, log=True)}, {"l2": 0.0}, "l2=0.0 has no logarithm"),
        ({"hidden": SpaceEntry(values=((4,),))}, {"base_model": "x"}, "fixes the network"),
    ],
)
def test_a_space_without_sense_is_refused(
    entries: dict[str, SpaceEntry], own: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Space.of(OWN.model_copy(update=own), entries, 2_000)


def test_the_default_space_leaves_out_what_cannot_matter() -> None:
    small = Space.of(ModelSettings(), None, 2_000).entries
    assert small["batch_size"].values == (1024,)  # all of them come to 64 rows
    large = Space.of(ModelSettings(), None, 300_000).entries
    assert large["batch_size"].values == (128, 256, 512, 1024, 2048, 4096)
    fixed = Space.of(ModelSettings(base_model="runs/other"), None, 300_000).entries
    assert {"learning_rate", "dropout", "weights"} <= set(fixed)
    assert not {"architecture", "body", "hidden", "experts", "cross_layers"} & set(fixed)
    assert Space.of(ModelSettings(dropout=0.9), None, 2_000).entries["dropout"].high == 0.9


def test_the_overlay_is_what_the_best_trial_was_trained_with(tmp_path: Path) -> None:
    trials = _search(tmp_path, 10)
    found = write_overlay(trials, tmp_path / "tuned.yaml")
    assert found == best(trials)
    config = tmp_path / "shop.yaml"
    config.write_text(yaml.safe_dump({"logs": {"root": "/logs"}, "model": OWN.model_dump()}))
    laid = load(config, overlays=[tmp_path / "tuned.yaml"]).model
    space = Space.of(OWN, {**ENTRIES, "body": SpaceEntry(values=("mlp", "dcn_v2"))}, 2_000)
    assert laid == space.settings(found.changes)
    assert laid != OWN
    assert set(differing(found, trials[0])) <= set(found.changes)
    assert differing(trials[0], trials[0]) == {}
