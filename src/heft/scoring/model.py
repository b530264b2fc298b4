"""A pushed model, asked of Arrow tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokeniser's ops

from heft import features as f
from heft.errors import InputError

__all__ = ["ScoredModel"]

_ROWS = 1_024  # asked at a time: bounds what BERT has in hand where every text is new


class ScoredModel:
    """`serving_default` of a SavedModel.

    Args:
        path: of the SavedModel.

    Raises:
        InputError: there is none, or not one of Heft's.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._model = tf.saved_model.load(str(path))
            self._serve = self._model.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise InputError(f"{path} holds no SavedModel that Heft exported") from error
        given = self._serve.structured_input_signature[1]
        self.inputs: dict[str, tf.TensorSpec] = dict(sorted(given.items()))

    def predict(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`ctr`, `cvr` and `ctcvr`, float32 (rows,); a column that the table lacks is unknown."""
        parts = []
        for begin in range(0, table.num_rows, _ROWS):
            some = table.slice(begin, _ROWS)
            columns = {name: _tensor(some, name, spec) for name, spec in self.inputs.items()}
            answers = self._serve(**columns)
            parts.append({name: answers[name].numpy() for name in (f.CTR, f.CVR, f.CTCVR)})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tensor(table: pa.Table, name: str, spec: tf.TensorSpec) -> tf.Tensor:
    rows, text = table.num_rows, spec.dtype == tf.string
    width = spec.shape[1] if len(spec.shape) == 2 else None
    if name not in table.column_names:
        shape = (rows,) if width is None else (rows, width)
        return tf.fill(shape, "") if text else tf.zeros(shape)
    column = table.column(name).combine_chunks()
    if width is None:
        if text:
            return tf.constant(column.cast(pa.string()).fill_null("").to_pylist(), tf.string)
        return tf.constant(column.cast(pa.float32()).fill_null(0).to_numpy(zero_copy_only=False))
    empty = "" if text else 0.0
    lists = [((value or []) + [empty] * width)[:width] for value in column.to_pylist()]
    return tf.constant(lists, spec.dtype)
