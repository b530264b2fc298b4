"""Models that several files serve, exported once, and servers that answer by a script."""

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.contract import write_models
from tests.unit.serving.scripted import Script


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that nobody writes to; copy it to serve from."""
    return write_models(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def scripted() -> Iterator[Callable[..., Script]]:
    """Starts a `Script` with these answers."""
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
