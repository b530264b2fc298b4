"""Weights that are learned: a small network, taught by a clean reference set."""

from typing import Any, Self

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.fold_trees import first_rows
from heft.importance.proxy import fold_of
from heft.importance.registry import register
from heft.importance.stacked import Scaling

__all__ = ["Learned"]

Array = np.ndarray

_BLOCK = 16_384


@register("learned")
class Learned:
    """V(loss, age, position, slice), in (0, max_weight); high where training on it helps.

    Meta-Weight-Net (Shu et al. 2019): V is a small network; it learns from what a
    step on the weighted batch does to the loss of a clean reference set. Training
    scales weights to mean 1 within each label of a batch; the score is V itself,
    whose mean is about 1.

    The model it weighs for is K networks of one hidden layer, each trained without
    one fold of groups; the loss that V sees of a row is that of the network that
    has not seen the row's group, in training as in `score`. With `observed` it is
    the loss of label ~ Bernoulli(observed · attractiveness). What the log does not
    have (timestamp, position, slice) V sees as 0.

    Args:
        reference: samples whose labels can be trusted; some hundred or more.
        max_weight: above 1.
        folds: at least 2.
        hidden: width of the K networks.
        steps: of training; the first fifth leaves V as it is.
        batch_size: rows a step, and most reference rows a step.
        max_rows: most rows that are trained on, whole groups by hash.
        random_state: seed of folds, networks and batches.

    Cost: steps · batch_size · K · d · hidden, seven passes each; the default takes
    some ten seconds on one core, whatever n. Scoring: one pass. Memory: a batch,
    and max_rows · d.
    """

    def __init__(
        self,
        reference: ImportanceData | None = None,
        max_weight: float = 2.0,
        folds: int = 3,
        hidden: int = 16,
        steps: int = 1_000,
        batch_size: int = 512,
        max_rows: int = 200_000,
        random_state: int = 0,
    ) -> None:
        for name, value, least in (
            ("folds", folds, 2), ("hidden", hidden, 1), ("steps", steps, 1),
            ("batch_size", batch_size, 2), ("max_rows", max_rows, 2),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(f"{name}={value}: expected at least {least}")
        if max_weight <= 1:
            raise ConfigError(f"max_weight={max_weight}: expected above 1")
        self.reference, self.max_weight = reference, max_weight
        self.folds, self.hidden, self.steps = folds, hidden, steps
        self.batch_size, self.max_rows = batch_size, max_rows
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Trains the K networks and V together.

        Raises:
            DataError: no reference or one without rows or of another width; no
                rows; labels all the same.
        """
        reference = self._checked(data)
        data = data.take(first_rows(data, self.max_rows, self.random_state))
        self.scaling_ = Scaling.of(data.features)
        self.newest_, self.span_ = _span(data)
        rate = float(np.clip(data.label.mean(), 1e-4, 1 - 1e-4))
        self.networks_ = self._new(data.features.shape[1], rate)
        step = self.networks_.step(self.steps)
        rng = np.random.default_rng(self.random_state)
        for turn in range(self.steps):
            rows = rng.integers(0, len(data), min(self.batch_size, len(data)))
            clean = rng.integers(0, len(reference), min(self.batch_size, len(reference)))
            taught = turn >= self.steps // 5
            step(self._batch(data.take(rows)), self._batch(reference.take(clean)), taught)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Workers get the weights: a Keras model does not travel."""
        state = dict(self.__dict__)
        if "networks_" in state:
            state["networks_"] = self.networks_.values()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "networks_" in state:
            self.networks_ = self._new(len(self.scaling_.mean), 0.5)
            self.networks_.assign(state["networks_"])

    def _new(self, width: int, rate: float) -> Any:
        # Whoever imports the library for another estimator does not wait for TensorFlow.
        from heft.importance.learned_networks import LearnedNetworks

        sizes = (width, self.hidden, self.folds)
        return LearnedNetworks(sizes, rate, self.max_weight, self.random_state)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in (0, max_weight).

        Raises:
            DataError: another number of features than in `fit`.
        """
        check_fitted(self, "networks_")
        width = len(self.scaling_.mean)
        if data.features.shape[1] != width:
            raise DataError(
                f"features has {data.features.shape[1]} columns: expected {width} as in fit"
            )
        score = np.empty(len(data), np.float32)
        for start in range(0, len(data), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(data)))
            batch = self._batch(data.take(np.arange(part.start, part.stop)))
            score[part] = self.networks_.weigh(batch)
        return score

    def _checked(self, data: ImportanceData) -> ImportanceData:
        reference = self.reference
        if reference is None or not len(reference):
            given = "reference=None" if reference is None else "a reference of 0 rows"
            raise DataError(
                f"learned received {given}: expected samples with trusted labels to learn weights "
                "from; give some, or use label_quality, which needs none"
            )
        if reference.features.shape[1] != data.features.shape[1]:
            raise DataError(
                f"the reference has {reference.features.shape[1]} features and the data "
                f"{data.features.shape[1]}: expected the same columns in the same order"
            )
        for name, labels in (("data", data.label), ("reference", reference.label)):
            if len(np.unique(labels)) < 2:
                what = f"are {labels[0]}" if len(labels) else "are missing"
                raise DataError(
                    f"all {len(labels)} labels of the {name} {what}: expected both 0 and 1 to "
                    "learn weights; use more data or drop the estimator for this task"
                )
        return reference

    def _batch(self, data: ImportanceData) -> Any:
        from heft.importance.learned_networks import BUCKETS, Rows

        age = np.zeros(len(data))
        if data.timestamp is not None:
            age = np.clip((self.newest_ - data.timestamp) / self.span_, 0, 1)
        bucket = np.zeros(len(data), np.int64)
        if data.slice is not None:
            bucket = fold_of(data.slice, BUCKETS)
        features = np.ascontiguousarray(data.features, np.float32)
        return Rows(
            self.scaling_.rows(features, np.arange(len(data))),
            data.label.astype(np.float32),
            data.observation(),
            fold_of(data.group, self.folds, self.random_state).astype(np.int32),
            age.astype(np.float32),
            np.log1p(np.maximum(data.position, 0)).astype(np.float32),
            bucket,
        )


def _span(data: ImportanceData) -> tuple[int, int]:
    """The newest timestamp, and how far it is from the oldest, in milliseconds."""
    if data.timestamp is None or not len(data):
        return 0, 1
    return int(data.timestamp.max()), max(int(np.ptp(data.timestamp)), 1)
