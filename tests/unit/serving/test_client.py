"""The client: patience, trust, typed errors, ranking."""

import datetime
import inspect
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from heft.cli import main
from heft.errors import ConfigError
from serving.client import Client, Tls
from serving.errors import (
    AccessDenied,
    InvalidRequest,
    ModelNotFound,
    ServerFault,
    ServerUnavailable,
    TimedOut,
)
from tests.unit.serving.contract import ONE, ROW
from tests.unit.serving.server import Server

METADATA = {"metadata": {"signature_def": {"signature_def": {"serving_default": {
    "inputs": {"query": {"dtype": "DT_STRING"}, "price": {"dtype": "DT_FLOAT"}},
    "defaults": {"price": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "1"}]},
                           "float_val": [7.5], "tensor_content": ""}},
}}}}}  # fmt: skip


class Script(ThreadingHTTPServer):
    """A web server that answers predictions by a script, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, *answers: int | float | dict[str, Any]) -> None:
        self.answers = list(answers)  # a status, seconds of silence, or a body
        self.bodies: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.connections = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Script

    def do_GET(self) -> None:
        self._send(200, METADATA)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body["inputs"])
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers))
        self.server.times.append(time.monotonic())
        answer = self.server.answers.pop(0) if self.server.answers else {"outputs": [0.5]}
        if isinstance(answer, float):
            time.sleep(answer)
            answer = {"outputs": [0.5]}
        if isinstance(answer, int):
            self._send(answer, {"error": f"as scripted: {answer}"})
        else:
            self._send(200, answer)

    def _send(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Callable[..., Script]]:
    running = []

    def start(*answers: Any, context: ssl.SSLContext | None = None) -> Script:
        server = Script(*answers)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def _target(server: Script, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"


def test_an_overloaded_server_is_asked_again_with_jitter(scripted: Callable[..., Script]) -> None:
    waits = []
    for _ in range(3):
        server = scripted(503, 429)
        with Client(_target(server), retries=2) as client:
            assert client.predict({"query": ["tv"]})["outputs"].tolist() == [0.5]
        assert len(server.times) == 3
        waits += list(np.diff(server.times))
    assert all(wait >= 0.025 for wait in waits)  # half of 50 ms at least, then of 100 ms
    assert len({round(wait, 4) for wait in waits}) > 1


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [
        (400, InvalidRequest, 1), (404, ModelNotFound, 1), (401, AccessDenied, 1),
        (403, AccessDenied, 1), (500, ServerFault, 1), (504, TimedOut, 1),
        (503, ServerUnavailable, 3), (502, ServerUnavailable, 3), (429, ServerUnavailable, 3),
    ],
)  # fmt: skip
def test_what_may_be_retried_is_and_every_error_has_its_type(
    scripted: Callable[..., Script], status: int, kind: type[Exception], tries: int
) -> None:
    server = scripted(*[status] * 9)
    with Client(_target(server), retries=2) as client, pytest.raises(kind, match="as scripted"):
        client.predict({"query": ["tv"]})
    assert len(server.bodies) == tries


def test_the_time_out_is_of_the_call_and_not_of_each_try(scripted: Callable[..., Script]) -> None:
    server = scripted(5.0)
    started = time.monotonic()
    with Client(_target(server), timeout=0.4, retries=5) as client, pytest.raises(TimedOut):
        client.predict({"query": ["tv"]})
    assert 0.3 < time.monotonic() - started < 2
    assert len(server.bodies) == 1
    overloaded = scripted(*[503] * 100)
    started = time.monotonic()
    with (
        Client(_target(overloaded), timeout=0.5, retries=99) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.predict({"query": ["tv"]})
    assert time.monotonic() - started < 2


def test_by_default_a_server_that_has_just_begun_is_waited_for() -> None:
    """5 s were too few for the first request to a model without warm-up on a busy machine."""
    assert inspect.signature(Client).parameters["timeout"].default >= 30


def test_a_server_that_is_away_is_named() -> None:
    with (
        Client("http://127.0.0.1:9", retries=1, timeout=5) as client,
        pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:9.* after 1 retries"),
    ):
        client.predict({"query": ["tv"]})
    with (
        Client("grpc://127.0.0.1:9", retries=0, timeout=5) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.predict({"query": ["tv"]})


def test_connections_are_kept(scripted: Callable[..., Script]) -> None:
    server = scripted()
    with Client(_target(server)) as client:
        for _ in range(20):
            client.predict({"query": ["tv"]})
    assert len(server.bodies) == 20
    assert server.connections == 1


def test_columns_are_filled_in_and_sent_as_the_model_takes_them(
    scripted: Callable[..., Script],
) -> None:
    server = scripted()
    with Client(_target(server)) as client:
        client.predict({"query": ["tv", "lamp"]})
        client.predict({"query": ["tv"], "price": [2**24 + 1]})
    assert server.bodies[0] == {"query": ["tv", "lamp"], "price": [7.5, 7.5]}
    [price] = server.bodies[1]["price"]
    assert isinstance(price, float)  # TensorFlow Serving takes no such integer for a float


def test_another_version_may_take_other_columns(
    scripted: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted({"outputs": [0.1]}, 400, {"outputs": [0.2]})
    with Client(_target(server)) as client:
        client.predict({"query": ["tv"]})
        monkeypatch.setitem(
            METADATA["metadata"]["signature_def"]["signature_def"], "serving_default",
            {"inputs": {"query": {"dtype": "DT_STRING"}}},
        )  # fmt: skip
        assert client.predict({"query": ["tv"]})["outputs"].tolist() == [pytest.approx(0.2)]
    assert server.bodies[1:] == [{"query": ["tv"], "price": [7.5]}, {"query": ["tv"]}]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server.pem` and `server.key` of 127.0.0.1, which signs for itself."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "heft test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


def test_rest_over_tls_with_a_token(scripted: Callable[..., Script], certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    server = scripted(context=context)
    tls = Tls(ca_file=str(certificates / "server.pem"))
    with Client(_target(server, "https"), token="s3cret", tls=tls) as client:
        assert client.predict({"query": ["tv"]})["outputs"].tolist() == [0.5]
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    with (
        Client(_target(server, "https"), retries=0) as client,
        pytest.raises(ServerUnavailable, match="(?i)certificate"),
    ):
        client.predict({"query": ["tv"]})


def test_the_command_passes_label_token_and_authority_on(
    scripted: Callable[..., Script], certificates: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    outputs = {"ctr": [0.5, 0.25], "cvr": [0.1, 0.9], "ctcvr": [0.05, 0.225]}
    server = scripted({"outputs": outputs}, context=context)
    inputs = {"query": {"dtype": "DT_STRING"}, "title": {"dtype": "DT_STRING"}}
    signatures = METADATA["metadata"]["signature_def"]["signature_def"]
    monkeypatch.setitem(signatures, "serving_default", {"inputs": inputs})
    (tmp_path / "summary.json").write_text("{}")
    command = ["heft", "predict", str(tmp_path), "--query", "tv", "--title", "dear",
               "--title", "cheap", "--label", "canary", "--verbose"]  # fmt: skip
    own = ["--server", _target(server, "https"), "--token", "s3cret"]
    own += ["--ca-file", str(certificates / "server.pem")]
    monkeypatch.setattr("sys.argv", command + own)
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = capsys.readouterr().out
    assert 0 < printed.index("cheap") < printed.index("dear")
    assert server.paths == ["/v1/models/heft/labels/canary:predict"]
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert server.bodies == [{"query": ["tv", "tv"], "title": ["dear", "cheap"]}]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--label is for a server" in capsys.readouterr().err


class _Guarded(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers those who have the token."""

    def GetModelMetadata(
        self, request: Any, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(get_model_metadata_pb2.SignatureDefMap())
        return response

    def Predict(self, request: Any, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:
        if dict(context.invocation_metadata()).get("authorization") != "Bearer s3cret":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return predict_pb2.PredictResponse(outputs={"ctr": tf.make_tensor_proto([0.25])})


def test_grpc_over_tls_with_a_token(certificates: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Guarded(), server)
    pair = [
        ((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())
    ]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    server.start()
    target, tls = f"grpcs://127.0.0.1:{port}", Tls(ca_file=str(certificates / "server.pem"))
    try:
        with Client(target, token="s3cret", tls=tls) as client:
            assert client.predict({"query": ["tv"]})["ctr"].tolist() == [0.25]
        with Client(target, tls=tls) as client, pytest.raises(AccessDenied, match="who are you"):
            client.predict({"query": ["tv"]})
        with (
            Client(target, token="s3cret", retries=0, timeout=5) as client,
            pytest.raises(ServerUnavailable),
        ):
            client.predict({"query": ["tv"]})
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "ftp://x"}, "no model server"),
        ({"version": 1, "label": "canary"}, "give one of them"),
        ({"timeout": 0}, "timeout=0"),
        ({"token": "a", "headers": {"authorization": "b"}}, "give one of them"),
        ({"rankings": {"odd": "ctr; import os"}}, "no ranking expression"),
        ({"target": "https://x", "tls": Tls(ca_file="/nowhere.pem")}, "cannot be used"),
        ({"target": "grpcs://x", "tls": Tls(ca_file="/nowhere.pem")}, "cannot be read"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Client(**({"target": "http://localhost:1"} | arguments))
    with pytest.raises(ConfigError, match="both or none"):
        Tls(certificate_file="a.pem")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"query": ["tv"] * 2, "title": ["a"] * 3}, "differ in length"),
        ({"query": []}, "no rows"),
        ({"query": "tv"}, "query='tv': expected a list"),
        ({"history": [["a"], ["a", "b"]]}, "history holds lists of different lengths"),
        ({"query": ["tv"], "price": [3.5, None]}, "price holds None: expected .* 0"),
        ({"query": [None, "tv"]}, "query holds None"),
    ],
)
def test_columns_that_do_not_fit_each_other_are_not_sent(
    columns: dict[str, Any], words: str
) -> None:
    with Client("grpc://localhost:1") as client, pytest.raises(InvalidRequest, match=words):
        client.predict(columns)


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("client"), "--model-base-path", str(exported / "heft"))
    server.start()
    yield server
    server.stop()


def test_errors_of_a_real_server_are_typed(server: Server) -> None:
    for target in (server.rest, server.grpc):
        with Client(target) as client:
            for wrong in ({"title": ["LG"]}, ONE | {"price": ["cheap"]}, ONE | {"colour": ["x"]}):
                with pytest.raises(InvalidRequest):
                    client.predict(wrong)
        with Client(target, "none") as client, pytest.raises(ModelNotFound):
            client.predict(ONE)
        with Client(target, version=7) as client, pytest.raises(ModelNotFound):
            client.states()


def test_what_is_left_out_or_given_once_is_answered_alike_by_rest_and_grpc(server: Server) -> None:
    titles = ["LG C4", "Samsung S90"]
    whole = {name: [value] * 2 for name, value in ROW.items()} | {
        "title": titles, "category": ["", ""], "brand": ["", ""], "price": [0.0, 0.0],
    }  # fmt: skip
    for target in (server.rest, server.grpc):
        with Client(target) as client:
            said = client.predict(whole)["ctr"]
            brief = {"query": [ROW["query"]], "title": titles, "device": [ROW["device"]]}
            assert client.predict(brief)["ctr"] == pytest.approx(said, abs=1e-7)
    assert said[0] != said[1]


def test_candidates_are_ranked_by_an_output_an_expression_or_a_name(server: Server) -> None:
    item = {k: v for k, v in ROW.items() if k not in ("query", "device")}
    candidates = [item | {"price": price, "cost": price / 2} for price in (5, 4000, 1, 300)]
    context = {"device": "mobile"}
    for target in (server.rest, server.grpc):
        with Client(target, rankings={"margin": "ctcvr * (price - cost)"}) as client:
            plain = [{k: v for k, v in c.items() if k != "cost"} for c in candidates]
            ranked = client.rank("tv", plain, context=context)
            assert [r.index for r in ranked] == [2, 0, 3, 1]  # the model likes what is cheap
            assert ranked[0].score == pytest.approx(ranked[0].predictions["ctcvr"])
            by_value = client.rank("tv", plain, by="ctcvr * price", context=context)
            assert [r.index for r in by_value] == [1, 3, 0, 2]
            by_margin = client.rank("tv", candidates, by="margin", context=context)
            assert [r.index for r in by_margin] == [1, 3, 0, 2]
            assert by_margin[0].score == pytest.approx(2000 * by_margin[0].predictions["ctcvr"])
            assert client.rank("tv", []) == []
            # What the ranking does not name is the model's, which does not know it.
            with pytest.raises(InvalidRequest):
                client.rank("tv", candidates, by="ctcvr * price", context=context)
            with pytest.raises(InvalidRequest, match="ctcvrs"):
                client.rank("tv", plain, by="ctcvrs", context=context)
            with pytest.raises(InvalidRequest, match="candidate 1 and candidate 0 differ"):
                client.rank("tv", [plain[0], candidates[1]])
