"""Requests nobody should send, and what a good server answers."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
import urllib3
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

from heft import features as f
from heft.serving_process import ServerProcess

__all__ = ["Attempt", "hostile_requests", "optional_columns"]

Columns = dict[str, np.ndarray]

# Text that is unusual but not wrong: it has to be answered.
_TEXTS = {
    "10,000-character text": "lamp " * 2_000,
    "emoji": "📺 tv 👩‍👩‍👧‍👦 🇳🇱",
    "HTML": "<script>alert('tv')</script> &amp; <b>lamp</b>",
    "control characters": "tv\x00\x07\u202e\ufeff\n\t lamp",
    "right-to-left and combining": "תלפזיון e\u0301\u0301\u0301",
    "only spaces": "   ",
    "empty text": "",
}


@dataclass(frozen=True)
class Attempt:
    """One request and how it went."""

    name: str
    passed: bool
    detail: str


def hostile_requests(
    server: ServerProcess, columns: Columns, timeout: float, optional: Collection[str] = ()
) -> Iterator[Attempt]:
    """Sends each request and yields how it went; never raises for what the server does.

    Args:
        server: a ready one.
        columns: the raw columns of at least one good row.
        timeout: seconds for one request.
        optional: columns that the model has a default for.
    """
    row = {name: values[0] for name, values in columns.items()}
    yield from _over_rest(server.rest_target, row, timeout)
    target = server.grpc_target.removeprefix("grpc://")
    yield from _over_grpc(target, row, timeout, optional)


def optional_columns(model_dir: str) -> frozenset[str]:
    """Columns of `serving_default` that have a default."""
    with tf.io.gfile.GFile(f"{model_dir.rstrip('/')}/saved_model.pb", "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read())
    return frozenset(graph.meta_graphs[0].signature_def["serving_default"].defaults)


def _over_rest(target: str, row: dict[str, Any], timeout: float) -> Iterator[Attempt]:
    good = {name: _plain(value) for name, value in row.items()}
    text = next((name for name, value in good.items() if isinstance(value, str)), None)
    number = next((name for name, value in good.items() if not isinstance(value, str)), None)
    needed = _needed(good)
    model = "/v1/models/heft"

    def instances(*rows: Any) -> bytes:
        return json.dumps({"instances": list(rows)}).encode()

    refused: list[tuple[str, str, bytes, int]] = [
        ("empty body", f"{model}:predict", b"", 400),
        ("broken JSON", f"{model}:predict", b'{"instances": [', 400),
        ("JSON nested 10,000 deep", f"{model}:predict", b"[" * 10_000, 400),
        ("empty batch", f"{model}:predict", instances(), 400),
        ("null row", f"{model}:predict", instances(None), 400),
        ("missing column", f"{model}:predict", instances(_drop(good, needed)), 400),
        ("columns of different lengths", f"{model}:predict", _uneven(good, needed), 400),
        ("unknown column", f"{model}:predict", instances({**good, "no_such_column": 1}), 400),
        ("columns and rows", f"{model}:predict", b'{"instances": [1], "inputs": [1]}', 400),
        (
            "unknown signature",
            f"{model}:predict",
            json.dumps({"signature_name": "none", "instances": [good]}).encode(),
            400,
        ),
        ("unknown version", f"{model}/versions/987654321:predict", instances(good), 404),
        ("unknown model", "/v1/models/no_such_model:predict", instances(good), 404),
        ("malformed path", f"{model}/predict/..%2f", instances(good), 400),
    ]
    if text is not None:
        wrong = instances({**good, text: 3.5})
        refused.append((f"number for text {text}", f"{model}:predict", wrong, 400))
    if number is not None:
        wrong = instances({**good, number: "cheap"})
        refused.append((f"text for number {number}", f"{model}:predict", wrong, 400))
    with urllib3.PoolManager(timeout=timeout, retries=False) as pool:
        for name, path, body, status in refused:
            yield _try_rest(f"REST {name}", pool, f"{target}{path}", body, status)
        for name, value in _TEXTS.items():
            unusual = {k: value if isinstance(v, str) else v for k, v in good.items()}
            url = f"{target}{model}:predict"
            yield _try_rest(f"REST {name}", pool, url, instances(unusual, good), 200)


def _try_rest(name: str, pool: urllib3.PoolManager, url: str, body: bytes, wanted: int) -> Attempt:
    try:
        response = pool.request("POST", url, body=body)
        answer = json.loads(response.data)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        return Attempt(name, False, f"no readable answer: {error}")
    if response.status != wanted:
        return Attempt(name, False, f"status {response.status}, expected {wanted}: {answer!s:.300}")
    if wanted != 200:
        told = bool(isinstance(answer, dict) and answer.get("error"))
        return Attempt(name, told, f"{wanted}" if told else f"no error text: {answer!s:.300}")
    values = [value for prediction in answer["predictions"] for value in prediction.values()]
    sound = len(answer["predictions"]) == 2 and all(0 <= value <= 1 for value in values)
    return Attempt(name, sound, "200" if sound else f"not probabilities: {answer!s:.300}")


def _over_grpc(
    target: str, row: dict[str, Any], timeout: float, optional: Collection[str]
) -> Iterator[Attempt]:
    good = {name: tf.make_tensor_proto(np.asarray([value])) for name, value in row.items()}
    empty = {
        name: tf.make_tensor_proto([], dtype=tf.dtypes.as_dtype(proto.dtype))
        for name, proto in good.items()
    }
    first, needed = next(iter(good)), _needed(good)
    integers = tf.make_tensor_proto(np.asarray([1], np.int64))
    invalid = (grpc.StatusCode.INVALID_ARGUMENT,)
    tries: list[tuple[str, str, dict[str, Any], tuple[grpc.StatusCode, ...]]] = [
        ("empty batch", "", empty, (grpc.StatusCode.OK, *invalid)),
        ("missing column", "", _drop(good, needed), invalid),
        ("wrong type", "", {**good, first: integers}, invalid),
        ("bytes that are no tf.Example", "examples",
         {"examples": tf.make_tensor_proto([b"\xff\xfe not an example"])}, invalid),
        ("unknown signature", "none", good,
         (grpc.StatusCode.FAILED_PRECONDITION, *invalid)),
    ]  # fmt: skip
    if optional:
        brief = {name: proto for name, proto in good.items() if name not in optional}
        tries.append(("optional columns left out", "", brief, (grpc.StatusCode.OK,)))
        twice = {name: tf.make_tensor_proto(np.asarray([row[name]] * 2)) for name in brief}
        once = twice | {needed: good[needed]}
        tries.append(("one query for all rows", "", once, (grpc.StatusCode.OK,)))
    with grpc.insecure_channel(target) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for name, signature, inputs, wanted in tries:
            spec = model_pb2.ModelSpec(name="heft", signature_name=signature)
            request = predict_pb2.PredictRequest(model_spec=spec, inputs=inputs)
            yield _try_grpc(f"gRPC {name}", predict, request, timeout, wanted)


def _try_grpc(
    name: str,
    predict: Callable[..., Any],
    request: predict_pb2.PredictRequest,
    timeout: float,
    wanted: tuple[grpc.StatusCode, ...],
) -> Attempt:
    code, said = grpc.StatusCode.OK, ""
    try:
        predict(request, timeout=timeout)
    except grpc.RpcError as error:
        code, said = error.code(), str(error.details())
    passed = code in wanted
    expected = " or ".join(status.name for status in wanted)
    return Attempt(
        name, passed, code.name if passed else f"{code.name} for {expected}: {said:.300}"
    )


def _needed(columns: dict[str, Any]) -> str:
    """A column that nothing stands for if it is left out."""
    return f.QUERY if f.QUERY in columns else next(iter(columns))


def _uneven(good: dict[str, Any], name: str) -> bytes:
    """Three rows of all columns, two of one."""
    columns = {key: [value] * (2 if key == name else 3) for key, value in good.items()}
    return json.dumps({"inputs": columns}).encode()


def _drop(columns: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in columns.items() if key != name}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return [_plain(part) for part in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value
