"""REST to a model server; needs no TensorFlow."""

import base64
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import urllib3

from heft.errors import ConfigError, ServingError
from serving.errors import (
    AccessDenied,
    InvalidRequest,
    ModelNotFound,
    ServerFault,
    ServerUnavailable,
    TimedOut,
)
from serving.transports import Endpoint, Input, Tls, jittered

__all__ = ["RestTransport"]

# A prediction changes nothing, so every request may be sent again; only these
# answers promise that another try can end otherwise.
_RETRIED_STATUS = (429, 502, 503)
_CONNECTIONS = 16
_NUMBERS = {"DT_FLOAT": "float_val", "DT_DOUBLE": "double_val", "DT_INT64": "int64_val",
            "DT_INT32": "int_val", "DT_BOOL": "bool_val"}  # fmt: skip
_NUMPY = {"DT_FLOAT": "<f4", "DT_DOUBLE": "<f8", "DT_INT64": "<i8", "DT_INT32": "<i4",
          "DT_BOOL": "?"}  # fmt: skip


class RestTransport:
    """HTTP with pooled connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        place = ""
        if endpoint.version is not None:
            place = f"/versions/{endpoint.version}"
        elif endpoint.label is not None:
            place = f"/labels/{quote(endpoint.label, safe='')}"
        model = quote(endpoint.model, safe="")
        self._url = f"{endpoint.target.rstrip('/')}/v1/models/{model}{place}"
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            retries=False,
            headers={"Content-Type": "application/json", **endpoint.headers},
            **({"ssl_context": _context(endpoint.tls)} if self._url.startswith("https") else {}),
        )

    def predict(
        self, signature: str, columns: Mapping[str, np.ndarray], inputs: Mapping[str, Input]
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature, by name; a single one is called `outputs`."""
        given = {
            name: [_json(item) for item in _as_floats(array, inputs.get(name))]
            for name, array in columns.items()
        }
        body = json.dumps({"signature_name": signature, "inputs": given}).encode()
        outputs = self._ask("POST", f"{self._url}:predict", body)["outputs"]
        if not isinstance(outputs, dict):
            outputs = {"outputs": outputs}
        return {name: _from_json(values) for name, values in outputs.items()}

    def inputs(self, signature: str) -> dict[str, Input]:
        """What a signature takes; empty if the server has none of that name."""
        metadata = self._ask("GET", f"{self._url}/metadata")["metadata"]
        definition = metadata["signature_def"]["signature_def"].get(signature, {})
        defaults = definition.get("defaults", {})
        return {
            name: Input(info["dtype"], _default(defaults.get(name)))
            for name, info in definition.get("inputs", {}).items()
        }

    def states(self) -> dict[int, str]:
        """State by version."""
        entries = self._ask("GET", self._url)["model_version_status"]
        return {int(entry["version"]): str(entry["state"]) for entry in entries}

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def _ask(self, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
        response = self._response(method, url, body)
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = {"error": response.data[:200].decode(errors="replace")}
        if response.status != 200:
            text = answer.get("error") if isinstance(answer, dict) else None
            raise _http_error(response.status, f"{url}: {text or answer}")
        if not isinstance(answer, dict):
            raise ServerFault(f"{url} answered {answer!r:.200}: expected a JSON object")
        return answer

    def _response(self, method: str, url: str, body: bytes | None) -> urllib3.BaseHTTPResponse:
        """The first answer that another try would not better, within the time-out."""
        deadline = time.monotonic() + self._endpoint.timeout
        attempt = 0
        while True:
            left = urllib3.Timeout(total=max(1e-3, deadline - time.monotonic()))
            try:
                response = self._pool.request(method, url, body=body, timeout=left, redirect=False)
            except urllib3.exceptions.HTTPError as error:
                if isinstance(error, urllib3.exceptions.SSLError) or _is_timeout(error):
                    raise self._unanswered(error, attempt) from error
                wait, failure = jittered(attempt), error
            else:
                if response.status not in _RETRIED_STATUS:
                    return response
                wait, failure = max(jittered(attempt), _asked_to_wait(response)), None
            if attempt >= self._endpoint.retries or time.monotonic() + wait >= deadline:
                if failure is not None:
                    raise self._unanswered(failure, attempt) from failure
                return response
            attempt += 1
            time.sleep(wait)

    def _unanswered(self, reason: Exception, retries: int) -> ServingError:
        endpoint = self._endpoint
        if _is_timeout(reason):
            return TimedOut(
                f"{self._url} did not answer in {endpoint.timeout} s: raise the time-out, "
                "or send fewer rows"
            )
        return ServerUnavailable(
            f"{self._url} cannot be reached after {retries} retries ({reason}): "
            "is the server running, and the address right?"
        )


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:
        raise ConfigError(f"{tls} cannot be used: {error}") from error
    return context


def _is_timeout(error: Exception) -> bool:
    refused = urllib3.exceptions.NewConnectionError  # which is a ConnectTimeoutError
    return isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(error, refused)


def _asked_to_wait(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds, as an overloaded server may say; 0 if it does not."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else 0.0


def _as_floats(array: np.ndarray, wanted: Input | None) -> np.ndarray:
    """A price of 20000000 is a float, or a server would say that it loses precision."""
    floats = wanted is not None and wanted.dtype in ("DT_FLOAT", "DT_DOUBLE")
    return array.astype(np.float64) if floats and array.dtype.kind in "iu" else array


def _json(item: Any) -> Any:
    if isinstance(item, bytes):
        return {"b64": base64.b64encode(item).decode()}
    if isinstance(item, np.ndarray):  # a vector, or the texts of a list
        return [_json(part) for part in item.tolist()]
    return item.item() if isinstance(item, np.generic) else item


def _from_json(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _default(proto: dict[str, Any] | None) -> np.ndarray | None:
    """A TensorProto as JSON; None for a type that no column has."""
    if proto is None:
        return None
    shape = [int(dim.get("size", 0)) for dim in proto.get("tensor_shape", {}).get("dim", [])]
    dtype, size = proto["dtype"], int(np.prod(shape, dtype=int))
    values: Any
    if dtype == "DT_STRING":
        values = np.array([base64.b64decode(text) for text in proto["string_val"]], object)
    elif proto.get("tensor_content"):
        values = np.frombuffer(base64.b64decode(proto["tensor_content"]), _NUMPY[dtype])
    elif dtype in _NUMBERS:
        values = np.array(proto[_NUMBERS[dtype]], _NUMPY[dtype])
    else:
        return None
    # The last value stands for all that are equal to it.
    index = np.minimum(np.arange(size), len(values) - 1)
    return np.asarray(values[index].reshape(shape))


def _http_error(status: int, message: str) -> ServingError:
    if status == 404:
        return ModelNotFound(message)
    if status in _RETRIED_STATUS:
        return ServerUnavailable(message)
    if status in (408, 504):
        return TimedOut(message)
    if status in (401, 403):
        return AccessDenied(message)
    return InvalidRequest(message) if status < 500 else ServerFault(f"{message} (HTTP {status})")
