"""The SavedModel that is served: Transform's graph, the text encoder and the network in one.

Three signatures. `serving_default` takes named raw columns of shape (batch,), or (1,) of what
is the same in every row; those that are left out are unknown, query and title apart.
`examples` takes serialised tf.Examples. Both answer `ctr`, `cvr` and `ctcvr`, float32
of shape (batch,). `explain` takes the columns of `serving_default` and answers the logit of
the click head, (batch,), and its gradients with respect to the vectors of query and title.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from heft import features as f
from heft.model.network import InputSizes
from heft.model.rates import Rates
from heft.model.raw_columns import RawColumns
from heft.model.stored import StoredVectors
from heft.model.warm_up import Known, write_warm_up
from heft.text.encoder import TextEncoder
from heft.text.table import TextTable
from heft.transform import TransformSettings, dense_rows
from heft.versions import EXPORTED_FILE

__all__ = ["EXPLAIN", "ServedModel", "export"]

EXPLAIN = "explain"  # the signature of gradients

Tensors = dict[str, tf.Tensor]


class _Asked(NamedTuple):
    """Texts (n,), their rows of a table, negative where it lacks them, and the table."""

    text: tf.Tensor
    ids: tf.Tensor
    table: StoredVectors


class ServedModel(tf.Module):
    """Raw columns in, predictions out.

    Args:
        core: the trained network.
        encoder: for texts that the table does not hold.
        table: for those it does.
        transform: Transform's layer.
        raw_spec: the parsing spec of the columns that it takes.
        sizes: the columns the network reads.
        rates: from logits and positions to what is answered.
        stored: how the table is kept, see `StoredVectors`.
    """

    def __init__(
        self,
        core: keras.Model,
        encoder: TextEncoder,
        table: TextTable,
        transform: Callable[[Tensors], Tensors],
        raw_spec: dict[str, Any],
        sizes: InputSizes,
        rates: Rates,
        stored: str = "none",
    ) -> None:
        super().__init__()
        self.core = core
        self.encoder = encoder
        # Traced once for both texts and both signatures: the graph holds BERT once, not four times.
        self.encode = tf.function(
            encoder, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )
        self.transform = transform
        self.raw_spec = raw_spec
        self.sizes = sizes
        self.queries = StoredVectors(table.queries, stored, "queries")
        self.titles = StoredVectors(table.titles, stored, "titles")
        self.rates = rates
        self.known = Known.of(table.query_texts, table.title_texts)

    def predict(self, columns: Tensors, position: tf.Tensor | None = None) -> Tensors:
        """Predictions for raw columns, (batch,) or (batch, width) of a vector.

        `position` is (batch,) int64, 0 where unknown.
        """
        return self.rates.tensors(self.core(self._inputs(columns), training=False), position)

    def gradients(self, columns: Tensors) -> Tensors:
        """`logit` of a click, (batch,), and `query_gradient` and `title_gradient`, (batch, dim)."""
        inputs = self._inputs(columns)
        vectors = [inputs["query_vector"], inputs["title_vector"]]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(vectors)
            logit = self.core(inputs, training=False)[:, 0]
        none = tf.UnconnectedGradients.ZERO
        query, title = tape.gradient(logit, vectors, unconnected_gradients=none)
        return {"logit": logit, "query_gradient": query, "title_gradient": title}

    def _inputs(self, columns: Tensors) -> Tensors:
        """What the network takes, from raw columns."""
        query, title, history = columns[f.QUERY], columns[f.TITLE], columns.get(f.HISTORY)
        columns = self.transform(_as_raw(columns, self.raw_spec))
        asked = _Asked(query, columns[f.QUERY_ID], self.queries)
        inputs = {"dense": tf.stack([columns[name] for name in self.sizes.dense], axis=1)}
        inputs |= {name: columns[name] for name in (*self.sizes.categorical, *self.sizes.vectors)}
        if self.sizes.history:
            clicked = history != ""
            titles = self._titles(title, columns[f.TITLE_ID], history, columns[f.HISTORY_IDS])
            inputs["query_vector"], vectors = self._vectors(asked, titles)
            vectors = tf.reshape(vectors, [-1, 1 + self.sizes.history, self.titles.dim])
            inputs["title_vector"], inputs["history_vectors"] = vectors[:, 0], vectors[:, 1:]
            inputs["history_mask"] = tf.cast(clicked, tf.float32)
        else:
            titles = _Asked(title, columns[f.TITLE_ID], self.titles)
            inputs["query_vector"], inputs["title_vector"] = self._vectors(asked, titles)
        return inputs

    def _titles(
        self, title: tf.Tensor, title_id: tf.Tensor, history: tf.Tensor, history_ids: tf.Tensor
    ) -> _Asked:
        """Candidates and clicked titles (batch, clicks), of which "" is padding, as one column."""
        # Padding stands for any row of the table, so that it is not encoded.
        known = tf.where(history != "", history_ids, tf.maximum(history_ids, 0))
        texts = tf.concat([title[:, None], history], axis=1)
        ids = tf.concat([title_id[:, None], known], axis=1)
        return _Asked(tf.reshape(texts, [-1]), tf.reshape(ids, [-1]), self.titles)

    def _vectors(self, *columns: _Asked) -> list[tf.Tensor]:
        """(n, dim) for each column: table rows for known texts, BERT for the others.

        A text goes through BERT once, however many rows and whichever columns it is in.
        """
        known = [asked.table.rows(tf.maximum(asked.ids, 0)) for asked in columns]
        places = [tf.where(asked.ids < 0) for asked in columns]
        unknown = [tf.gather_nd(c.text, p) for c, p in zip(columns, places, strict=True)]
        texts = tf.concat(unknown, axis=0)

        def with_encoded() -> list[tf.Tensor]:
            distinct, index = tf.unique(texts)
            encoded = tf.gather(self.encode(distinct), index)
            parts = tf.split(encoded, tf.stack([tf.shape(part)[0] for part in unknown]))
            return [
                tf.tensor_scatter_nd_update(rows, place, part)
                for rows, place, part in zip(known, places, parts, strict=True)
            ]

        vectors = tf.cond(tf.size(texts) > 0, with_encoded, lambda: known)
        return [
            tf.ensure_shape(rows, [None, asked.table.dim])
            for rows, asked in zip(vectors, columns, strict=True)
        ]


def export(served: ServedModel, transform_settings: TransformSettings, path: str | Path) -> None:
    """Writes `served` as a SavedModel with its signatures.

    Args:
        served: the model with everything it needs.
        transform_settings: the columns a client sends.
        path: a folder that does not exist yet.
    """
    archive = keras.export.ExportArchive()
    archive.track(served)
    columns = RawColumns.of(transform_settings, served.sizes)

    @tf.function(input_signature=[columns.specs])
    def serve_columns(raw: Tensors) -> Tensors:
        return served.predict(columns.aligned(raw))

    @tf.function(input_signature=[columns.specs])
    def explain_columns(raw: Tensors) -> Tensors:
        return served.gradients(columns.aligned(raw))

    needed = _parsed(served, columns)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serve_examples(examples: tf.Tensor) -> Tensors:
        raw = tf.io.parse_example(examples, needed)
        position = _flat(raw.pop(f.POSITION), 0) if f.POSITION in raw else None
        flat = {
            name: _flat(raw[name], _default(dtype))
            for name, dtype in columns.scalars.items() if name in raw
        }  # fmt: skip
        flat |= {name: dense_rows(raw[name], x.shape[1]) for name, x in columns.lists.items()}
        return served.predict(flat, position)

    archive.add_endpoint("serving_default", serve_columns)
    archive.add_endpoint("examples", serve_examples)
    archive.add_endpoint(EXPLAIN, explain_columns)
    archive.write_out(str(path), verbose=False)
    _write_defaults(path, columns, ("serving_default", EXPLAIN))
    write_warm_up(path, columns, served.known)
    (Path(path) / EXPORTED_FILE).write_text(json.dumps({"exported": int(time.time())}))


def _write_defaults(path: str | Path, columns: RawColumns, signatures: Sequence[str]) -> None:
    """Says in the signatures what stands for a column that is left out.

    Keras hands concrete functions to TensorFlow, which would else take it from the arguments'
    defaults.
    """
    file = Path(path) / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name in signatures:
        definition = model.meta_graphs[0].signature_def[name]
        for column, default in columns.defaults.items():
            if default is not None:
                definition.defaults[column].CopyFrom(tf.make_tensor_proto(default))
    file.write_bytes(model.SerializeToString(deterministic=True))
    write_fingerprint(str(path))


def _parsed(served: ServedModel, columns: RawColumns) -> dict[str, Any]:
    """How tf.Examples are read."""
    spec = served.raw_spec
    needed = {name: spec[name] for name in (*columns.scalars, f.POSITION) if name in spec}
    # Whatever the schema says of them, a row may lack its vector; one of another width is refused.
    needed |= {
        name: tf.io.FixedLenFeature(entry.shape[1:], entry.dtype, [0.0] * entry.shape[1])
        for name, entry in columns.lists.items()
        if entry.dtype == tf.float32
    }
    if served.sizes.history:
        needed[f.HISTORY] = tf.io.VarLenFeature(tf.string)
    return needed


def _default(dtype: tf.DType) -> str | float:
    return "" if dtype == tf.string else 0.0


def _flat(values: tf.Tensor | tf.SparseTensor, default: str | float) -> tf.Tensor:
    """One value per row, (batch,); the default where there is none."""
    if isinstance(values, tf.SparseTensor):
        shape = [values.dense_shape[0], 1]
        column = tf.SparseTensor(values.indices, values.values, shape)
        values = tf.sparse.to_dense(column, tf.cast(default, values.dtype))
    return tf.reshape(values, [-1])


def _as_raw(columns: Tensors, spec: dict[str, Any]) -> Tensors:
    """Columns (batch,) or (batch, width) in the form that Transform's graph was built with."""
    raw: Tensors = {}
    for name, values in columns.items():
        # No row had a value, so that the schema lacks the column.
        if name not in spec:
            continue
        if isinstance(spec[name], tf.io.VarLenFeature):
            column = values if len(values.shape) == 2 else values[:, None]
            raw[name] = tf.sparse.from_dense(column)
        else:
            raw[name] = tf.reshape(values, [-1, *spec[name].shape])
    return raw
