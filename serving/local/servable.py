"""One loaded version of a SavedModel, run the way TensorFlow Serving runs it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenisation ops that models carry
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving.local.batching import BatchingParameters, MicroBatcher
from serving.local.metrics import Metrics
from serving.local.status import StatusError, invalid_argument

__all__ = ["DEFAULT_SIGNATURE", "Servable", "is_complete"]

Arrays = dict[str, np.ndarray]

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
        name: of the model.
        batching: how requests are joined; None runs each alone.
        metrics: that runs are counted in.

    Raises:
        Exception: whatever TensorFlow says of a folder it cannot load, and
            StatusError if a warm-up record fails.
    """

    def __init__(
        self,
        path: Path,
        version: int,
        name: str = "",
        batching: BatchingParameters | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.version = version
        self._name = name
        self._batching = batching
        self._metrics = metrics or Metrics()
        self._batchers: dict[str, MicroBatcher] = {}
        graph = saved_model_pb2.SavedModel.FromString((path / _GRAPH).read_bytes())
        if not graph.meta_graphs:
            raise ValueError(f"{path / _GRAPH} holds no graph")
        definitions = graph.meta_graphs[0].signature_def
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {
            name: definitions[name] for name in definitions if name != _INITIALISER
        }
        self._model = tf.saved_model.load(str(path))
        self._warm_up(path / _WARMUP)
        if batching is not None:
            self._batchers = {
                key: MicroBatcher(self._runner(key), batching, self._queued)
                for key in self.signatures
            }

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
        name = name or DEFAULT_SIGNATURE
        arrays = _fit(definition, inputs)
        run = self._batchers[name] if name in self._batchers else self._runner(name)
        results = run(arrays)
        return {key: results[key] for key in (outputs or sorted(results))}

    def _runner(self, name: str) -> Callable[[Arrays], Arrays]:
        """Runs arrays that fit a signature."""
        function, definition = self._model.signatures[name], self.signatures[name]
        dtypes = {key: tf.dtypes.as_dtype(info.dtype) for key, info in definition.inputs.items()}
        labels = {"model_name": self._name, "API": "Predict", "runtime": "TF1"}

        def run(arrays: Arrays) -> Arrays:
            started = time.perf_counter()
            tensors = {key: tf.constant(array, dtypes[key]) for key, array in arrays.items()}
            try:
                results = function(**tensors)
            except UnicodeDecodeError:  # TensorFlow's complaint quotes the bytes it complains of
                raise invalid_argument("the graph refused bytes that are no text") from None
            micros = 1e6 * (time.perf_counter() - started)
            self._metrics.observe(":tensorflow:serving:runtime_latency", labels, micros)
            return {key: result.numpy() for key, result in results.items()}

        return run

    def _queued(self, micros: float) -> None:
        name = ":tensorflow:serving:batching_session:queuing_latency"
        self._metrics.observe(name, {"thread_pool_name": "batch_threads"}, micros)

    def _warm_up(self, path: Path) -> None:
        if not path.is_file():
            return
        for record in tf.data.TFRecordDataset(str(path)).take(_WARMUP_LIMIT).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                continue
            request = log.predict_log.request
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            self.run(request.model_spec.signature_name, inputs)


def _fit(definition: meta_graph_pb2.SignatureDef, given: Mapping[str, np.ndarray]) -> Arrays:
    """The inputs, with defaults for those left out, of the declared types and shapes."""
    extra, missing = set(given) - set(definition.inputs), set(definition.inputs) - set(given)
    if len(given) > len(definition.inputs) or (missing and not definition.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(definition.inputs)} "
            f"len({{{_listed(given)}}}) != len({{{_listed(definition.inputs)}}}). "
            f"Sent extra: {{{_listed(extra)}}}. Missing but required: {{{_listed(missing)}}}."
        )
    for name in sorted(missing - set(definition.defaults)):
        raise invalid_argument(
            f"Signature input alias: {name}(feed name: {definition.inputs[name].name}) not found "
            "in request and no default value provided. Inputs expected to be in the request "
            f"{{{_listed(given)}}}, or default input alias set: {{{_listed(definition.defaults)}}}"
        )
    if extra:
        raise invalid_argument(
            f"Inputs contains invalid name. Sent extra: {{{_listed(extra)}}}. Expected some of "
            f"{{{_listed(definition.inputs)}}}."
        )
    filled = {name: tf.make_ndarray(definition.defaults[name]) for name in missing} | dict(given)
    return {name: _array(name, filled[name], info) for name, info in definition.inputs.items()}


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _array(name: str, value: np.ndarray, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
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
    return value
