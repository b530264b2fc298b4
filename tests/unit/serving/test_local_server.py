"""What the stand-in does beyond the contract: limits, metrics, batching, faults, a kill.

One server answers the module, with batching and metrics on.
"""

import concurrent.futures
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
import urllib3
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks.serving.fuzz import hostile_bodies
from serving import local_server
from serving.client import Client
from serving.errors import InvalidRequest, ModelNotFound, ServerUnavailable
from serving.local.batching import BatchingParameters, MicroBatcher
from serving.local.status import StatusError
from serving.local.text_configs import read_metrics_path
from tests.unit.serving.contract import ONE, ROW, models_config
from tests.unit.serving.schemas import metrics_that_are_read
from tests.unit.serving.server import Server, wait_until

CONFIGS = Path(__file__).resolve().parents[3] / "serving"
POOL = urllib3.PoolManager(retries=False, timeout=20)
METRICS = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def root(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own") / "models"
    shutil.copytree(exported, root)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    server = Server(
        root, "--model-config-file", str(models_config(root, str(root))),
        "--max-request-bytes", "1000000", "--enable-batching",
        "--batching-parameters-file", str(CONFIGS / "batching.config"),
        "--monitoring-config-file", str(CONFIGS / "monitoring.config"),
    )  # fmt: skip
    server.start()
    yield server
    server.stop()


def _post(server: Server, body: bytes, path: str = "/v1/models/heft:predict") -> tuple[int, Any]:
    response = POOL.request("POST", f"{server.rest}{path}", body=body)
    return response.status, json.loads(response.data)


def _metrics(server: Server) -> dict[str, float]:
    lines = POOL.request("GET", f"{server.rest}{METRICS}").data.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.process is not None
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")  # an IPv4 address in an IPv6 socket
        for connection in psutil.Process(server.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 2
    assert set(listening) == {"127.0.0.1"}


def test_a_request_that_is_too_large_is_refused(server: Server) -> None:
    status, answer = _post(server, b" " * 1_000_001)
    assert (status, "too large" in answer["error"]) == (400, True)
    with grpc.insecure_channel(server.grpc.removeprefix("grpc://")) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="heft"))
        request.inputs["query"].CopyFrom(tf.make_tensor_proto(["x" * 1_000_001]))
        with pytest.raises(grpc.RpcError) as raised:
            predict(request, timeout=20)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_shapes_and_versions_that_cannot_be_are_refused_in_words(server: Server) -> None:
    body = json.dumps({"inputs": {"x": [[1.0, 2.0, 3.0]]}}).encode()
    status, answer = _post(server, body, "/v1/models/single:predict")
    assert (status, "to have shape (None, 2)" in answer["error"]) == (400, True)
    status, answer = _post(server, b"{}", f"/v1/models/heft/versions/{2**70}:predict")
    assert (status, "to numeric" in answer["error"]) == (400, True)


def test_tensors_that_claim_more_than_they_hold_are_refused(server: Server) -> None:
    bomb = tf.make_tensor_proto([1.0])
    bomb.tensor_shape.dim[0].size = 10**12
    ragged = tf.make_tensor_proto([1.0, 2.0])
    ragged.tensor_content = b"\x00" * 7
    with grpc.insecure_channel(server.grpc.removeprefix("grpc://")) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for tensor in (bomb, ragged):
            inputs = {name: tf.make_tensor_proto(values) for name, values in ONE.items()}
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name="heft"), inputs=inputs | {"price": tensor}
            )
            with pytest.raises(grpc.RpcError) as raised:
                predict(request, timeout=20)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(request=hostile_bodies())
def test_no_request_makes_the_server_fail(server: Server, request: tuple[str, bytes]) -> None:
    path, body = request
    status, answer = _post(server, body, path)
    assert status in (200, 400, 404), answer
    assert ("error" in answer) == (status != 200)


@st.composite
def _tensors(draw: st.DrawFn, right: int) -> tensor_pb2.TensorProto:
    """Three values of the type `right`, or what claims to be of any type and shape."""
    tensor = tensor_pb2.TensorProto(dtype=right)
    if draw(st.integers(0, 3)):
        tensor.tensor_shape.dim.add(size=3)
        tensor.string_val.extend(draw(st.lists(st.binary(max_size=8), max_size=4)))
        tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=4)))
        return tensor
    tensor.dtype = draw(st.sampled_from([*types_pb2.DataType.values(), 99]))
    tensor.tensor_shape.unknown_rank = draw(st.integers(0, 3)) == 0
    for size in draw(st.lists(st.sampled_from([-1, 0, 1, 3, 2**40]), max_size=3)):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = draw(st.binary(max_size=16))
    tensor.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
    return tensor


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_tensor_makes_the_server_fail(server: Server, data: st.DataObject) -> None:
    names = data.draw(st.just([*ONE]) | st.lists(st.sampled_from([*ONE, "x"]), unique=True))
    kinds = {name: 1 if name == "price" else 7 for name in names}
    spec = model_pb2.ModelSpec(
        name="heft",
        signature_name=data.draw(st.sampled_from(["", "", "", "none", "__saved_model_init_op"])),
    )
    inputs = {name: data.draw(_tensors(kind)) for name, kind in kinds.items()}
    with grpc.insecure_channel(server.grpc.removeprefix("grpc://")) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        request = predict_pb2.PredictRequest(model_spec=spec, inputs=inputs)
        # A call is its own error.
        call = predict.future(request, timeout=20)
        assert call.code().name in ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"), call.details()
        if call.code() is grpc.StatusCode.OK:
            assert {len(tf.make_ndarray(x)) for x in call.result().outputs.values()} == {3}


def test_prometheus_reads_what_was_asked(server: Server) -> None:
    before = _metrics(server)
    good = json.dumps({"instances": [ROW]}).encode()
    assert [_post(server, good)[0] for _ in range(3)] == [200] * 3
    assert _post(server, b"{")[0] == 400
    assert _post(server, b"{", "/v1/models/made-up:predict")[0] == 404
    with Client(server.grpc) as client:
        client.predict(ONE)
    after = _metrics(server)

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    counts = ':tensorflow:serving:request_count{model_name="heft",status="%s"}'
    assert grew(counts % "OK") == 4
    assert grew(counts % "INVALID_ARGUMENT") == 1
    # As TensorFlow Serving spells them: REST's is the method of the path, refusals take no time.
    latency = ':tensorflow:serving:request_latency_%s{model_name="heft",API=%s%s}'
    rest, over_grpc = '"predict",entrypoint="REST"', '"Predict",entrypoint="GRPC"'
    assert grew(latency % ("count", rest, "")) == 3
    assert grew(latency % ("count", over_grpc, "")) == 1
    assert grew(latency % ("bucket", over_grpc, ',le="+Inf"')) == 1
    assert grew(latency % ("sum", over_grpc, "")) > 0
    runs = [
        v for k, v in after.items() if k.startswith(":tensorflow:serving:runtime_latency_count")
    ]
    assert sum(runs) >= 4
    loads = {k: v for k, v in after.items() if "load_attempt_count" in k and '"success"' in k}
    assert sum(loads.values()) >= 4
    assert any('/heft/1",' in name for name in loads), "each version has a series of its own"
    assert not any("made-up" in name for name in after)
    # What dashboard, alerts and autoscaler ask for is there.
    read = metrics_that_are_read()
    assert len(read) >= 5
    assert read <= {name.split("{")[0] for name in after}
    buckets = (latency % ("bucket", rest, ",le=")).removesuffix("}")
    below = [value for name, value in after.items() if name.startswith(buckets)]
    assert below == sorted(below)
    assert len(below) == 34


def test_the_health_check_of_compose_tells_a_served_model_from_none(server: Server) -> None:
    compose = yaml.safe_load((CONFIGS / "docker-compose.yml").read_text())
    kind, *command = compose["services"]["tensorflow-serving"]["healthcheck"]["test"]
    port = server.rest.rsplit(":", 1)[1]
    asked = command[-1].replace("/8501", f"/{port}")
    assert (kind, asked.count(port)) == ("CMD", 1)
    for script, well in (
        (asked, True), (asked.replace("models/heft", "models/none"), False),
        (command[-1].replace("/8501", "/9"), False),
    ):  # fmt: skip
        done = subprocess.run([*command[:-1], script], capture_output=True, timeout=10, check=False)
        assert (done.returncode == 0) == well, (script, done.stderr)


def test_metrics_are_off_unless_a_config_says_so(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.config"
    for text, wanted in (
        ("prometheus_config { enable: false }", None),
        ("", None),
        ("prometheus_config { enable: true }", METRICS),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
    ):
        path.write_text(text)
        assert read_metrics_path(path) == wanted


def test_a_configuration_can_be_sent(server: Server, root: Path) -> None:
    one = {"x": [[1.0, 2.0]]}
    with grpc.insecure_channel(server.grpc.removeprefix("grpc://")) as channel:
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        request = model_management_pb2.ReloadConfigRequest()
        add = request.config.model_config_list.config.add
        add(name="heft", base_path=str(root / "heft"), model_platform="tensorflow")
        add(name="second", base_path=str(root / "single"), model_platform="tensorflow")
        reload(request, timeout=60)
        with Client(server.rest, "second") as client, Client(server.rest, "single") as gone:
            assert client.predict(one)["outputs"].tolist() == [3.0]
            with pytest.raises(ModelNotFound):
                gone.predict(one)
        add(name="third", base_path=str(root / "nothing"), model_platform="tensorflow")
        with pytest.raises(grpc.RpcError) as raised:
            reload(request, timeout=60)
        assert raised.value.code() is grpc.StatusCode.ABORTED
        with Client(server.rest, "second") as client:
            assert client.predict(one)["outputs"].tolist() == [3.0]
    # The file counts again once it changes.
    models_config(root, f"{root}/")
    with Client(server.rest, "single") as client:
        client.wait_until_ready(30)


class Joined:
    """Adds 1, and remembers how many rows each run had."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.rows.append(len(arrays["x"]))
        if (arrays["x"] < 0).any():
            raise ValueError("negative")
        return {"y": arrays["x"] + 1}


def _together(batcher: MicroBatcher, *values: list[float]) -> list[Any]:
    with concurrent.futures.ThreadPoolExecutor(len(values)) as pool:
        futures = [pool.submit(batcher, {"x": np.array(value)}) for value in values]
        return [f.exception() or f.result()["y"].tolist() for f in futures]


def test_requests_that_arrive_together_run_together_and_are_told_apart() -> None:
    run = Joined()
    batcher = MicroBatcher(run, BatchingParameters(batch_timeout_micros=300_000))
    assert _together(batcher, [1.0], [2.0, 3.0], [4.0]) == [[2.0], [3.0, 4.0], [5.0]]
    assert run.rows == [4]


def test_a_full_batch_does_not_wait_and_batches_are_padded() -> None:
    run = Joined()
    parameters = BatchingParameters(4, 30_000_000, allowed_batch_sizes=(3, 4))
    batcher = MicroBatcher(run, parameters)
    assert _together(batcher, [1.0, 2.0], [3.0, 4.0]) == [[2.0, 3.0], [4.0, 5.0]]
    assert run.rows == [4]
    alone = MicroBatcher(run, BatchingParameters(4, 0, allowed_batch_sizes=(3, 4)))
    assert alone({"x": np.array([1.0])})["y"].tolist() == [2.0]
    assert run.rows == [4, 3]


def test_what_one_asks_does_not_fail_the_others() -> None:
    batcher = MicroBatcher(Joined(), BatchingParameters(batch_timeout_micros=300_000))
    first, second, third = _together(batcher, [1.0], [-1.0], [3.0])
    assert (first, third) == ([2.0], [4.0])
    assert isinstance(second, ValueError)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": np.zeros(2), "z": np.zeros(1)}, "equal 0th-dimension"),
        ({"x": np.zeros(0)}, "equal 0th-dimension"),
        ({"x": np.zeros(5)}, "larger than maximum"),
    ],
)
def test_what_cannot_be_batched_is_refused(inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(StatusError, match=words):
        MicroBatcher(Joined(), BatchingParameters(max_batch_size=4))(inputs)


def test_a_server_that_batches_answers_many_callers_as_one(server: Server) -> None:
    with Client(server.rest) as client, Client(server.grpc) as other:
        alone = {price: client.predict(ONE | {"price": [price]})["ctr"][0] for price in range(1, 9)}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit((client, other)[i % 2].predict, ONE | {"price": [1 + i % 8]})
                     for i in range(160)]  # fmt: skip
            for i, answer in enumerate(asked):
                assert answer.result()["ctr"][0] == pytest.approx(alone[1 + i % 8], abs=1e-6)
        with pytest.raises(InvalidRequest, match="larger than maximum"):
            client.predict({name: values * 1025 for name, values in ONE.items()})


def test_a_mended_version_is_served(server: Server, root: Path) -> None:
    corrupt = root / "swapped" / "9"
    draft = shutil.copytree(root / "exported" / "1", root / "swapped" / ".draft-9")
    data = draft / "variables" / "variables.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-4])
    draft.rename(corrupt)
    with Client(server.rest, "swapped") as client:
        wait_until(lambda: client.states().get(9) == "END")
        (corrupt / "variables" / data.name).write_bytes(whole)
        wait_until(lambda: client.states().get(9) == "AVAILABLE")


def test_killed_and_started_again(server: Server) -> None:
    server.kill()
    with Client(server.rest, retries=0) as client, pytest.raises(ServerUnavailable):
        client.states()
    seconds = server.start()
    with Client(server.rest) as client:
        assert client.states() == {1: "AVAILABLE"}
    assert seconds < 40, "10 s is the aim on a quiet machine; benchmarks/serving.py measures it"


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


def test_configs_that_cannot_be_read_end_the_server(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.config"
    model = ("--model-base-path", str(exported / "single"))
    for text, arguments, words in (
        ("model_config_list {", ["--model-config-file", str(path)], "not a ModelServerConfig"),
        ("", ["--model-config-file", str(path)], "names no model"),
        ("max_batch_size { value: x }",
         [*model, "--enable-batching", "--batching-parameters-file", str(path)],
         "is no BatchingParameters"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4",
         [*model, "--enable-batching", "--batching-parameters-file", str(path)],
         "must ascend and end with max_batch_size=8"),
        ("prometheus { }", [*model, "--monitoring-config-file", str(path)],
         "is no MonitoringConfig"),
    ):  # fmt: skip
        path.write_text(text)
        assert local_server.main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert re.fullmatch(r"serving\.local_server: .*\n", error, re.DOTALL)
