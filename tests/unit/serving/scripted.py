"""A web server that answers as it is told to."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["METADATA", "Script", "target"]

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


def target(server: Script, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"
