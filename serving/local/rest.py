"""The REST face: paths, status codes and error bodies of TensorFlow Serving."""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import Executor
from urllib.parse import unquote

from aiohttp import web

from serving.local import answers
from serving.local.status import from_exception, invalid_argument, not_found
from serving.local.store import Registry

__all__ = ["make_app"]

_TARGET = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?i){_TARGET}:(?P<method>predict|classify|regress)")
_GET = re.compile(rf"(?i){_TARGET}(?P<metadata>/metadata)?")
_MAX_VERSION = 2**63 - 1

Work = Callable[[], bytes]


def make_app(registry: Registry, pool: Executor, max_request_bytes: int) -> web.Application:
    """The application; requests are computed in `pool`, off the event loop."""

    async def handle(request: web.Request) -> web.Response:
        try:
            work = await _route(request, registry)
            body, status = await asyncio.get_running_loop().run_in_executor(pool, work), 200
        except Exception as error:
            problem = from_exception(error)
            body = json.dumps({"error": problem.message}).encode()
            status = problem.http_status
        return web.Response(body=body, status=status, content_type="application/json")

    app = web.Application(client_max_size=max_request_bytes)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


async def _route(request: web.Request, registry: Registry) -> Work:
    path = request.raw_path.split("?", 1)[0]
    if not path.lower().startswith("/v1/"):
        raise not_found(f"Not found: {path}")
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
    method = match["method"].lower()
    if method != "predict":
        raise answers.refuse_method(answers.resolve(registry, model), "", method)
    body = await _read(request)
    return lambda: answers.predict_json(registry, model, body)


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise invalid_argument(f"Request body is too large: {error.text}") from None
    except web.HTTPException as error:
        raise invalid_argument(f"Malformed request body: {error.reason}") from None
