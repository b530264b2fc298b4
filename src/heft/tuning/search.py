"""The search: an oracle asks, a trial answers, and what was answered is kept.

What the oracle asks next follows from the seed and the answers so far alone. So a
search that was killed begins its oracle again and tells it what is in the journal.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as kt_trial
from pydantic import ValidationError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from heft.errors import TrainingError
from heft.model.settings import ModelSettings
from heft.tuning.settings import TuneSettings
from heft.tuning.space import Space

__all__ = ["Journal", "Trial", "best", "search"]

_LEAST_RANDOM = 5
# How many standard deviations below the mean to hope for.
_CURIOSITY = 1.0
_DRAWS, _NEAR = 1000, 0.2
_LOSS = "tune_loss"

Train = Callable[[int, ModelSettings], float]


@dataclass(frozen=True)
class Trial:
    """One model that was trained.

    Attributes:
        number: from 0, the config's own settings.
        values: as the oracle drew them.
        changes: the searched settings by name.
        loss: on `tune`; None if the trial failed.
        seconds: of training.
        trouble: why it failed.
    """

    number: int
    values: dict[str, Any]
    changes: dict[str, Any]
    loss: float | None
    seconds: float
    trouble: str = ""


class Journal:
    """Finished trials in a file, a line each; those of another search are forgotten.

    Args:
        path: JSON Lines; made if need be.
        facts: all that the trials depend on, as JSON has it.
    """

    def __init__(self, path: str | Path, facts: Mapping[str, Any]) -> None:
        self.path = Path(path)
        written = json.dumps(facts, sort_keys=True)
        self.digest = hashlib.sha256(written.encode()).hexdigest()[:16]
        self.trials = self._read()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()

    def add(self, trial: Trial) -> None:
        """Keeps the next trial; it is on disk when this returns."""
        self.trials.append(trial)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def find(self, number: int) -> Trial | None:
        """The trial of this number."""
        return self.trials[number] if number < len(self.trials) else None

    def _read(self) -> list[Trial]:
        if not self.path.is_file():
            return []
        found = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines()):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break  # the process was killed while it wrote
            if number:
                found.append(Trial(**record))
            elif record != {"search": self.digest}:
                return []
        return found

    def _rewrite(self) -> None:
        lines = [{"search": self.digest}, *map(asdict, self.trials)]
        draft = self.path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        draft.replace(self.path)


def search(
    space: Space,
    settings: TuneSettings,
    train: Train,
    journal: Journal,
    on_done: Callable[[Trial, bool], None] = lambda trial, known: None,
) -> list[Trial]:
    """Trains up to `settings.trials` models; the first has the config's own settings.

    Args:
        space: what is searched.
        settings: how.
        train: trial number and settings to the loss on `tune`; it may raise TrainingError,
            which is the end of that trial alone.
        journal: of this search; what it holds is not trained again.
        on_done: called with each trial, and whether the journal had it.

    Returns:
        The trials in order; fewer than asked for if the space has no more.

    Raises:
        TrainingError: no trial had a loss.
    """
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="heft-tune-") as folder:
        oracle = _oracle(space, settings, journal, folder)
        for number in range(settings.trials):
            asked = oracle.create_trial("heft")
            if asked.status == kt_trial.TrialStatus.STOPPED:
                break
            known = journal.find(number)
            trial = known or _run(number, dict(asked.hyperparameters.values), space, train)
            if known is None:
                journal.add(trial)
            trials.append(trial)
            _tell(oracle, asked, trial)
            on_done(trial, known is not None)
    if all(trial.loss is None for trial in trials):
        raise TrainingError(f"none of {len(trials)} trials had a loss: {trials[0].trouble}")
    return trials


def best(trials: list[Trial]) -> Trial:
    """The trial with the least loss; the earliest of several."""
    return min(trials, key=lambda trial: np.inf if trial.loss is None else trial.loss)


def _run(number: int, values: dict[str, Any], space: Space, train: Train) -> Trial:
    changes, began = space.changes(values), time.monotonic()
    loss, trouble = None, ""
    try:
        loss = train(number, space.settings(changes))
    except ValidationError as error:
        trouble = error.errors()[0]["msg"].removeprefix("Value error, ")
    except TrainingError as error:
        trouble = str(error)
    return Trial(number, values, changes, loss, round(time.monotonic() - began, 1), trouble)


def _tell(oracle: keras_tuner.Oracle, asked: Any, trial: Trial) -> None:
    asked.status = kt_trial.TrialStatus.FAILED
    if trial.loss is not None:
        oracle.update_trial(asked.trial_id, {_LOSS: trial.loss})
        asked.status = kt_trial.TrialStatus.COMPLETED
    oracle.end_trial(asked)


def _oracle(
    space: Space, settings: TuneSettings, journal: Journal, folder: str
) -> keras_tuner.Oracle:
    hyperparameters = space.hyperparameters()
    dimensions = len(hyperparameters.space)
    many = settings.trials if settings.oracle == "random" else max(_LEAST_RANDOM, dimensions)
    oracle = _Oracle(
        journal,
        objective=keras_tuner.Objective(_LOSS, "min"),
        max_trials=settings.trials,
        # Not a share of the trials: a search that goes on with more asks the same first.
        num_initial_points=many,
        beta=_CURIOSITY,
        hyperparameters=hyperparameters,
        allow_new_entries=False,
        tune_new_entries=False,
        # KerasTuner takes 0 for no seed.
        seed=settings.seed + 1,
        max_consecutive_failed_trials=settings.trials + 1,
    )
    oracle.verbose = 0
    oracle._set_project_dir(folder, "oracle")
    return oracle


class _Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's, that begins with the config's own values and asks nothing twice.

    Where KerasTuner looks for the least confidence bound by fifty descents, seconds each, this
    takes the best of many draws, half of them near the best trial: a descent ends in the
    corners of a space, and choices have no slope. The process has a length for each setting,
    as few of them matter, and knows that losses have noise.

    What is asked follows from the seed and the trials before alone, so that what is in the
    journal need not be worked out again.
    """

    def __init__(self, journal: Journal, **settings: Any) -> None:
        super().__init__(**settings)
        self._journal = journal
        # Tries before a space counts as exhausted.
        self._max_collisions = 200

    def _make_gpr(self) -> GaussianProcessRegressor:
        lengths = np.ones(max(len(self._nonfixed_space()), 1))
        kernel = Matern(lengths, (0.3, 20.0), nu=2.5) + WhiteKernel(1e-2, (1e-3, 0.5))
        return GaussianProcessRegressor(
            kernel, alpha=1e-6, n_restarts_optimizer=2, normalize_y=True, random_state=self.seed
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See `keras_tuner.Oracle`."""
        number = len(self.trials)
        known = self._journal.find(number)
        if known is not None or not number:
            values = known.values if known else self.hyperparameters.values
            return {"status": kt_trial.TrialStatus.RUNNING, "values": dict(values)}
        rng = np.random.default_rng([self.seed, number])
        self._seed_state = int(rng.integers(2**31))
        ended = sum(
            trial.status == kt_trial.TrialStatus.COMPLETED for trial in self.trials.values()
        )
        if ended >= self.num_initial_points:
            for values in self._promising(rng):
                if not self._duplicate(values):
                    return {"status": kt_trial.TrialStatus.RUNNING, "values": values}
        return self._random_populate_space()

    def _promising(self, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        """Values by the lower confidence bound of their loss, the least first."""
        seen, losses = self._vectorize_trials()
        dimensions = seen.shape[1]
        drawn = rng.random((_DRAWS, dimensions))
        near = seen[np.argmin(losses)] + rng.normal(0, _NEAR, (_DRAWS // 2, dimensions))
        moved = rng.random(near.shape) < 0.5
        drawn[: _DRAWS // 2] = np.where(moved, np.clip(near, 0, 1 - 1e-9), seen[np.argmin(losses)])
        values = [self._vector_to_values(vector) for vector in drawn]
        # As the trials are seen: a choice at its centre, what has no effect at its default.
        points = np.array([self._vector(one) for one in values])
        # It fits tiny matrices: threads would only wait for each other.
        with threadpool_limits(1):
            self.gpr.fit(seen, losses)
            mean, deviation = self.gpr.predict(points, return_std=True)
        for k in np.argsort(mean - self.beta * deviation, kind="stable"):
            yield values[k]

    def _vector(self, values: dict[str, Any]) -> list[float]:
        return [hp.value_to_prob(values.get(hp.name, hp.default)) for hp in self._nonfixed_space()]
