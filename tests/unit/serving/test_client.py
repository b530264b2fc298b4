"""The client's patience: retries, time-outs, kept connections; and what it refuses to send."""

import inspect
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

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
from tests.unit.serving.scripted import METADATA, Script, target


def test_an_overloaded_server_is_asked_again_with_jitter(scripted: Callable[..., Script]) -> None:
    waits = []
    for _ in range(3):
        server = scripted(503, 429)
        with Client(target(server), retries=2) as client:
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
    with Client(target(server), retries=2) as client, pytest.raises(kind, match="as scripted"):
        client.predict({"query": ["tv"]})
    assert len(server.bodies) == tries


def test_the_time_out_is_of_the_call_and_not_of_each_try(scripted: Callable[..., Script]) -> None:
    server = scripted(5.0)
    started = time.monotonic()
    with Client(target(server), timeout=0.4, retries=5) as client, pytest.raises(TimedOut):
        client.predict({"query": ["tv"]})
    assert 0.3 < time.monotonic() - started < 2
    assert len(server.bodies) == 1
    overloaded = scripted(*[503] * 100)
    started = time.monotonic()
    with (
        Client(target(overloaded), timeout=0.5, retries=99) as client,
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
    with Client(target(server)) as client:
        for _ in range(20):
            client.predict({"query": ["tv"]})
    assert len(server.bodies) == 20
    assert server.connections == 1


def test_columns_are_filled_in_and_sent_as_the_model_takes_them(
    scripted: Callable[..., Script],
) -> None:
    server = scripted()
    with Client(target(server)) as client:
        client.predict({"query": ["tv", "lamp"]})
        client.predict({"query": ["tv"], "price": [2**24 + 1]})
    assert server.bodies[0] == {"query": ["tv", "lamp"], "price": [7.5, 7.5]}
    [price] = server.bodies[1]["price"]
    assert isinstance(price, float)  # TensorFlow Serving takes no such integer for a float


def test_another_version_may_take_other_columns(
    scripted: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted({"outputs": [0.1]}, 400, {"outputs": [0.2]})
    with Client(target(server)) as client:
        client.predict({"query": ["tv"]})
        monkeypatch.setitem(
            METADATA["metadata"]["signature_def"]["signature_def"], "serving_default",
            {"inputs": {"query": {"dtype": "DT_STRING"}}},
        )  # fmt: skip
        assert client.predict({"query": ["tv"]})["outputs"].tolist() == [pytest.approx(0.2)]
    assert server.bodies[1:] == [{"query": ["tv"], "price": [7.5]}, {"query": ["tv"]}]


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
