"""What a query vector and a title vector say together."""

from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from heft.text.reduction import Projection, Reduction

__all__ = ["TableLookup", "TextInteraction"]


class TableLookup(keras.layers.Layer):
    """Rows of a fixed embedding table; ids outside it (out of vocabulary) give zeros."""

    def __init__(self, table: np.ndarray, **kwargs: object) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self._initial = table

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the table a weight that is not trained."""
        initial = keras.initializers.get(lambda shape, dtype=None: tf.constant(self._initial))
        self.table = self.add_weight(
            shape=self._initial.shape, initializer=initial, trainable=False, name="table"
        )

    def save_own_variables(self, store: dict[str, np.ndarray]) -> None:
        """Nothing: the table is an artifact of its own, and far larger than the network."""

    def load_own_variables(self, store: dict[str, np.ndarray]) -> None:
        """Nothing, see `save_own_variables`."""

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """(batch, …) int → (batch, …, dim)."""
        known = tf.cast(ids >= 0, self.table.dtype)[..., None]
        return tf.gather(tf.convert_to_tensor(self.table), tf.maximum(ids, 0)) * known


class TextInteraction(keras.layers.Layer):
    """Cosine, and the reduced title, query and element-wise product of two unit vectors.

    The projections are those that TextEmbedder fitted; they are not trained.
    """

    def __init__(self, projections: dict[str, "Projection"], **kwargs: object) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self._projections = {k: p for k, p in projections.items() if len(p.components)}

    @classmethod
    def from_reduction(cls, reduction: "Reduction") -> "TextInteraction":
        """The layer for what TextEmbedder kept."""
        parts = {"query": reduction.query, "title": reduction.title, "product": reduction.product}
        return cls(parts, name="text_interaction")

    def build(self, input_shape: object) -> None:
        """Makes the projections weights that are not trained."""
        self._means, self._components = {}, {}
        for name, projection in self._projections.items():
            self._means[name] = self._constant(f"{name}_mean", projection.mean)
            self._components[name] = self._constant(f"{name}_components", projection.components.T)

    def call(self, vectors: list[tf.Tensor]) -> tf.Tensor:
        """[(batch, dim), (batch, dim)] → (batch, 1 + kept dimensions)."""
        query, title = vectors
        sources = {"query": query, "title": title, "product": query * title}
        parts = [tf.reduce_sum(sources["product"], axis=1, keepdims=True)]
        for name, mean in self._means.items():
            parts.append(tf.matmul(sources[name] - mean, self._components[name]))
        return tf.concat(parts, axis=1)

    def _constant(self, name: str, value: np.ndarray) -> keras.Variable:
        value = np.asarray(value, np.float32)
        initial = keras.initializers.get(lambda shape, dtype=None: tf.constant(value))
        return self.add_weight(shape=value.shape, initializer=initial, trainable=False, name=name)
