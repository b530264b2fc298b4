"""The REST face: paths, status codes and error bodies of TensorFlow Serving."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import Executor
from urllib.parse import unquote

import grpc
from aiohttp import web

from serving.local import answers
from serving.local.status import from_exception, invalid_argument, not_found
from serving.local.store import Registry

__all__ = ["make_app"]

_TARGET = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?i){_TARGET}:(?P<method>predict|classify|regress)")
_GET = re.compile(rf"(?i){_TARGET}(?P<metadata>/metadata)?")
_MAX_VERSION = 2**63 - 1

Work = Callable[[], bytes]


def make_app(
    registry: Registry, pool: Executor, max_request_bytes: int, metrics_path: str | None = None
) -> web.Application:
    """The application; requests are computed in `pool`, off the event loop."""

    async def handle(request: web.Request) -> web.Response:
        started, body, status, code = time.perf_counter(), b"", 200, grpc.StatusCode.OK
        try:
            work = await _route(request, registry)
            body = await asyncio.get_running_loop().run_in_executor(pool, work)
        except Exception as error:
            problem = from_exception(error)
            body = json.dumps({"error": problem.message}).encode()
            status, code = problem.http_status, problem.code
        _count(request, registry, code, started)
        return web.Response(body=body, status=status, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=registry.metrics.text(), content_type="text/plain")

    app = web.Application(client_max_size=max_request_bytes)
    if metrics_path is not None:
        app.router.add_get(metrics_path, metrics)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


async def _route(request: web.Request, registry: Registry) -> Work:
    path = _path(request)
    if not path.lower().startswith("/v1/"):
        raise not_found(f"Not found: {path}")
    if request.method == "GET" and path.lower() == "/v1/models":
        raise invalid_argument("Missing model name in request.")
    pattern = {"POST": _POST, "GET": _GET}.get(request.method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise invalid_argument(f"Malformed request: {request.method} {path}")
    version = int(match["version"]) if match["version"] else None
    if version is not None and version > _MAX_VERSION:
        raise invalid_argument(f"Failed to convert version: {version} to numeric.")
    label = unquote(match["label"]) if match["label"] else None
    model = answers.spec(unquote(match["name"]), version, label)
    if request.method == "GET":
        answer = answers.metadata_json if match["metadata"] else answers.status_json
        return lambda: answer(registry, model)
    compute = answers.ANSWERS[match["method"].lower()]
    body = await _read(request)
    return lambda: compute(registry, model, body)


def _path(request: web.Request) -> str:
    return str(request.raw_path.split("?", 1)[0])


def _count(request: web.Request, registry: Registry, code: grpc.StatusCode, started: float) -> None:
    """Requests for models that are served, so that nobody fills the memory with made-up names."""
    match = _POST.fullmatch(_path(request)) if request.method == "POST" else None
    name = unquote(match["name"]) if match else ""
    if match and registry.has(name):
        micros = 1e6 * (time.perf_counter() - started)
        registry.metrics.request(name, match["method"].lower(), "REST", code.name, micros)


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise invalid_argument(f"Request body is too large: {error.text}") from None
    except web.HTTPException as error:
        raise invalid_argument(f"Malformed request body: {error.reason}") from None
