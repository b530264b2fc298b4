"""Vectors in fewer bits, read row by row."""

import numpy as np
import tensorflow as tf

from heft.errors import ConfigError

__all__ = ["StoredVectors"]

_LARGEST = 127


class StoredVectors(tf.Module):
    """A fixed matrix of which rows are asked for, as float32.

    `int8` keeps one scale per row, its largest magnitude / 127, so that an entry is off by at
    most half of it.

    Args:
        vectors: (rows, dim) float32.
        kind: `none`, `float16` or `int8`.
        name: of the variable.

    Raises:
        ConfigError: an unknown kind.
    """

    def __init__(self, vectors: np.ndarray, kind: str = "none", name: str = "vectors") -> None:
        super().__init__(name)
        self.scale: tf.Variable | None = None
        if kind == "int8":
            largest = np.abs(vectors).max(axis=1, initial=0)
            scale = (np.where(largest > 0, largest, 1) / _LARGEST).astype(np.float32)
            self.scale = tf.Variable(scale, trainable=False, name=f"{name}_scale")
            vectors = np.rint(vectors / scale[:, np.newaxis]).astype(np.int8)
        elif kind == "float16":
            vectors = vectors.astype(np.float16)
        elif kind != "none":
            raise ConfigError(f"kind={kind!r}: expected none, float16 or int8")
        self.vectors = tf.Variable(vectors, trainable=False, name=name)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """(n,) int in [0, rows) → (n, dim) float32."""
        found = tf.cast(tf.gather(self.vectors, ids), tf.float32)
        return found if self.scale is None else found * tf.gather(self.scale, ids)[:, tf.newaxis]

    @property
    def dim(self) -> int:
        """Entries of a row."""
        return int(self.vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Of what is stored."""
        parts = [self.vectors] if self.scale is None else [self.vectors, self.scale]
        return sum(int(np.prod(part.shape)) * part.dtype.size for part in parts)
