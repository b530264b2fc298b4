"""The contract of TensorFlow Serving, asked of real processes over real sockets.

The stand-in has to pass, and TensorFlow Serving too wherever one can be reached; see
tests/unit/serving/contract.py. One server answers the whole module, for a start takes
seconds: `heft` and `single` stand still, `swapped` gets versions, `labelled` labels.
"""

import base64
import concurrent.futures
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import urllib3
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.client import Client
from serving.labels import move_labels
from serving.local.status import HTTP_STATUS
from tests.unit.serving.contract import ONE, ROW, Served, models_config, real_server
from tests.unit.serving.models import COLUMNS
from tests.unit.serving.server import Server, wait_until

OTHER = ROW | {"query": "lamp", "price": 1.0}
POOL = urllib3.PoolManager(retries=False, timeout=20)
CODE = grpc.StatusCode


@pytest.fixture(
    scope="module", params=["stand-in", *(["tensorflow/serving"] if real_server() else [])]
)
def served(
    request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    if request.param != "stand-in":
        yield real_server()
        return
    root = tmp_path_factory.mktemp("contract") / "models"
    shutil.copytree(exported, root)
    server = Server(root, "--model-config-file", str(models_config(root, str(root))))
    server.start()
    yield Served(server.rest, server.grpc, root)
    code, stdout, _ = server.stop()
    assert code == 0
    assert len(stdout.splitlines()) == 1, "one ready line and nothing else"


def _ask(served: Served, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    response = POOL.request(method, f"{served.rest}{path}", body=data)
    assert response.headers["Content-Type"].startswith("application/json")
    return response.status, json.loads(response.data)


def _oracle(served: Served, rows: list[dict[str, Any]], offset: int = 0) -> dict[str, np.ndarray]:
    model = tf.saved_model.load(str(served.root / "exported" / str(offset)))
    columns = {name: tf.constant([row[name] for row in rows]) for name in COLUMNS}
    return {k: v.numpy() for k, v in model.signatures["serving_default"](**columns).items()}


def _example(row: dict[str, Any]) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in row.items():
        if name == "price":
            example.features.feature[name].float_list.value.append(value)
        else:
            example.features.feature[name].bytes_list.value.append(value.encode())
    return example


def _tensors(**columns: Any) -> dict[str, Any]:
    return {name: tf.make_tensor_proto(values) for name, values in columns.items()}


@pytest.fixture
def predictions(served: Served) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with grpc.insecure_channel(served.grpc.removeprefix("grpc://")) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_every_code_has_the_http_status_of_the_contract() -> None:
    said = {
        400: ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"),
        404: ("NOT_FOUND",), 409: ("ALREADY_EXISTS", "ABORTED"), 429: ("RESOURCE_EXHAUSTED",),
        499: ("CANCELLED",), 500: ("INTERNAL", "UNKNOWN", "DATA_LOSS"), 501: ("UNIMPLEMENTED",),
        503: ("UNAVAILABLE",), 504: ("DEADLINE_EXCEEDED",),
    }  # fmt: skip
    for status, names in said.items():
        assert [HTTP_STATUS[CODE[name]] for name in names] == [status] * len(names)


def test_rows_columns_and_grpc_answer_what_the_savedmodel_predicts(served: Served) -> None:
    expected = _oracle(served, [ROW, OTHER])
    status, rows = _ask(served, "/v1/models/heft:predict", {"instances": [ROW, OTHER]})
    assert status == 200
    columns = {name: [ROW[name], OTHER[name]] for name in COLUMNS}
    status, answer = _ask(served, "/v1/models/heft/versions/1:predict", {"inputs": columns})
    assert status == 200
    with Client(served.grpc) as client:
        over_grpc = client.predict(columns)
    assert set(expected) == {"ctr", "cvr", "ctcvr"} == set(over_grpc)
    for name, values in expected.items():
        # Float32 survives the decimal text exactly.
        assert np.array_equal(np.float32([row[name] for row in rows["predictions"]]), values)
        assert np.array_equal(np.float32(answer["outputs"][name]), values)
        assert np.array_equal(over_grpc[name], values)


def test_a_single_named_input_or_output_drops_its_name(served: Served) -> None:
    path = "/v1/models/single:predict"
    for body, key in (
        ({"instances": [[1.5, 2], [3, 4]]}, "predictions"),
        ({"instances": [{"x": [1.5, 2]}, {"x": [3, 4]}]}, "predictions"),
        ({"inputs": [[1.5, 2], [3, 4]]}, "outputs"),
        ({"inputs": {"x": [[1.5, 2], [3, 4]]}}, "outputs"),
    ):
        assert _ask(served, path, body) == (200, {key: [3.5, 7.0]})


def test_what_is_no_number_is_written_as_json_is_not(served: Served) -> None:
    body = b'{"inputs": [[Infinity, 1], [-Infinity, 1], [NaN, 1], [0.1, 0]]}'
    status, answer = _ask(served, "/v1/models/single:predict", body)
    assert status == 200
    assert answer["outputs"][:2] == [np.inf, -np.inf]
    assert np.isnan(answer["outputs"][2])
    assert answer["outputs"][3] == 0.1


def test_base64_is_bytes_and_the_examples_signature_takes_it(served: Served) -> None:
    encoded = {"b64": base64.b64encode(_example(ROW).SerializeToString()).decode()}
    named = {"signature_name": "examples", "instances": [{"examples": encoded}]}
    plain = {"signature_name": "examples", "instances": [encoded]}  # one input needs no name
    expected = _oracle(served, [ROW])["ctr"][0]
    for body in (named, plain):
        status, answer = _ask(served, "/v1/models/heft:predict", body)
        assert status == 200, answer
        assert answer["predictions"][0]["ctr"] == pytest.approx(expected, abs=1e-7)
    title = {"b64": base64.b64encode(ROW["title"].encode()).decode()}
    _, answer = _ask(served, "/v1/models/heft:predict", {"instances": [ROW | {"title": title}]})
    assert answer["predictions"][0]["ctr"] == pytest.approx(expected, abs=1e-7)


def test_classify_and_regress_answer_under_results(served: Served) -> None:
    expected = _oracle(served, [ROW, OTHER])["ctr"]
    shared = {"category": "tv", "brand": ["LG"], "device": "mobile", "title": ROW["title"]}
    own = [{"query": row["query"], "price": row["price"]} for row in (ROW, OTHER)]
    body = {"context": shared, "examples": own}
    status, answer = _ask(served, "/v1/models/heft:classify", body | {"signature_name": "classify"})
    assert status == 200, answer
    for row, rate in zip(answer["results"], expected, strict=True):
        assert [label for label, _ in row] == ["no click", "click"]
        assert [score for _, score in row] == pytest.approx([1 - rate, rate], abs=1e-6)
    status, answer = _ask(served, "/v1/models/heft:regress", body | {"signature_name": "regress"})
    assert (status, answer["results"]) == (200, pytest.approx(expected, abs=1e-6))


def test_classify_regress_and_both_at_once_over_grpc(
    served: Served, predictions: prediction_service_pb2_grpc.PredictionServiceStub
) -> None:
    rate = float(_oracle(served, [ROW])["ctr"][0])
    spec = {n: model_pb2.ModelSpec(name="heft", signature_name=n) for n in ("classify", "regress")}
    classification = classification_pb2.ClassificationRequest(model_spec=spec["classify"])
    classification.input.example_list.examples.append(_example(ROW))
    answer = predictions.Classify(classification, timeout=20)
    assert answer.model_spec.version.value == 1
    [row] = answer.result.classifications
    assert [one.label for one in row.classes] == ["no click", "click"]
    assert row.classes[1].score == pytest.approx(rate, abs=1e-6)
    regression = regression_pb2.RegressionRequest(model_spec=spec["regress"])
    regression.input.CopyFrom(classification.input)
    answer = predictions.Regress(regression, timeout=20)
    assert [one.value for one in answer.result.regressions] == pytest.approx([rate], abs=1e-6)
    both = inference_pb2.MultiInferenceRequest(input=classification.input)
    for name, one in spec.items():
        both.tasks.add(model_spec=one, method_name=f"tensorflow/serving/{name}")
    first, second = predictions.MultiInference(both, timeout=20).results
    assert first.classification_result.classifications == [row]
    assert second.regression_result.regressions[0].value == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "body", "words"),
    [
        # `serving_default` takes columns.
        ("classify", {"examples": [{"query": "tv"}]}, "Expected one input Tensor"),
        ("regress", {"examples": [{"query": "tv"}]}, "Expected one input Tensor"),
        ("classify", {"signature_name": "regress", "examples": [{"query": "tv"}]}, '"classes" or'),
        ("regress", {"signature_name": "classify", "examples": [{"query": "tv"}]}, "one output"),
        ("regress", {"signature_name": "no", "examples": [{"query": "tv"}]}, "with the name: no"),
        ("classify", {}, "'examples'"),
        ("classify", {"examples": []}, "empty array"),
        ("classify", {"examples": {}}, "list/array"),
        ("classify", {"examples": ["tv"]}, "must be JSON object"),
        ("classify", {"examples": [{"query": None}]}, "Feature: query"),
        ("classify", {"examples": [{"query": ["tv", 1]}]}, "Unexpected element type"),
        ("classify", {"examples": [{"query": {"b64": "*"}}]}, "base64"),
        ("regress", b"[1]", "not object"),
    ],
)
def test_classify_and_regress_refuse_in_words(
    served: Served, method: str, body: Any, words: str
) -> None:
    status, answer = _ask(served, f"/v1/models/heft:{method}", body)
    assert (status, list(answer)) == (400, ["error"])
    assert words.lower() in answer["error"].lower()


def test_status_and_metadata(served: Served) -> None:
    status, answer = _ask(served, "/v1/models/heft", method="GET")
    assert status == 200
    assert answer == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE",
             "status": {"error_code": "OK", "error_message": ""}}
        ]
    }  # fmt: skip
    status, answer = _ask(served, "/v1/models/heft/versions/1/metadata", method="GET")
    assert status == 200
    assert answer["model_spec"]["name"] == "heft"
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "examples", "classify", "regress"} <= set(signatures)
    price = signatures["serving_default"]["inputs"]["price"]
    assert price["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in price["tensor_shape"]["dim"]] == ["-1"]
    assert signatures["classify"]["method_name"] == "tensorflow/serving/classify"


def test_status_and_metadata_over_grpc(
    served: Served, predictions: prediction_service_pb2_grpc.PredictionServiceStub
) -> None:
    with grpc.insecure_channel(served.grpc.removeprefix("grpc://")) as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "heft"
        [status] = models.GetModelStatus(request, timeout=20).model_version_status
        assert (status.version, status.state) == (
            1,
            get_model_status_pb2.ModelVersionStatus.AVAILABLE,
        )
        request.model_spec.name = "none"
        with pytest.raises(grpc.RpcError) as raised:
            models.GetModelStatus(request, timeout=20)
        assert raised.value.code() is CODE.NOT_FOUND
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "single"
    packed = predictions.GetModelMetadata(asked, timeout=20).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    assert list(signatures.signature_def["serving_default"].outputs) == ["sum"]
    asked.metadata_field[:] = ["something else"]
    with pytest.raises(grpc.RpcError) as raised:
        predictions.GetModelMetadata(asked, timeout=20)
    assert raised.value.code() is CODE.INVALID_ARGUMENT


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key != name}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (":predict", b"", 400, "document is empty"),
        (":predict", b"{", 400, "JSON Parse error"),
        (":predict", [ROW], 400, "not object"),
        (":predict", {}, 400, "Missing 'inputs' or 'instances'"),
        (":predict", {"instances": [ROW], "inputs": [1]}, 400, "only one of"),
        (":predict", {"instances": []}, 400, "No values"),
        (":predict", {"instances": {}}, 400, "list/array"),
        (":predict", {"instances": [1]}, 400, "multiple"),
        (":predict", {"instances": [ROW, 1]}, 400, "item 1"),
        (":predict", {"instances": [ROW | {"more": 1}]}, 400, "more"),
        # JSON has to name every column, whether it has a default or not.
        (":predict", {"instances": [_without("query")]}, 400, "keys must be equal to"),
        (":predict", {"instances": [_without("device")]}, 400, "keys must be equal to"),
        (":predict", {"inputs": {k: [v] for k, v in _without("query").items()}}, 400, "query"),
        (":predict", {"instances": [ROW | {"price": "cheap"}]}, 400, "not of expected type"),
        (":predict", {"instances": [ROW | {"query": 3}]}, 400, "not of expected type"),
        (":predict", {"instances": [ROW | {"price": 2**24}]}, 400, "without loss of precision"),
        (":predict", {"instances": [ROW | {"price": 1e39}]}, 400, "without loss of precision"),
        (":predict", {"instances": [ROW | {"title": {"b64": "*"}}]}, 400, "base64"),
        (":predict", {"instances": [ROW], "signature_name": "no"}, 400, "not found in signature"),
        (":predict", {"instances": [ROW], "signature_name": 3}, 400, "must be a string"),
        ("/versions/7:predict", {"instances": [ROW]}, 404, "Specific(heft, 7)"),
        ("/versions/x:predict", {"instances": [ROW]}, 400, "Malformed request"),
        ("/labels/none:predict", {"instances": [ROW]}, 400, "Unrecognized servable version label"),
        (":predict/", {"instances": [ROW]}, 400, "Malformed request"),
        (":explode", {"instances": [ROW]}, 400, "Malformed request"),
        ("", {"instances": [ROW]}, 400, "Malformed request"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_words(
    served: Served, path: str, body: Any, status: int, words: str
) -> None:
    got, answer = _ask(served, f"/v1/models/heft{path}", body)
    assert (got, list(answer)) == (status, ["error"])
    assert words.lower() in answer["error"].lower()


def test_other_paths_and_methods(served: Served) -> None:
    assert _ask(served, "/v1/models/none", method="GET")[0] == 404
    assert _ask(served, "/v1/models/heft/versions/9", method="GET")[0] == 404
    assert _ask(served, "/v1/models/heft:predict", method="GET")[0] == 400
    assert _ask(served, "/v1/models", method="GET")[0] == 400
    assert _ask(served, "/v1/nothing", method="GET") == (
        400, {"error": "Malformed request: GET /v1/nothing"}
    )  # fmt: skip
    assert POOL.request("GET", f"{served.rest}/").status == 404
    # TensorFlow Serving says nothing of it: its answer has no body.
    path = f"{served.rest}/v1/models/heft/versions/{2**70}:predict"
    assert POOL.request("POST", path, body=json.dumps({"instances": [ROW]})).status == 400


def test_a_column_with_a_default_may_be_left_out_over_grpc(
    served: Served, predictions: prediction_service_pb2_grpc.PredictionServiceStub
) -> None:
    spec = model_pb2.ModelSpec(name="heft")
    bare = _tensors(query=["tv", "lamp"], title=["LG", "LG"])
    response = predictions.Predict(
        predict_pb2.PredictRequest(model_spec=spec, inputs=bare), timeout=20
    )
    unknown = {"category": "", "brand": "", "device": "", "price": 0.0, "title": "LG"}
    expected = _oracle(served, [unknown | {"query": "tv"}, unknown | {"query": "lamp"}])
    assert tf.make_ndarray(response.outputs["ctr"]) == pytest.approx(expected["ctr"], abs=1e-7)
    with pytest.raises(grpc.RpcError) as raised:
        predictions.Predict(
            predict_pb2.PredictRequest(model_spec=spec, inputs=_tensors(title=["LG"])), timeout=20
        )
    assert raised.value.code() is CODE.INVALID_ARGUMENT
    assert "query" in raised.value.details()


def test_grpc_refuses_with_the_right_codes(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    good = _tensors(**ONE)
    wrong = [
        ({}, "heft", "", CODE.INVALID_ARGUMENT),
        (good | _tensors(price=["1"]), "heft", "", CODE.INVALID_ARGUMENT),
        (good | _tensors(more=["1"]), "heft", "", CODE.INVALID_ARGUMENT),
        (_tensors(examples=[b"\xff\xfe"]), "heft", "examples", CODE.INVALID_ARGUMENT),
        (good, "heft", "none", CODE.FAILED_PRECONDITION),
        (good, "none", "", CODE.NOT_FOUND),
    ]
    for inputs, name, signature, expected in wrong:
        spec = model_pb2.ModelSpec(name=name, signature_name=signature)
        with pytest.raises(grpc.RpcError) as raised:
            predictions.Predict(
                predict_pb2.PredictRequest(model_spec=spec, inputs=inputs), timeout=20
            )
        assert raised.value.code() is expected, raised.value.details()
    spec = model_pb2.ModelSpec(name="heft")
    request = predict_pb2.PredictRequest(model_spec=spec, inputs=good, output_filter=["cvr"])
    response = predictions.Predict(request, timeout=20)
    assert list(response.outputs) == ["cvr"]
    assert response.model_spec.version.value == 1
    request.output_filter[:] = ["profit"]
    with pytest.raises(grpc.RpcError, match="output tensor alias not found"):
        predictions.Predict(request, timeout=20)


def test_versions_swap_under_load_without_a_failed_or_wrong_answer(served: Served) -> None:
    allowed = {float(_oracle(served, [ROW], offset)["ctr"][0]) for offset in (0, 1, 2)}
    stop, seen = threading.Event(), set()

    def load(target: str) -> int:
        with Client(target, "swapped", retries=0, timeout=20) as client:
            asked = 0
            while not stop.is_set():
                seen.add(float(client.predict(ONE)["ctr"][0]))
                asked += 1
            return asked

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(load, t) for t in (served.rest, served.grpc) * 2]
        try:
            with Client(served.rest, "swapped") as client:
                for version, offset in ((2, 1), (3, 2)):
                    served.push("swapped", version, offset)
                    wait_until(lambda v=version: client.states().get(v) == "AVAILABLE")
                    wait_until(lambda v=version: client.states().get(v - 1) == "END")
        finally:
            stop.set()
        assert sum(caller.result() for caller in callers) > 20  # raises if any request failed
    assert seen == allowed


def test_a_broken_version_is_never_served(served: Served) -> None:
    before = served.root / "swapped"
    half = before / "8"
    whole = served.root / "exported" / "1"
    shutil.copytree(whole, half, ignore=shutil.ignore_patterns("saved_model.pb"))
    corrupt = before / ".draft-9"
    shutil.copytree(whole, corrupt)
    data = corrupt / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4])
    corrupt.rename(before / "9")
    with Client(served.rest, "swapped") as client, Client(served.grpc, "swapped") as other:
        wait_until(lambda: client.states().get(9) == "END", seconds=60)
        newest = max(v for v, state in other.states().items() if state == "AVAILABLE")
        assert newest < 8
        assert client.predict(ONE)["ctr"].shape == (1,)
        _, answer = _ask(served, "/v1/models/swapped/versions/9", method="GET")
        assert answer["model_version_status"][0]["status"]["error_code"] != "OK"
    shutil.rmtree(before / "9")
    shutil.rmtree(half)


def test_a_label_moves_without_a_failed_request(served: Served) -> None:
    config = served.root / "models.config"
    served.push("labelled", 2, 1)
    move_labels(config, {"stable": 1, "canary": 1}, "labelled")
    path = "/v1/models/labelled/labels/canary"
    wait_until(lambda: _ask(served, path, method="GET")[0] == 200)
    with (
        Client(served.rest, "labelled", label="canary", retries=0) as canary,
        Client(served.grpc, "labelled", label="stable", retries=0) as stable,
    ):
        old = canary.predict(ONE)["ctr"]
        move_labels(config, {"canary": 2}, "labelled")
        wait_until(lambda: not np.array_equal(canary.predict(ONE)["ctr"], old))
        assert np.array_equal(canary.predict(ONE)["ctr"], _oracle(served, [ROW], 1)["ctr"])
        assert np.array_equal(stable.predict(ONE)["ctr"], old)
