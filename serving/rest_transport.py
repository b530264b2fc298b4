"""REST to a model server; needs no TensorFlow."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import urllib3

from heft.errors import ServingError
from serving.errors import (
    InvalidRequest,
    ModelNotFound,
    ServerFault,
    ServerUnavailable,
    TimedOut,
)
from serving.transports import BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, Endpoint

__all__ = ["RestTransport"]

# A prediction changes nothing, so every request may be sent again; only these
# answers promise that another try can end otherwise.
_RETRIED_STATUS = (429, 503)
_CONNECTIONS = 16


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
        retry = urllib3.Retry(
            total=endpoint.retries,
            allowed_methods=None,
            status_forcelist=_RETRIED_STATUS,
            backoff_factor=BACKOFF_SECONDS,
            backoff_jitter=BACKOFF_SECONDS,
            backoff_max=MAX_BACKOFF_SECONDS,
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            retries=retry,
            timeout=urllib3.Timeout(connect=endpoint.timeout, read=endpoint.timeout),
            headers=dict(endpoint.headers),
        )

    def predict(self, signature: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a signature, by name; a single one is called `outputs`."""
        inputs = {name: [_json(item) for item in array] for name, array in columns.items()}
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
        outputs = self._ask("POST", f"{self._url}:predict", body)["outputs"]
        if not isinstance(outputs, dict):
            outputs = {"outputs": outputs}
        return {name: _from_json(values) for name, values in outputs.items()}

    def states(self) -> dict[int, str]:
        """State by version."""
        entries = self._ask("GET", self._url)["model_version_status"]
        return {int(entry["version"]): str(entry["state"]) for entry in entries}

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def _ask(self, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            headers = {**self._pool.headers, "Content-Type": "application/json"}
            response = self._pool.request(method, url, body=body, headers=headers)
        except urllib3.exceptions.MaxRetryError as error:
            raise self._unanswered(error.reason or error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._unanswered(error) from error
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

    def _unanswered(self, reason: Exception) -> ServingError:
        endpoint = self._endpoint
        if isinstance(reason, urllib3.exceptions.ReadTimeoutError):
            return TimedOut(
                f"{self._url} did not answer in {endpoint.timeout} s: raise the time-out, "
                "or send fewer rows"
            )
        return ServerUnavailable(
            f"{self._url} cannot be reached after {endpoint.retries} retries ({reason}): "
            "is the server running, and the address right?"
        )


def _json(item: Any) -> Any:
    if isinstance(item, bytes):
        return {"b64": base64.b64encode(item).decode()}
    if isinstance(item, np.ndarray):  # a vector, or the texts of a list
        return [_json(part) for part in item.tolist()]
    return item.item() if isinstance(item, np.generic) else item


def _from_json(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _http_error(status: int, message: str) -> ServingError:
    if status == 404:
        return ModelNotFound(message)
    if status in (*_RETRIED_STATUS, 502):
        return ServerUnavailable(message)
    if status in (408, 504):
        return TimedOut(message)
    return InvalidRequest(message) if status < 500 else ServerFault(f"{message} (HTTP {status})")
