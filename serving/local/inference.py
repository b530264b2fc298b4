"""Classify and regress: tf.Examples in, labelled scores or numbers out."""

from collections.abc import Callable, Sequence

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.local.servable import DEFAULT_SIGNATURE, Servable
from serving.local.status import StatusError, invalid_argument

__all__ = ["CLASSIFY", "REGRESS", "classify", "multi_inference", "regress"]

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_INPUTS, _OUTPUTS, _CLASSES, _SCORES = "inputs", "outputs", "classes", "scores"


def classify(
    servable: Servable, signature_name: str, given: input_pb2.Input
) -> classification_pb2.ClassificationResult:
    """Labels and scores of each example.

    Raises:
        StatusError: INVALID_ARGUMENT, the signature is none for classification, or no example.
    """
    name, definition = _signature(servable, signature_name)
    if len(definition.outputs) > 2:
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(definition.outputs)}"
        )
    wanted = [key for key in (_CLASSES, _SCORES) if key in definition.outputs]
    if not wanted:
        raise invalid_argument(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}".'
        )
    examples = _examples(given)
    outputs = servable.run(name, {_INPUTS: _batch(examples)}, wanted)
    for key, array in outputs.items():
        _require(key, array, object if key == _CLASSES else np.float32)
        if array.ndim != 2 or len(array) != len(examples):
            raise invalid_argument(
                f"Expected classification output {key} of shape [{len(examples)}, classes] but "
                f"got {list(array.shape)}"
            )
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if len({array.shape for array in outputs.values()}) > 1:
        raise invalid_argument("Tensors class and score should match in dim_size(1)")
    result = classification_pb2.ClassificationResult()
    for row in range(len(examples)):
        entry = result.classifications.add()
        for column in range(next(iter(outputs.values())).shape[1]):
            one = entry.classes.add()
            if classes is not None:
                one.label = classes[row, column].decode(errors="replace")
            if scores is not None:
                one.score = float(scores[row, column])
    return result


def regress(
    servable: Servable, signature_name: str, given: input_pb2.Input
) -> regression_pb2.RegressionResult:
    """A number for each example.

    Raises:
        StatusError: INVALID_ARGUMENT, the signature is none for regression, or no example.
    """
    name, definition = _signature(servable, signature_name)
    if len(definition.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _OUTPUTS not in definition.outputs:
        raise invalid_argument("No regression outputs found in SignatureDef")
    examples = _examples(given)
    array = servable.run(name, {_INPUTS: _batch(examples)}, [_OUTPUTS])[_OUTPUTS]
    _require(_OUTPUTS, array, np.float32)
    if array.shape not in ((len(examples),), (len(examples), 1)):
        raise invalid_argument(
            f"Expected regression output of shape [{len(examples)}] but got {list(array.shape)}"
        )
    result = regression_pb2.RegressionResult()
    for value in array.reshape(-1):
        result.regressions.add(value=float(value))
    return result


def multi_inference(
    resolve: Callable[[model_pb2.ModelSpec], Servable],
    request: inference_pb2.MultiInferenceRequest,
) -> inference_pb2.MultiInferenceResponse:
    """Several of the two over the same examples, of one model.

    Raises:
        StatusError: INVALID_ARGUMENT for no tasks, several models or a signature twice;
            UNIMPLEMENTED for another method.
    """
    if not request.tasks:
        raise invalid_argument("Inference request has no tasks")
    if len({task.model_spec.name for task in request.tasks}) > 1:
        raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must name one model")
    names = [task.model_spec.signature_name or DEFAULT_SIGNATURE for task in request.tasks]
    for name in names:
        if names.count(name) > 1:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        servable, name = resolve(task.model_spec), task.model_spec.signature_name
        entry = response.results.add()
        entry.model_spec.name = task.model_spec.name
        entry.model_spec.version.value = servable.version
        entry.model_spec.signature_name = name or DEFAULT_SIGNATURE
        if task.method_name == CLASSIFY:
            entry.classification_result.CopyFrom(classify(servable, name, request.input))
        elif task.method_name == REGRESS:
            entry.regression_result.CopyFrom(regress(servable, name, request.input))
        else:
            raise StatusError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"Unsupported signature method_name: {task.method_name}",
            )
    return response


def _signature(servable: Servable, name: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """One that takes tf.Examples. What it is for is not asked, as TensorFlow Serving does not
    unless it is told to: what Keras exports is all for predictions, by its name.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    definition = servable.signatures[name]
    if len(definition.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if _INPUTS not in definition.inputs:
        raise invalid_argument(f"No input called {_INPUTS} found in SignatureDef")
    return name, definition


def _examples(given: input_pb2.Input) -> list[bytes]:
    """Serialised, with the context that they share."""
    context, examples = b"", given.example_list.examples
    if given.WhichOneof("kind") == "example_list_with_context":
        # Messages are merged by joining their bytes; what comes later counts.
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    if not examples:
        raise invalid_argument("Input is empty.")
    return [context + example.SerializeToString() for example in examples]


def _batch(examples: Sequence[bytes]) -> np.ndarray:
    batch = np.empty(len(examples), dtype=object)
    batch[:] = examples
    return batch


def _require(name: str, array: np.ndarray, dtype: type) -> None:
    if array.dtype != dtype:
        wanted = "DT_STRING" if dtype is object else "DT_FLOAT"
        raise invalid_argument(f"Expected {name} Tensor of {wanted}. Got: {array.dtype}")
