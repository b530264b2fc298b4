"""A small model that judges each sample without having seen it.

Label quality and EL2N both need predictions out of fold; one pass of training
serves them all.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData

__all__ = ["OutOfFoldProxy", "ProxyTrace", "fold_of"]

Array = np.ndarray

_STEPS_PER_EPOCH = 100
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: spreads consecutive seeds


@dataclass(frozen=True)
class ProxyTrace:
    """What out-of-fold training saw; every array (n,) float32 in (0, 1).

    Attributes:
        early: attractiveness after the first epoch.
        final: attractiveness after the last.
    """

    early: Array
    final: Array


class OutOfFoldProxy:
    """K two-layer networks, each trained without one fold of groups.

    The likelihood is that of a positive seen with probability `observed` times
    attractiveness, so that a low position does not make a click look wrong.

    Args:
        folds: at least 2; groups are dealt to folds by hash.
        epochs: at least 1.
        hidden: width of the hidden layer.
        batch_size: most rows per step; small data takes smaller steps, so that
            an epoch has about a hundred.
        random_state: seed of initialisation, order and folds.
    """

    def __init__(
        self,
        folds: int = 4,
        epochs: int = 3,
        hidden: int = 32,
        batch_size: int = 1024,
        random_state: int = 0,
    ) -> None:
        if folds < 2:
            raise ConfigError(f"folds={folds}: expected at least 2 to score out of fold")
        if epochs < 1:
            raise ConfigError(f"epochs={epochs}: expected at least 1")
        self.folds = folds
        self.epochs = epochs
        self.hidden = hidden
        self.batch_size = batch_size
        self.random_state = random_state
        self._last: tuple[ImportanceData, ProxyTrace] | None = None

    def trace(self, data: ImportanceData) -> ProxyTrace:
        """Out-of-fold predictions for every row; trained once per data set.

        Raises:
            DataError: the training part of a fold lacks one of the two labels.
        """
        if self._last is not None and _same(self._last[0], data):
            return self._last[1]
        features = _standardise(data.features)
        fold = fold_of(data.group, self.folds, self.random_state)
        early = np.zeros(len(data), np.float32)
        final = np.zeros(len(data), np.float32)
        target = np.stack([data.label.astype(np.float32), data.observation()], axis=1)
        for k in range(self.folds):
            held, used = fold == k, fold != k
            _check_labels(data.label[used], k)
            model = self._build(features.shape[1], data.label[used].mean(), k)
            step = int(np.clip(used.sum() // _STEPS_PER_EPOCH, 32, self.batch_size))
            model.fit(features[used], target[used], step, epochs=1, verbose=0)
            early[held] = _predict(model, features[held])
            if self.epochs > 1:
                rest = self.epochs - 1
                model.fit(features[used], target[used], step, epochs=rest, verbose=0)
            final[held] = _predict(model, features[held])
        self._last = (data, ProxyTrace(early, final))
        return self._last[1]

    def _build(self, width: int, rate: float, fold: int) -> keras.Model:
        keras.utils.set_random_seed((self.random_state * 1009 + fold) % 2**31)
        model = keras.Sequential(
            [
                keras.Input((width,)),
                keras.layers.Dense(self.hidden, activation="relu"),
                keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(_logit(rate))),
            ]
        )
        optimizer = keras.optimizers.Adam(2e-3)
        model.compile(optimizer, loss=_observed_loss, jit_compile=False)
        return model


def fold_of(group: Array, folds: int, seed: int = 0) -> Array:
    """(n,) in [0, folds): the same fold for all rows of a group, by hash of its key."""
    key = np.asarray(group).astype(np.uint64) + np.uint64(seed * _GOLDEN % 2**64)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((key ^ (key >> np.uint64(31))) % np.uint64(folds)).astype(np.int64)


def _same(left: ImportanceData, right: ImportanceData) -> bool:
    """Whether both are the same samples, observed with the same probability."""
    shared = left.features is right.features and left.label is right.label
    return shared and np.array_equal(left.observation(), right.observation())


def _observed_loss(target: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """−log likelihood of y ~ Bernoulli(observed · σ(logit)), per row."""
    label, observed = target[:, 0], target[:, 1]
    seen = observed * tf.sigmoid(logit[:, 0])
    return -(label * tf.math.log(seen + 1e-7) + (1 - label) * tf.math.log1p(-seen + 1e-7))


def _predict(model: keras.Model, features: Array) -> Array:
    if not len(features):
        return np.empty(0, np.float32)
    logit = model.predict(features, batch_size=16_384, verbose=0)[:, 0]
    return 1.0 / (1.0 + np.exp(-logit))


def _standardise(features: Array) -> Array:
    scale = features.std(axis=0)
    return ((features - features.mean(axis=0)) / np.where(scale > 1e-6, scale, 1.0)).astype(
        np.float32
    )


def _logit(rate: float) -> float:
    rate = min(max(float(rate), 1e-4), 1 - 1e-4)
    return float(np.log(rate / (1 - rate)))


def _check_labels(label: Array, fold: int) -> None:
    positives = int(label.sum())
    if positives == 0 or positives == len(label):
        raise DataError(
            f"all {len(label)} labels outside fold {fold} are {int(positives > 0)}: expected both "
            "0 and 1 to score samples; use more data or drop the estimator for this task"
        )
