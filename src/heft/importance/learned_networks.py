"""The networks behind `Learned`: those that are trained, and the one that weighs for them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from heft.importance.meta_weight_net import (
    BUCKETS,
    MetaWeightNet,
    even_by_label,
    meta_gradients,
    squeeze,
)

__all__ = ["BUCKETS", "LearnedNetworks", "Rows"]

_MODEL_RATE, _NET_RATE, _VIRTUAL_RATE = 1e-2, 3e-3, 0.1


class Rows(NamedTuple):
    """A batch: features (b, d), label, observed, fold, age, position, bucket, each (b,)."""

    features: Any
    label: Any
    observed: Any
    fold: Any
    age: Any
    position: Any
    bucket: Any


class LearnedNetworks:
    """K networks of one hidden layer and V, the network of weights.

    Args:
        sizes: features, hidden units, K.
        rate: the base rate that the K networks start from, in (0, 1).
        max_weight: of V.
        seed: of the first weights.
    """

    def __init__(
        self, sizes: tuple[int, int, int], rate: float, max_weight: float, seed: int
    ) -> None:
        self.model = Stack(*sizes, rate, seed)
        self.net = MetaWeightNet(max_weight, seed=seed)
        self.net(tf.zeros((1, 3)), tf.zeros(1, tf.int64))

    def step(self, steps: int) -> Callable[[Rows, Rows, bool], None]:
        """One step of V, if it is taught, and one of the model; `steps` in all.

        Takes a batch, reference rows, and whether V is taught.
        """
        graph = _step(self.model, self.net, steps)
        return lambda rows, clean, taught: graph(rows, clean, tf.constant(taught))

    def weigh(self, rows: Rows) -> np.ndarray:
        """(b,) float32, V of each row, by the network that has not seen it."""
        return np.asarray(_weigh(self.net, rows, self.model.losses(rows)))

    def values(self) -> list[np.ndarray]:
        """All weights."""
        return [variable.numpy() for variable in self._variables()]

    def assign(self, values: list[np.ndarray]) -> None:
        """Takes the weights of another."""
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)

    def _variables(self) -> list[Any]:
        return [*self.model.trainable_variables, *(v.value for v in self.net.trainable_variables)]


class Stack(tf.Module):
    """K networks of one hidden layer, side by side."""

    def __init__(self, width: int, hidden: int, folds: int, rate: float, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)

        def start(*shape: int, fan: int) -> tf.Variable:
            bound = np.sqrt(6 / fan)
            return tf.Variable(rng.uniform(-bound, bound, shape).astype(np.float32))

        self.w1 = start(folds, width, hidden, fan=width + hidden)
        self.b1 = tf.Variable(tf.zeros((folds, 1, hidden)))
        self.w2 = start(folds, hidden, 1, fan=hidden + 1)
        self.b2 = tf.Variable(tf.fill((folds, 1, 1), float(np.log(rate / (1 - rate)))))
        self.folds = folds

    def all_losses(self, rows: Rows) -> tf.Tensor:
        """(K, b), −log likelihood of label ~ Bernoulli(observed · σ(logit)) by every network."""
        features = tf.broadcast_to(
            rows.features, [self.folds, *tf.unstack(tf.shape(rows.features))]
        )
        hidden = tf.nn.relu(tf.matmul(features, self.w1) + self.b1)
        logit = (tf.matmul(hidden, self.w2) + self.b2)[:, :, 0]
        # log(1 − θσ(z)) = softplus(z + log(1 − θ)) − softplus(z)
        missed = tf.math.log(tf.maximum(1 - rows.observed, 1e-30))
        negative = tf.nn.softplus(logit) - tf.nn.softplus(logit + missed)
        return rows.label * tf.nn.softplus(-logit) + (1 - rows.label) * negative

    def losses(self, rows: Rows) -> tf.Tensor:
        """(b,), by the network that has not seen the row."""
        own = tf.one_hot(rows.fold, self.folds, axis=0)
        return tf.reduce_sum(own * self.all_losses(rows), axis=0)

    def training_losses(self, rows: Rows) -> tf.Tensor:
        """(b,), mean over the networks that may see the row."""
        others = 1 - tf.one_hot(rows.fold, self.folds, axis=0)
        return tf.reduce_sum(others * self.all_losses(rows), axis=0) / (self.folds - 1)


def _step(model: Stack, net: MetaWeightNet, steps: int) -> Any:
    parameters = list(model.trainable_variables)
    model_optimizer = keras.optimizers.Adam(_falling(_MODEL_RATE, steps))
    net_optimizer = keras.optimizers.Adam(_falling(_NET_RATE, steps))
    model_optimizer.build(parameters)
    net_optimizer.build(net.trainable_variables)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(rows: Rows, clean: Rows, taught: tf.Tensor) -> None:
        seen = tf.stop_gradient(model.losses(rows))

        def weigh() -> tf.Tensor:
            return even_by_label(_weigh(net, rows, seen), rows.label)

        def teach() -> tf.Tensor:
            gradients = meta_gradients(
                weigh,
                lambda: model.training_losses(rows),
                lambda: tf.reduce_mean(model.all_losses(clean)),
                parameters,
                [v.value for v in net.trainable_variables],
                _VIRTUAL_RATE,
            )
            gradients = net.anchored(gradients, lambda: _weigh(net, rows, seen))
            net_optimizer.apply(gradients, net.trainable_variables)
            return tf.constant(0)

        tf.cond(taught, teach, lambda: tf.constant(0))
        weights = tf.stop_gradient(weigh())
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(weights * model.training_losses(rows))
        model_optimizer.apply(tape.gradient(value, parameters), parameters)

    return step


def _falling(rate: float, steps: int) -> Any:
    return keras.optimizers.schedules.PolynomialDecay(rate, steps, rate / 20)


def _weigh(net: MetaWeightNet, rows: Rows, loss: tf.Tensor) -> tf.Tensor:
    columns = tf.stack([squeeze(loss), rows.age, rows.position], axis=1)
    return net(columns, rows.bucket)
