"""A small model that judges each sample without having seen it.

One pass of training serves every estimator that asks what a model says of a
sample: label quality, EL2N, GraNd, margins, forgetting, TracIn, last-layer
influence, the posterior of examination.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.keys import fold_of, row_order
from heft.importance.proxy_trace import Checkpoints, ProxyTrace, sigmoid
from heft.importance.stacked import Network, Scaling, Stacked, residuals, threads, train
from heft.importance.targets import base_rates, check_labels, targets_of

__all__ = [
    "HiddenBlock",
    "OutOfFoldProxy",
    "ProxyTrace",
    "check_labels",
    "fold_of",
    "targets_of",
]

Array = np.ndarray
_T = TypeVar("_T")

_STEPS_PER_EPOCH = 100
_BLOCK = 4096


class HiddenBlock(NamedTuple):
    """A block of b rows of one fold, as the last layer of that fold's network sees them.

    Attributes:
        rows: (b,) int64, row numbers.
        fold: the fold of all of them; the network has not seen their groups.
        hidden: (b, h) float32, inputs of the last layer without the constant 1
            of the bias; the standardised features if `hidden=0`.
        logit: (b,) float32, of attractiveness.
        residual: (b,) float32, ∂loss/∂logit; σ(logit) − label if observed = 1.
    """

    rows: Array
    fold: int
    hidden: Array
    logit: Array
    residual: Array


class OutOfFoldProxy:
    """K networks of one hidden layer, each trained without one fold of groups.

    The likelihood is that of a positive seen with probability `observed` times
    attractiveness, so that a low position does not make a click look wrong:
    y ~ Bernoulli(observed · σ(logit)). With weight pairs it is the loss
    w⁺·softplus(−logit) + w⁻·softplus(logit).

    All K are trained side by side in one pass over the rows. Cost: 4·d·K·h
    multiplications a row and epoch, 1,000,000 × 64 in some seconds on two cores;
    memory beyond the features: (n, E) twice, and a few batches.

    A network whose training part holds fewer than five rows of either label
    stays at the base rate of that part, (positives + 1) / (rows + 2):
    `constant_` marks it.

    Args:
        folds: K, at least 2; groups are dealt to folds by hash.
        epochs: E, at least 1. On small data an epoch is several passes, so that
            it has at least about a hundred steps.
        hidden: width of the hidden layer; 0 is logistic regression.
        batch_size: most rows per step; small data takes smaller steps, so that
            a pass has about a hundred.
        random_state: seed of initialisation, order and folds.

    Attributes:
        constant_: (K,) bool.
        rate_: the base rate of attractiveness, in (0, 1).
        learning_rates_: (E,), the mean of each epoch.
        networks_: E lists of K `Network`s, over features standardised by `scaling_`.
    """

    def __init__(
        self,
        folds: int = 4,
        epochs: int = 3,
        hidden: int = 32,
        batch_size: int = 4096,
        random_state: int = 0,
    ) -> None:
        if folds < 2:
            raise ConfigError(f"folds={folds}: expected at least 2 to score out of fold")
        for name, value, least in (("epochs", epochs, 1), ("hidden", hidden, 0)):
            if value < least:
                raise ConfigError(f"{name}={value}: expected at least {least}")
        self.folds = folds
        self.epochs = epochs
        self.hidden_units = hidden
        self.batch_size = batch_size
        self.random_state = random_state
        self._last: tuple[ImportanceData, ProxyTrace] | None = None

    def fit(self, data: ImportanceData, pairs: Array | None = None) -> Self:
        """Trains the K networks.

        Args:
            data: the samples.
            pairs: (n, 2) w⁺ and w⁻ in place of label and `observed`; w⁻ may be negative.

        Raises:
            DataError: no rows, all labels the same, pairs of another shape or not
                finite, `observed` outside (0, 1].
        """
        targets = targets_of(data, pairs)
        check_labels(targets)
        self._last = None
        n = len(data)
        fold = self.fold(data)
        self.rate_, rates, self.constant_ = base_rates(targets, fold, self.folds)
        self.scaling_ = Scaling.of(data.features)
        seed = self.random_state % 2**32
        stacked = Stacked(data.features.shape[1], self.hidden_units, _logit(rates), seed)
        stacked.w2[self.constant_] = 0
        batch = int(np.clip(n // _STEPS_PER_EPOCH, min(32, n), max(self.batch_size, 1)))
        checkpoints = train(
            np.ascontiguousarray(data.features, np.float32),
            self.scaling_,
            fold,
            targets,
            stacked,
            ~self.constant_,
            row_order(data, self.random_state),
            batch,
            passes=max(1, round(_STEPS_PER_EPOCH * batch / n)),
            epochs=self.epochs,
            seed=seed,
        )
        networks, rate = zip(*checkpoints, strict=True)
        self.networks_: list[list[Network]] = list(networks)
        self.learning_rates_ = np.array(rate)
        return self

    def fitted(self, data: ImportanceData) -> Self:
        """Itself, fitted on `data` if it has not been fitted on anything."""
        return self if hasattr(self, "networks_") else self.fit(data)

    def fold(self, data: ImportanceData) -> Array:
        """(n,) int64 in [0, folds), the network that has not seen the row's group."""
        return fold_of(data.group, self.folds, self.random_state)

    def trace(self, data: ImportanceData) -> ProxyTrace:
        """Out-of-fold predictions for any rows, at every checkpoint.

        Fits on `data` if nothing has been fitted. The last trace is kept, for the
        same features and groups.

        Raises:
            DataError: see `fit`; another number of features than in `fit`.
        """
        last = self._last
        if last and last[0].features is data.features and last[0].group is data.group:
            return last[1]
        self.fitted(data)
        logits = np.empty((len(data), self.epochs), np.float32)
        sensitivity = np.empty_like(logits)
        every = [Checkpoints.of(list(of_fold)) for of_fold in zip(*self.networks_, strict=True)]

        def look(fold: int, rows: Array, inputs: Array) -> None:
            logits[rows], sensitivity[rows] = every[fold].look(inputs)

        self.map_blocks(data, look)
        trace = ProxyTrace(sigmoid(logits[:, 0]), sigmoid(logits[:, -1]), logits, sensitivity)
        self._last = (data, trace)
        return trace

    def hidden(self, data: ImportanceData, checkpoint: int = -1) -> Iterator[HiddenBlock]:
        """Last-layer inputs out of fold, block by block, fold by fold; every row once.

        The networks of two folds have hidden layers of their own: a sum over
        `hidden` means something within one fold only. Memory: 4,096 rows.

        Args:
            data: any rows; fits on them if nothing has been fitted.
            checkpoint: which epoch's weights, from 0; the last if left out.
        """
        self.fitted(data)
        targets = targets_of(data)
        for fold, rows, inputs in self.blocks(data):
            network = self.networks_[checkpoint][fold]
            hidden = network.last_inputs(inputs)
            logit = hidden @ network.w2 + np.float32(network.b2)
            yield HiddenBlock(rows, fold, hidden, logit, residuals(logit, targets.take(rows)))

    def map_blocks(
        self,
        data: ImportanceData,
        function: Callable[[int, Array, Array], _T],
        cell: Array | None = None,
    ) -> list[_T]:
        """What `function` makes of every block of rows, in order; by threads.

        Args:
            data: any rows.
            function: of the fold, the row numbers (b,) and the standardised features
                (b, d); every block is of one fold.
            cell: (n,) integers from 0; rows of one block then share it too.

        Raises:
            DataError: another number of features than in `fit`.
        """
        features = self._features(data)

        def call(part: tuple[int, Array]) -> _T:
            return function(*part, self.scaling_.rows(features, part[1]))

        with threads() as pool:
            return list(pool.map(call, self._parts(data, cell)))

    def blocks(self, data: ImportanceData) -> Iterator[tuple[int, Array, Array]]:
        """The same blocks one by one: fold, row numbers (b,), standardised features (b, d)."""
        features = self._features(data)
        for fold, rows in self._parts(data):
            yield fold, rows, self.scaling_.rows(features, rows)

    def _parts(
        self, data: ImportanceData, cell: Array | None = None
    ) -> Iterator[tuple[int, Array]]:
        fold = self.fold(data)
        key = fold if cell is None else fold + self.folds * cell
        if len(key) and key.max() < 2**16:
            key = key.astype(np.uint16)  # which numpy sorts by radix
        order = np.argsort(key, kind="stable")
        bounds = np.flatnonzero(np.diff(key[order])) + 1
        for part in np.split(order, bounds) if len(order) else []:
            for start in range(0, len(part), _BLOCK):
                rows = part[start : start + _BLOCK]
                yield int(fold[rows[0]]), rows

    def _features(self, data: ImportanceData) -> Array:
        check_fitted(self, "scaling_")
        width = len(self.scaling_.mean)
        if data.features.shape[1] != width:
            raise DataError(
                f"features has {data.features.shape[1]} columns: expected {width} as in fit"
            )
        return np.ascontiguousarray(data.features, np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}  # the trace would carry the data along


def _logit(rate: Array) -> Array:
    rate = np.clip(rate, 1e-6, 1 - 1e-6)
    return np.log(rate / (1 - rate))
