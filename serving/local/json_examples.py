"""Classify and regress in TensorFlow Serving's JSON: examples in, results out."""

import base64
import binascii
import json
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.local.json_tensor import is_base64, parse_object, quote, signature_of
from serving.local.status import invalid_argument

__all__ = ["decode_examples", "encode_classes", "encode_regressions"]

_INT64 = range(-(2**63), 2**63)
_LARGEST_FLOAT = 3.4028235e38


def decode_examples(body: bytes) -> tuple[str, input_pb2.Input]:
    """The name of the signature, empty for the default one, and the examples.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    document = parse_object(body)
    name = signature_of(document)
    given = input_pb2.Input()
    into = given.example_list
    if "context" in document:
        into = given.example_list_with_context
        _fill(document["context"], into.context)
    if "examples" not in document:
        raise invalid_argument(
            "When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid_argument("Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid_argument("'examples' value is an empty array")
    for example in examples:
        _fill(example, into.examples.add())
    return name, given


def encode_classes(result: classification_pb2.ClassificationResult) -> bytes:
    """For each example a list of [label, score]."""
    rows = [
        [[one.label, _float(one.score)] for one in row.classes] for row in result.classifications
    ]
    return json.dumps({"results": rows}).encode()


def encode_regressions(result: regression_pb2.RegressionResult) -> bytes:
    """A number for each example."""
    return json.dumps({"results": [_float(one.value) for one in result.regressions]}).encode()


def _float(value: float) -> float:
    """The shortest decimal of the float32, not of the double it became."""
    return float(str(tf.constant(value, tf.float32).numpy()))


def _fill(value: Any, example: tf.train.Example) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got {quote(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            kind, converted = _converted(name, item)
            if feature.WhichOneof("kind") not in (None, kind):
                raise invalid_argument(
                    f"Unexpected element type in feature: {name} expecting type: "
                    f"{str(feature.WhichOneof('kind')).removesuffix('_list')}"
                )
            getattr(feature, kind).value.append(converted)


def _converted(name: str, item: Any) -> tuple[str, Any]:
    """The kind of feature that a JSON value makes, and the value."""
    match item:
        case bool():
            return "int64_list", int(item)
        case int() if item in _INT64:
            return "int64_list", item
        case float():
            if abs(item) > _LARGEST_FLOAT and abs(item) != float("inf"):
                raise invalid_argument(
                    f"Cannot convert JSON value: {quote(item)} to float without loss of precision."
                )
            return "float_list", item
        case str():
            try:
                return "bytes_list", item.encode()
            except UnicodeEncodeError:
                raise invalid_argument(
                    f"Feature: {name}: JSON Parse error: The surrogate pair in string is invalid."
                ) from None
        case dict() if is_base64(item):
            try:
                return "bytes_list", base64.b64decode(item["b64"], validate=True)
            except (binascii.Error, ValueError):
                raise invalid_argument("Unable to base64 decode") from None
    raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {quote(item)}")
