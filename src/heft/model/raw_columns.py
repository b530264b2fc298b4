"""The named columns that a client sends, and how they become as long as each other."""

from dataclasses import dataclass

import tensorflow as tf

from heft import features as f
from heft.model.network import InputSizes
from heft.transform import TransformSettings

__all__ = ["RawColumns"]

Tensors = dict[str, tf.Tensor]


@dataclass(frozen=True)
class RawColumns:
    """What `serving_default` takes.

    Attributes:
        scalars: dtype of each column with one value a row.
        lists: spec of each column with a list a row, (None, width).
    """

    scalars: dict[str, tf.DType]
    lists: dict[str, tf.TensorSpec]

    @classmethod
    def of(cls, settings: TransformSettings, sizes: InputSizes) -> "RawColumns":
        """The columns of a model that was trained with these settings."""
        scalars = {f.QUERY: tf.string, f.TITLE: tf.string}
        scalars |= dict.fromkeys(settings.categorical, tf.string)
        scalars |= dict.fromkeys(settings.numeric, tf.float32)
        lists = {
            name: tf.TensorSpec([None, sizes.vectors[f.vector_value(name)]], tf.float32, name)
            for name in settings.vectors
        }
        if sizes.history:
            lists[f.HISTORY] = tf.TensorSpec([None, sizes.history], tf.string, f.HISTORY)
        return cls(scalars, lists)

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """Of every column, (None,) or (None, width)."""
        return {
            name: tf.TensorSpec([None], dtype, name) for name, dtype in self.scalars.items()
        } | self.lists

    @property
    def defaults(self) -> dict[str, tf.Tensor | None]:
        """What stands for a column that is left out: one unknown value for all rows.

        None for query and title, without which there is nothing to predict.
        """
        unknown: dict[str, tf.Tensor | None] = dict.fromkeys((f.QUERY, f.TITLE))
        for name, spec in self.specs.items():
            if name not in unknown:
                shape = [1, *spec.shape[1:]]
                unknown[name] = tf.fill(shape, "") if spec.dtype == tf.string else tf.zeros(shape)
        return unknown

    def aligned(self, columns: Tensors) -> Tensors:
        """Columns of as many rows each: what is given once is repeated for every row.

        Args:
            columns: of one row or of n, at least one of them.

        Raises:
            tf.errors.InvalidArgumentError: from the graph, where two lengths are neither 1
                nor the same.
        """
        names = sorted(columns)
        lengths = tf.stack([tf.shape(columns[name])[0] for name in names])
        many = lengths != 1
        rows = tf.where(tf.reduce_any(many), tf.reduce_max(tf.where(many, lengths, 0)), 1)
        alike = tf.reduce_all(~many | (lengths == rows))
        said = "columns differ in length: expected one value for each row, or one for all rows"
        with tf.control_dependencies(
            [tf.debugging.Assert(alike, [said, tf.constant(names), lengths], summarize=64)]
        ):
            row = tf.range(rows)
        return {
            name: tf.gather(values, tf.minimum(row, tf.shape(values)[0] - 1))
            for name, values in columns.items()
        }
