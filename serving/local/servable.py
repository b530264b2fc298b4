"""One loaded version of a SavedModel, run the way TensorFlow Serving runs it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenisation ops that models carry
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving.local.status import StatusError, invalid_argument

__all__ = ["DEFAULT_SIGNATURE", "Servable", "is_complete"]

DEFAULT_SIGNATURE = "serving_default"
_GRAPH = "saved_model.pb"
_INITIALISER = "__saved_model_init_op"
_WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
_WARMUP_LIMIT = 1_000  # records, as tensorflow/serving


def is_complete(path: Path) -> bool:
    """Whether the graph is there; a push copies it last, after what it refers to."""
    return (path / _GRAPH).is_file()


class Servable:
    """A SavedModel in memory. `run` may be called from many threads at once.

    Args:
        path: a folder with `saved_model.pb`, `variables/` and `assets/`.
        version: the number it is served under.

    Raises:
        Exception: whatever TensorFlow says of a folder it cannot load, and
            StatusError if a warm-up record fails.
    """

    def __init__(self, path: Path, version: int) -> None:
        self.version = version
        graph = saved_model_pb2.SavedModel.FromString((path / _GRAPH).read_bytes())
        if not graph.meta_graphs:
            raise ValueError(f"{path / _GRAPH} holds no graph")
        definitions = graph.meta_graphs[0].signature_def
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {
            name: definitions[name] for name in definitions if name != _INITIALISER
        }
        self._model = tf.saved_model.load(str(path))
        self._warm_up(path / _WARMUP)

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """The definition of a signature; an empty name means `serving_default`.

        Raises:
            StatusError: FAILED_PRECONDITION, no such signature.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        return self.signatures[name]

    def run(
        self, name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
            name: of the signature; empty for `serving_default`.
            inputs: one array per named input.
            outputs: names wanted; all of them if empty.

        Raises:
            StatusError: the inputs do not fit the signature, or the graph refused them.
        """
        definition = self.signature(name)
        unknown = sorted(set(outputs) - set(definition.outputs))
        if unknown:
            raise invalid_argument(
                f"output tensor alias not found in signature: {unknown[0]} Outputs expected "
                f"to be in the set {{{','.join(sorted(definition.outputs))}}}."
            )
        tensors = _fit(definition, inputs)
        try:
            results = self._model.signatures[name or DEFAULT_SIGNATURE](**tensors)
        except UnicodeDecodeError:  # TensorFlow's complaint quotes the bytes it complains of
            raise invalid_argument("the graph refused bytes that are no text") from None
        return {key: results[key].numpy() for key in (outputs or sorted(results))}

    def _warm_up(self, path: Path) -> None:
        if not path.is_file():
            return
        for record in tf.data.TFRecordDataset(str(path)).take(_WARMUP_LIMIT).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            self.run(request.model_spec.signature_name, inputs)


def _fit(
    definition: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray]
) -> dict[str, tf.Tensor]:
    """The inputs as tensors of the declared types and shapes."""
    given = dict(inputs)
    for name, default in definition.defaults.items():
        given.setdefault(name, tf.make_ndarray(default))
    if set(given) != set(definition.inputs):
        extra = ",".join(sorted(set(given) - set(definition.inputs)))
        missing = ",".join(sorted(set(definition.inputs) - set(given)))
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(definition.inputs)} "
            f"Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
        )
    return {name: _tensor(name, given[name], info) for name, info in definition.inputs.items()}


def _tensor(name: str, value: np.ndarray, info: meta_graph_pb2.TensorInfo) -> tf.Tensor:
    wanted = tf.dtypes.as_dtype(info.dtype)
    given = tf.string if value.dtype.kind in "OSU" else tf.dtypes.as_dtype(value.dtype)
    if given != wanted:
        raise invalid_argument(
            f"Expects input '{name}' to be {wanted.name} but {given.name} is provided"
        )
    shape = tf.TensorShape(info.tensor_shape)
    if not shape.is_compatible_with(value.shape):
        raise invalid_argument(
            f"Expects input '{name}' to have shape {shape} but got {list(value.shape)}"
        )
    return tf.constant(value, dtype=wanted)
