"""`fit` over several workers, which Keras 3 cannot do by itself (keras-team/keras#20585, #20329).

With inputs by name and MultiWorkerMirroredStrategy, `fit` fails before the first step, where it
averages a batch over the workers to see its shapes, and in each step, where it takes the mean of
a scalar along its first axis. This is the same loop with both mended.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

__all__ = ["MultiWorkerModel"]


class MultiWorkerModel(keras.Model):
    """A functional model whose steps run on every worker; logs are means over them."""

    train_function: Any
    test_function: Any

    def make_train_function(self, force: bool = False) -> None:
        """The step of `fit`."""
        if self.train_function is None or force:
            self.train_function = self._on_every_worker(self.train_step)

    def make_test_function(self, force: bool = False) -> None:
        """The step of `evaluate`."""
        if self.test_function is None or force:
            self.test_function = self._on_every_worker(self.test_step)

    def _on_every_worker(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        strategy = self.distribute_strategy

        @tf.function(reduce_retracing=True)
        def run(iterator: Any) -> Any:
            logs = strategy.run(step, args=(next(iterator),))
            return tf.nest.map_structure(lambda x: strategy.reduce("MEAN", x, axis=None), logs)

        return run

    def fit(self, x: tf.data.Dataset, **kwargs: Any) -> Any:
        """As of Keras; `x` is a dataset."""
        # Shapes without taking a batch, which no later step would see.
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=x.element_spec)
        return super().fit(x, **kwargs)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Nothing: `fit` did it."""
