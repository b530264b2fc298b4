"""The contract of TensorFlow Serving, asked of real processes over real sockets.

One server with three models answers the whole module, for a start takes seconds:
`heft` stands still, `swapped` gets new versions, `labelled` has its labels moved.
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

from serving import local_server
from serving.client import Client
from serving.errors import InvalidRequest, ModelNotFound, ServerUnavailable
from serving.labels import move_labels
from tests.unit.serving.models import COLUMNS, export
from tests.unit.serving.server import Server, wait_until

ROW: dict[str, Any] = {"query": "tv", "title": "LG C4 é 📺", "category": "tv", "brand": "LG",
                       "price": 999.5, "device": "mobile"}  # fmt: skip
OTHER = ROW | {"query": "lamp", "price": 1.0}
POOL = urllib3.PoolManager(retries=False, timeout=20)


def _config(root: Path, *names: str) -> Path:
    path = root / "models.config"
    models = "".join(
        f'config {{ name: "{n}" base_path: "{root / n}" model_platform: "tensorflow" }}'
        for n in names
    )
    path.write_text(f"model_config_list {{ {models} }}")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for offset in range(3):
        export(root / "exported" / str(offset), float(offset))
    for model in ("heft", "swapped", "labelled"):
        shutil.copytree(root / "exported" / "0", root / model / "1")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    server = Server(
        root, "--model-config-file", str(_config(root, "heft", "swapped", "labelled")),
        "--max-request-bytes", "1000000",
    )  # fmt: skip
    server.start()
    yield server
    code, stdout, _ = server.stop()
    assert code == 0
    assert len(stdout.splitlines()) == 1, "one ready line and nothing else"


def _ask(server: Server, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    response = POOL.request(method, f"{server.rest}{path}", body=data)
    assert response.headers["Content-Type"].startswith("application/json")
    return response.status, json.loads(response.data)


def _oracle(root: Path, rows: list[dict[str, Any]], offset: int = 0) -> dict[str, np.ndarray]:
    model = tf.saved_model.load(str(root / "exported" / str(offset)))
    columns = {name: tf.constant([row[name] for row in rows]) for name in COLUMNS}
    return {k: v.numpy() for k, v in model.signatures["serving_default"](**columns).items()}


def test_rows_columns_and_grpc_answer_what_the_savedmodel_predicts(
    server: Server, root: Path
) -> None:
    expected = _oracle(root, [ROW, OTHER])
    status, rows = _ask(server, "/v1/models/heft:predict", {"instances": [ROW, OTHER]})
    assert status == 200
    columns = {name: [ROW[name], OTHER[name]] for name in COLUMNS}
    status, answer = _ask(server, "/v1/models/heft/versions/1:predict", {"inputs": columns})
    assert status == 200
    with Client(server.grpc) as client:
        over_grpc = client.predict(columns)
    assert set(expected) == {"ctr", "cvr", "ctcvr"} == set(over_grpc)
    for name, values in expected.items():
        # Float32 survives the decimal text exactly.
        assert np.array_equal(np.float32([row[name] for row in rows["predictions"]]), values)
        assert np.array_equal(np.float32(answer["outputs"][name]), values)
        assert np.array_equal(over_grpc[name], values)


def test_base64_is_bytes_and_the_examples_signature_takes_it(server: Server, root: Path) -> None:
    example = tf.train.Example()
    for name, value in ROW.items():
        if name == "price":
            example.features.feature[name].float_list.value.append(value)
        else:
            example.features.feature[name].bytes_list.value.append(value.encode())
    encoded = {"b64": base64.b64encode(example.SerializeToString()).decode()}
    named = {"signature_name": "examples", "instances": [{"examples": encoded}]}
    plain = {"signature_name": "examples", "instances": [encoded]}  # one input needs no name
    expected = _oracle(root, [ROW])["ctr"][0]
    for body in (named, plain):
        status, answer = _ask(server, "/v1/models/heft:predict", body)
        assert status == 200, answer
        assert answer["predictions"][0]["ctr"] == pytest.approx(expected, abs=1e-7)
    title = {"b64": base64.b64encode(ROW["title"].encode()).decode()}
    _, answer = _ask(server, "/v1/models/heft:predict", {"instances": [ROW | {"title": title}]})
    assert answer["predictions"][0]["ctr"] == pytest.approx(expected, abs=1e-7)


def test_status_and_metadata(server: Server) -> None:
    status, answer = _ask(server, "/v1/models/heft", method="GET")
    assert status == 200
    assert answer == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE",
             "status": {"error_code": "OK", "error_message": ""}}
        ]
    }  # fmt: skip
    status, answer = _ask(server, "/v1/models/heft/versions/1/metadata", method="GET")
    assert status == 200
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "examples"}
    price = signatures["serving_default"]["inputs"]["price"]
    assert price["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in price["tensor_shape"]["dim"]] == ["-1"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (":predict", b"", 400, "document is empty"),
        (":predict", b"{]", 400, "JSON Parse error"),
        (":predict", b"\xff\xfe\x00", 400, "JSON Parse error"),
        (":predict", b"[" * 100_000, 400, "JSON Parse error"),
        (":predict", [ROW], 400, "Is not object"),
        (":predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (":predict", {"instances": [ROW], "inputs": {}}, 400, "only one of"),
        (":predict", {"instances": []}, 400, "No values in 'instances'"),
        (":predict", {"instances": ROW}, 400, "to be an list/array"),
        (":predict", {"instances": ["tv"]}, 400, "plain list"),
        (":predict", {"instances": [ROW, None]}, 400, "item 1"),
        (":predict", {"instances": [ROW | {"query": 3}]}, 400, "query"),
        (":predict", {"instances": [ROW | {"price": "3"}]}, 400, "price"),
        (":predict", {"instances": [ROW | {"price": True}]}, 400, "price"),
        (":predict", {"instances": [ROW | {"price": 1e300}]}, 400, "loss of precision"),
        (":predict", {"instances": [ROW | {"price": [1.0]}]}, 400, "shape"),
        (":predict", {"instances": [ROW | {"query": {"b64": "%"}}]}, 400, "base64"),
        (":predict", {"instances": [ROW | {"query": "\ud800"}]}, 400, "surrogate"),
        (":predict", {"instances": [ROW | {"color": "red"}]}, 400, "keys must be equal to"),
        (":predict", {"inputs": {"query": ["tv"]}}, 400, "Missing named input: brand"),
        (":predict", {"instances": [ROW], "signature_name": "none"}, 400, "not found"),
        (":predict", {"instances": [ROW], "signature_name": 3}, 400, "must be a string"),
        ("/versions/7:predict", {"instances": [ROW]}, 404, "Specific(heft, 7)"),
        (f"/versions/{2**70}:predict", {"instances": [ROW]}, 400, "to numeric"),
        ("/versions/x:predict", {"instances": [ROW]}, 400, "Malformed request"),
        ("/labels/none:predict", {"instances": [ROW]}, 400, "Unrecognized servable version label"),
        (":predict/", {"instances": [ROW]}, 400, "Malformed request"),
        (":explode", {"instances": [ROW]}, 400, "Malformed request"),
        ("", {"instances": [ROW]}, 400, "Malformed request"),
        (":classify", {"examples": [ROW]}, 400, "tensorflow/serving/predict"),
        (":predict", b" " * 1_000_001, 400, "too large"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_words(
    server: Server, path: str, body: Any, status: int, words: str
) -> None:
    got, answer = _ask(server, f"/v1/models/heft{path}", body)
    assert (got, list(answer)) == (status, ["error"])
    assert words in answer["error"]


def test_other_paths_and_methods(server: Server) -> None:
    assert _ask(server, "/v1/models/none", method="GET")[0] == 404
    assert _ask(server, "/v1/models/heft/versions/9", method="GET")[0] == 404
    assert _ask(server, "/v1/models/heft:predict", method="GET")[0] == 400
    assert _ask(server, "/v1/models/heft", method="DELETE")[0] == 400
    assert _ask(server, "/v1/models/heft/../../etc/passwd", method="GET")[0] in (400, 404)
    assert _ask(server, "/", method="GET")[0] == 404


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*COLUMNS, "b64", "instances", "inputs", "signature_name"]) | st.text(),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    key=st.sampled_from(["instances", "inputs"]),
    value=_values | st.fixed_dictionaries(dict.fromkeys(COLUMNS, _values)),
)
def test_no_json_makes_the_server_fail(server: Server, key: str, value: Any) -> None:
    body = json.dumps({key: [value] if key == "instances" else value}).encode()
    status, answer = _ask(server, "/v1/models/heft:predict", body)
    assert status in (200, 400), answer
    assert ("error" in answer) == (status == 400)


def test_grpc_refuses_with_the_right_codes(server: Server) -> None:
    good = {name: tf.make_tensor_proto([value]) for name, value in ROW.items()}
    bomb = tf.make_tensor_proto([1.0])
    bomb.tensor_shape.dim[0].size = 10**12
    ragged = tf.make_tensor_proto([1.0, 2.0])
    ragged.tensor_content = b"\x00" * 7
    code = grpc.StatusCode
    wrong = [
        ({}, "heft", "", code.INVALID_ARGUMENT),
        (good | {"price": bomb}, "heft", "", code.INVALID_ARGUMENT),
        (good | {"price": ragged}, "heft", "", code.INVALID_ARGUMENT),
        (good | {"price": tf.make_tensor_proto(["1"])}, "heft", "", code.INVALID_ARGUMENT),
        (good | {"query": tf.make_tensor_proto([["tv"]])}, "heft", "", code.INVALID_ARGUMENT),
        ({"examples": tf.make_tensor_proto([b"\xff\xfe"])}, "heft", "examples",
         code.INVALID_ARGUMENT),
        (good, "heft", "none", code.FAILED_PRECONDITION),
        (good, "none", "", code.NOT_FOUND),
    ]  # fmt: skip
    with grpc.insecure_channel(server.grpc.removeprefix("grpc://")) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for inputs, name, signature, expected in wrong:
            spec = model_pb2.ModelSpec(name=name, signature_name=signature)
            with pytest.raises(grpc.RpcError) as raised:
                predict(predict_pb2.PredictRequest(model_spec=spec, inputs=inputs), timeout=20)
            assert raised.value.code() is expected, raised.value.details()
        spec = model_pb2.ModelSpec(name="heft")
        request = predict_pb2.PredictRequest(model_spec=spec, inputs=good, output_filter=["cvr"])
        response = predict(request, timeout=20)
        assert list(response.outputs) == ["cvr"]
        assert response.model_spec.version.value == 1


def _push(root: Path, model: str, version: int, offset: int) -> None:
    """As Pusher does: the graph comes last."""
    source, target = root / "exported" / str(offset), root / model / str(version)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("saved_model.pb"))
    shutil.copy(source / "saved_model.pb", target)


def test_versions_swap_under_load_without_a_failed_or_wrong_answer(
    server: Server, root: Path
) -> None:
    allowed = {float(_oracle(root, [ROW], offset)["ctr"][0]) for offset in (0, 1, 2)}
    stop, seen = threading.Event(), set()

    def load(target: str) -> int:
        with Client(target, "swapped", retries=0, timeout=20) as client:
            asked = 0
            while not stop.is_set():
                seen.add(float(client.predict({k: [v] for k, v in ROW.items()})["ctr"][0]))
                asked += 1
            return asked

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(load, t) for t in (server.rest, server.grpc) * 2]
        try:
            with Client(server.rest, "swapped") as client:
                for version, offset in ((2, 1), (3, 2)):
                    _push(root, "swapped", version, offset)
                    wait_until(lambda v=version: client.states().get(v) == "AVAILABLE")
                    wait_until(lambda v=version: client.states().get(v - 1) == "END")
        finally:
            stop.set()
        assert sum(caller.result() for caller in callers) > 20  # raises if any request failed
    assert seen == allowed


def test_a_broken_version_is_never_served_and_a_mended_one_is(server: Server, root: Path) -> None:
    before = root / "swapped"
    half = before / "8"
    shutil.copytree(root / "exported" / "1", half, ignore=shutil.ignore_patterns("saved_model.pb"))
    corrupt = before / "9"
    shutil.copytree(root / "exported" / "1", corrupt)
    data = corrupt / "variables" / "variables.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with Client(server.rest, "swapped") as client, Client(server.grpc, "swapped") as other:
        wait_until(lambda: client.states().get(9) == "END")
        assert 8 not in client.states()
        newest = max(v for v, state in other.states().items() if state == "AVAILABLE")
        assert newest < 8
        assert client.predict({k: [v] for k, v in ROW.items()})["ctr"].shape == (1,)
        _, answer = _ask(server, "/v1/models/swapped/versions/9", method="GET")
        assert answer["model_version_status"][0]["status"]["error_code"] != "OK"
        data.write_bytes(whole)
        wait_until(lambda: client.states().get(9) == "AVAILABLE")


def test_a_label_moves_without_a_failed_request(server: Server, root: Path) -> None:
    config = root / "models.config"
    _push(root, "labelled", 2, 1)
    move_labels(config, {"stable": 1, "canary": 1}, "labelled")
    one = {k: [v] for k, v in ROW.items()}
    with (
        Client(server.rest, "labelled", label="canary", retries=0) as canary,
        Client(server.rest, "labelled", label="stable", retries=0) as stable,
    ):
        wait_until(
            lambda: _ask(server, "/v1/models/labelled/labels/canary", method="GET")[0] == 200
        )
        old = canary.predict(one)["ctr"]
        move_labels(config, {"canary": 2}, "labelled")
        wait_until(lambda: not np.array_equal(canary.predict(one)["ctr"], old))
        assert np.array_equal(canary.predict(one)["ctr"], _oracle(root, [ROW], 1)["ctr"])
        assert np.array_equal(stable.predict(one)["ctr"], old)


def test_killed_and_started_again(server: Server) -> None:
    server.kill()
    with Client(server.rest, retries=0) as client, pytest.raises(ServerUnavailable):
        client.states()
    seconds = server.start()
    with Client(server.rest) as client:
        assert client.states() == {1: "AVAILABLE"}
    assert seconds < 40, "10 s is the aim on a quiet machine with compiled bytecode"


@pytest.mark.parametrize("graph", [None, b"", b"not a graph"])
def test_a_model_that_cannot_be_loaded_ends_the_server_with_one_line(
    tmp_path: Path, graph: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1").mkdir()
    if graph is not None:
        (tmp_path / "1" / "saved_model.pb").write_bytes(graph)
    assert local_server.main(["--model-base-path", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert str(tmp_path) in printed.err


def test_a_config_that_cannot_be_read_ends_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "models.config"
    for text, words in (("model_config_list {", "not a ModelServerConfig"), ("", "names no model")):
        path.write_text(text)
        assert local_server.main(["--model-config-file", str(path)]) == 2
        assert words in capsys.readouterr().err


def test_client_errors_are_typed(server: Server) -> None:
    one = {k: [v] for k, v in ROW.items()}
    for target in (server.rest, server.grpc):
        with Client(target) as client, pytest.raises(InvalidRequest):
            client.predict({k: v for k, v in one.items() if k != "query"})
        with Client(target, "none") as client, pytest.raises(ModelNotFound):
            client.predict(one)
        with Client(target, version=7) as client, pytest.raises(ModelNotFound):
            client.states()


def test_client_ranks_candidates(server: Server) -> None:
    item = {k: v for k, v in ROW.items() if k not in ("query", "device")}
    candidates = [item | {"price": price} for price in (5, 4000, 1, 300)]  # integers on purpose
    context = {"device": "mobile"}
    for target in (server.rest, server.grpc):
        with Client(target) as client:
            ranked = client.rank("tv", candidates, context=context)
            assert [r.index for r in ranked] == [2, 0, 3, 1]  # the model likes what is cheap
            assert ranked[0].score == pytest.approx(ranked[0].predictions["ctcvr"])
            by_value = client.rank("tv", candidates, by="ctcvr * price", context=context)
            assert [r.index for r in by_value] == [1, 3, 0, 2]
            with pytest.raises(InvalidRequest, match="by='ctcvrs'"):
                client.rank("tv", candidates, by="ctcvrs", context=context)
