"""A client of Heft's models on TensorFlow Serving, or on the local stand-in.

with Client("http://localhost:8501") as client:
    ranked = client.rank("oled tv", [{"title": "LG C4 55", "price": 1299.0, ...}, ...])
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from heft.errors import ConfigError
from serving.errors import (
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    TimedOut,
)
from serving.rest_transport import RestTransport
from serving.transports import Endpoint, Transport

__all__ = ["Client", "Ranked"]

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Ranked:
    """A candidate in its place."""

    index: int  # among the candidates as given
    score: float  # what was ranked by
    predictions: Mapping[str, float]  # ctr, cvr and ctcvr, each in [0, 1]


class Client:
    """Asks one model of one server. Threads may share it; connections are kept open.

    Args:
        target: `http://host:port` or `https://…` for REST; `grpc://host:port` or
            `host:port` for gRPC, `grpcs://…` for gRPC over TLS.
        model: the name it is served under.
        version: a version, or None for the newest (or the label's).
        label: a version label such as `canary`; not together with `version`.
        timeout: seconds; of one attempt for REST, of the call with its retries for gRPC.
        retries: further attempts when the server is unreachable or overloaded. A
            prediction changes nothing, so repeating one is safe. gRPC makes at most 4.
        headers: sent with each request, for example `{"Authorization": "Bearer …"}`.

    Raises:
        ConfigError: the arguments cannot be used.
    """

    def __init__(
        self,
        target: str,
        model: str = "heft",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 5.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if version is not None and label is not None:
            raise ConfigError(f"version={version} and label={label!r}: give one of them")
        if not timeout > 0 or retries < 0:
            raise ConfigError(f"timeout={timeout} must be above 0 and retries={retries} at least 0")
        self._transport = _transport(target, model, version, label, timeout, retries, headers or {})

    def predict(
        self, columns: Mapping[str, Sequence[Any] | np.ndarray], signature: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """Predictions for a batch of rows.

        Args:
            columns: by input name, each of shape (rows,), or (rows, width) of a vector or a
                history: text as str or bytes, numbers as numbers. For the signature `examples`:
                `{"examples": [serialised, …]}`.
            signature: of the model.

        Returns:
            `ctr`, `cvr` and `ctcvr`, each float32 of shape (rows,), in [0, 1].

        Raises:
            InvalidRequest: the columns do not fit each other or the model.
            ModelNotFound: no such model, version or label.
            ServerUnavailable, TimedOut, ServerFault: the server is at fault, or away.
        """
        return self._transport.predict(signature, _arrays(columns))

    def rank(
        self,
        query: str,
        candidates: Sequence[Mapping[str, Any]],
        by: str = "ctcvr",
        context: Mapping[str, Any] | None = None,
    ) -> list[Ranked]:
        """Orders candidates for a query, best first; ties stay in the order given.

        Args:
            query: what was asked.
            candidates: the model's columns of each item (title, category, price, …), the
                same ones for all.
            by: an output, or a product of outputs and candidate columns: `ctcvr * price`.
            context: columns that all rows share, such as `device`.

        Returns:
            One entry per candidate.

        Raises:
            InvalidRequest: candidates differ in their columns, or `by` names none.
        """
        if not candidates:
            return []
        columns: dict[str, Any] = {"query": [query] * len(candidates)}
        for name, value in (context or {}).items():
            columns[name] = [value] * len(candidates)
        columns.update(_transposed(candidates))
        outputs = self.predict(columns)
        scores = _product(by, outputs, columns)
        order = np.argsort(-scores, kind="stable")
        return [
            Ranked(int(i), float(scores[i]), {k: float(v[i]) for k, v in outputs.items()})
            for i in order
        ]

    def states(self) -> dict[int, str]:
        """State by version, such as `{1732385000: "AVAILABLE"}`.

        Raises:
            ServingError: as `predict`.
        """
        return self._transport.states()

    def wait_until_ready(self, seconds: float) -> None:
        """Returns once a version is available.

        Raises:
            TimedOut: none was in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if "AVAILABLE" in self.states().values():
                    return
                reason = "no version is available"
            except (ModelNotFound, ServerUnavailable, TimedOut) as error:
                reason = str(error)
            if time.monotonic() > deadline:
                raise TimedOut(f"no model was ready within {seconds} s: {reason}")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Gives up the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _transport(
    target: str,
    model: str,
    version: int | None,
    label: str | None,
    timeout: float,
    retries: int,
    headers: Mapping[str, str],
) -> Transport:
    scheme, separator, address = target.partition("://")
    if not separator:
        scheme, address = "grpc", target
    if not address or scheme not in ("http", "https", "grpc", "grpcs"):
        raise ConfigError(
            f"{target!r} is no model server: expected http://host:port, https://host:port, "
            "grpc://host:port or grpcs://host:port"
        )
    rest = scheme.startswith("http")
    endpoint = Endpoint(
        target if rest else address, model, version, label, timeout, retries, headers
    )
    if rest:
        return RestTransport(endpoint)
    # Imported here because it needs TensorFlow, which takes seconds to import.
    from serving.grpc_transport import GrpcTransport

    return GrpcTransport(endpoint, secure=scheme == "grpcs")


def _arrays(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = _array(values)
        except ValueError as error:
            raise InvalidRequest(
                f"{name} holds lists of different lengths: expected as many values in each row"
            ) from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if not lengths or set(lengths.values()) == {0}:
        raise InvalidRequest("the columns hold no rows: expected at least one")
    if len(set(lengths.values())) > 1:
        raise InvalidRequest(f"columns differ in length: {lengths}")
    return arrays


def _array(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind in "US":  # fixed-width strings lose trailing NULs
        array = np.asarray(values, dtype=object)
    return array


def _transposed(candidates: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = set(candidates[0])
    for index, candidate in enumerate(candidates):
        if set(candidate) != names:
            difference = sorted(set(candidate) ^ names)
            raise InvalidRequest(
                f"candidate {index} and candidate 0 differ in the columns {difference}: "
                "give every candidate the same ones"
            )
    return {name: [candidate[name] for candidate in candidates] for name in candidates[0]}


def _product(
    by: str, outputs: Mapping[str, np.ndarray], columns: Mapping[str, Sequence[Any]]
) -> np.ndarray:
    factors = []
    for name in (part.strip() for part in by.split("*")):
        if name not in outputs and name not in columns:
            known = sorted({*outputs, *columns})
            raise InvalidRequest(f"by={by!r} names {name!r}: expected some of {known}")
        try:
            factors.append(np.asarray(outputs.get(name, columns.get(name)), dtype=np.float64))
        except ValueError:
            raise InvalidRequest(f"by={by!r}: the column {name!r} is not a number") from None
    return np.asarray(math.prod(factors[1:], start=factors[0]))
