"""Batches that hold every row with the same probability, whatever the other rows do.

The accountant of `heft.model.accountant` is right for this sampling and not for rows in shuffled
order. It needs any row at any time, so packed rows are laid out flat on disk and mapped.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from heft.model.packing import PackedRows

__all__ = ["PoissonRows"]


class PoissonRows:
    """Poisson samples of packed rows; what a step holds follows from the seed and its number.

    Args:
        packed: rows; a flat copy is made beside them once.
        batch_size: rows expected in a step, at most those there are.
        seed: at least 0.

    Attributes:
        rate: how likely a row is in a step.
    """

    def __init__(self, packed: PackedRows, batch_size: int, seed: int) -> None:
        self.packed = packed
        self.rate = batch_size / packed.rows
        self.seed = seed
        shape = (packed.rows, packed.layout.width)
        self.words = np.memmap(_flat(packed), np.int32, "r", shape=shape)

    def draw(self, epoch: int, step: int) -> np.ndarray:
        """(k, width) int32, k binomial, in the order of the log."""
        rng = np.random.default_rng([self.seed, epoch, step])
        count = rng.binomial(self.packed.rows, self.rate)
        picked = rng.choice(self.packed.rows, count, replace=False, shuffle=False)
        return np.array(self.words[np.sort(picked)])

    def batches(self, epoch: tf.Tensor, steps: int) -> tf.data.Dataset:
        """(k, width) int32 for each step of `epoch`, () int64."""

        def drawn(step: tf.Tensor) -> tf.Tensor:
            rows = tf.numpy_function(self.draw, [epoch, step], tf.int32)
            return tf.ensure_shape(rows, [None, self.packed.layout.width])

        return tf.data.Dataset.range(steps).map(drawn, num_parallel_calls=2)


def _flat(packed: PackedRows) -> Path:
    """The words of all rows, one after another, in one file."""
    path = Path(packed.paths[0]).with_suffix(".flat")
    if not path.is_file():
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            for block in tf.data.TFRecordDataset(list(packed.paths)).as_numpy_iterator():
                file.write(block)
        draft.replace(path)
    return path
