"""Tensors in TensorFlow Serving's two JSON formats, row and column."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.local.status import invalid_argument

__all__ = [
    "PredictBody", "decode_inputs", "encode_outputs", "is_base64", "parse_body", "parse_object",
    "quote", "signature_of",
]  # fmt: skip

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]

_QUOTED = 200  # characters of an offending value that a message repeats


@dataclass(frozen=True)
class PredictBody:
    """A parsed request body: exactly one of the two formats."""

    signature_name: str
    rows: bool  # `instances` in, `predictions` out; else `inputs` and `outputs`
    value: Any


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that every request body is.

    Raises:
        StatusError: INVALID_ARGUMENT, in the words of TensorFlow Serving where it has some.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {quote(document)} Is not object")
    return document


def signature_of(document: dict[str, Any]) -> str:
    """The name of the signature that a body asks for; empty for the default one.

    Raises:
        StatusError: INVALID_ARGUMENT, it is no text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument("'signature_name' key must be a string value.")
    return name


def parse_body(body: bytes) -> PredictBody:
    """Reads a predict request.

    Raises:
        StatusError: INVALID_ARGUMENT, in the words of TensorFlow Serving where it has some.
    """
    document = parse_object(body)
    signature_name = signature_of(document)
    if "instances" in document and "inputs" in document:
        raise invalid_argument(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "inputs" in document:
        return PredictBody(signature_name, False, document["inputs"])
    if "instances" not in document:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise invalid_argument("Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid_argument("No values in 'instances' array")
    return PredictBody(signature_name, True, instances)


def decode_inputs(body: PredictBody, inputs: Inputs) -> dict[str, np.ndarray]:
    """The arrays of a request; JSON has to name every input, defaults or not.

    Args:
        body: as parsed.
        inputs: the named inputs of the signature.

    Raises:
        StatusError: INVALID_ARGUMENT, a value, a name or a shape does not fit.
    """
    return _from_rows(body.value, inputs) if body.rows else _from_columns(body.value, inputs)


def _from_columns(value: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        return {_only_name(inputs, "inputs is a plain value/list"): _array(value, inputs)}
    missing = sorted(set(inputs) - set(value))
    if missing:
        raise invalid_argument(f"Missing named input: {missing[0]} in 'inputs' object.")
    return {name: _array(value[name], inputs, name) for name in inputs}


def _from_rows(rows: list[Any], inputs: Inputs) -> dict[str, np.ndarray]:
    if not _is_object(rows[0]):
        name = _only_name(inputs, "instances is a plain list")
        for index, row in enumerate(rows):
            if _is_object(row):
                raise invalid_argument(
                    f"Expecting value/list but got object at item {index} of input list"
                )
        return {name: _array(rows, inputs)}
    for index, row in enumerate(rows):
        if not _is_object(row):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        if set(row) != set(inputs):
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{quote(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {name: _array([row[name] for row in rows], inputs, name) for name in inputs}


def _only_name(inputs: Inputs, what: str) -> str:
    if len(inputs) != 1:
        raise invalid_argument(
            f"{what}, but expecting named values as multiple input tensors are required: "
            f"{','.join(sorted(inputs))}"
        )
    return next(iter(inputs))


def _array(value: Any, inputs: Inputs, name: str | None = None) -> np.ndarray:
    name = next(iter(inputs)) if name is None else name
    dtype = tf.dtypes.as_dtype(inputs[name].dtype)
    shape = _shape(value)
    flat: list[Any] = []
    _flatten(name, value, 0, shape, flat)
    if dtype == tf.string:
        strings = np.empty(len(flat), dtype=object)
        strings[:] = [_bytes(name, item) for item in flat]
        return strings.reshape(shape)
    for item in flat:
        _require_number(name, item, dtype)
    return np.asarray(flat, dtype=dtype.as_numpy_dtype).reshape(shape)


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _flatten(name: str, value: Any, level: int, shape: list[int], flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"Input {name}: JSON Value: {quote(value)} found at incorrect level: "
                f"{level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            )
        flat.append(value)
        return
    if level >= len(shape) or len(value) != shape[level]:
        raise invalid_argument(
            f"Input {name}: Encountered list at unexpected size or level: {len(value)} at "
            f"level: {level}, expected shape {shape}"
        )
    for item in value:
        _flatten(name, item, level + 1, shape, flat)


def _bytes(name: str, item: Any) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError:
            raise invalid_argument(
                f"Input {name}: JSON Parse error: The surrogate pair in string is invalid."
            ) from None
    if is_base64(item):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise invalid_argument(f"Input {name}: Unable to base64 decode") from None
    raise _type_error(name, item, tf.string)


def _require_number(name: str, item: Any, dtype: tf.DType) -> None:
    if dtype.is_bool:
        if not isinstance(item, bool):
            raise _type_error(name, item, dtype)
        return
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise _type_error(name, item, dtype)
    if dtype.is_integer:
        if not isinstance(item, int) or not dtype.min <= item <= dtype.max:
            raise _type_error(name, item, dtype)
    elif not dtype.is_floating:
        raise invalid_argument(f"Input {name}: JSON cannot carry {dtype.name}")
    elif item not in (float("inf"), float("-inf")) and abs(item) > _largest(item, dtype):
        raise invalid_argument(
            f"Input {name}: Cannot convert JSON value: {quote(item)} to {dtype.name} without "
            "loss of precision."
        )


def _largest(item: int | float, dtype: tf.DType) -> float:
    """An integer has to be one of those that the float tells from its neighbours."""
    if isinstance(item, int):
        return float(2 ** (np.finfo(dtype.as_numpy_dtype).nmant + 1) - 1)
    return float(dtype.max)


def _type_error(name: str, item: Any, dtype: tf.DType) -> Exception:
    return invalid_argument(
        f"Input {name}: JSON Value: {quote(item)} Type: {type(item).__name__} is not of "
        f"expected type: {dtype.name}"
    )


def is_base64(value: Any) -> bool:
    """Whether a value is bytes, as `{"b64": …}`."""
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def quote(value: Any) -> str:
    """The beginning of a value, to be repeated in a message."""
    return json.dumps(value)[:_QUOTED]


def encode_outputs(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """The response body; a single output drops its name.

    Raises:
        StatusError: INVALID_ARGUMENT, rows are asked for and the outputs differ in length.
    """
    columns = {name: _plain(name, array) for name, array in outputs.items()}
    if not rows:
        value = next(iter(columns.values())) if len(columns) == 1 else columns
        return json.dumps({"outputs": value}).encode()
    lengths = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(lengths) != 1 or None in lengths:
        raise invalid_argument(
            "Outputs do not share a batch dimension; ask with 'inputs' for the column format"
        )
    if len(columns) == 1:
        return json.dumps({"predictions": next(iter(columns.values()))}).encode()
    names = list(columns)
    values = zip(*columns.values(), strict=True)
    predictions = [dict(zip(names, row, strict=True)) for row in values]
    return json.dumps({"predictions": predictions}).encode()


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype.kind in "OS":
        items = [_text(name, item) for item in array.ravel()]
        return _nest(items, array.shape)
    if array.dtype == np.float32:
        # The shortest decimal of the float32, not of the double it becomes.
        return _nest([float(str(item)) for item in array.ravel()], array.shape)
    return array.tolist()


def _text(name: str, item: bytes) -> Any:
    if not name.endswith("_bytes"):
        try:
            return item.decode()
        except UnicodeDecodeError:
            pass  # not text: base64, as for a name that says so
    return {"b64": base64.b64encode(item).decode()}


def _nest(items: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return items[0]
    if len(shape) == 1:
        return items
    width = len(items) // shape[0] if shape[0] else 0
    return [_nest(items[i * width : (i + 1) * width], shape[1:]) for i in range(shape[0])]
