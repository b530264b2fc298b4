"""Trust: certificates and tokens, over REST, over gRPC and from the command line."""

import datetime
import ipaddress
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
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
from serving.client import Client, Tls
from serving.errors import AccessDenied, ServerUnavailable
from tests.unit.serving.scripted import METADATA, Script, target


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
    with Client(target(server, "https"), token="s3cret", tls=tls) as client:
        assert client.predict({"query": ["tv"]})["outputs"].tolist() == [0.5]
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    with (
        Client(target(server, "https"), retries=0) as client,
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
    own = ["--server", target(server, "https"), "--token", "s3cret"]
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
