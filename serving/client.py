"""A client of Heft's models on TensorFlow Serving, or on the local stand-in.

with Client("http://localhost:8501") as client:
    ranked = client.rank("oled tv", [{"title": "LG C4 55", "price": 1299.0, ...}, ...])
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from heft.errors import ConfigError, HeftError
from heft.ranking_expression import RankingExpression
from serving.columns import as_arrays, completed, transposed
from serving.errors import (
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    TimedOut,
)
from serving.rest_transport import RestTransport
from serving.transports import Endpoint, Input, Tls, Transport

__all__ = ["Client", "Ranked", "Tls"]

_DEFAULT = "serving_default"
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
        timeout: seconds of a call with its retries. The default suits a script; a page that
            somebody waits for has less.
        retries: further attempts when the server is unreachable or overloaded. A
            prediction changes nothing, so repeating one is safe. gRPC makes at most 4.
        headers: sent with each request, over gRPC as metadata.
        token: sent as `Authorization: Bearer …`.
        tls: for `https` and `grpcs`: authorities of your own, or a certificate of the client's.
        rankings: expressions for `rank`, by name.

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
        timeout: float = 30.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        rankings: Mapping[str, str] | None = None,
    ) -> None:
        if version is not None and label is not None:
            raise ConfigError(f"version={version} and label={label!r}: give one of them")
        if not timeout > 0 or retries < 0:
            raise ConfigError(f"timeout={timeout} must be above 0 and retries={retries} at least 0")
        headers = dict(headers or {})
        if token is not None:
            if "authorization" in map(str.lower, headers):
                raise ConfigError("token and headers['Authorization']: give one of them")
            headers["Authorization"] = f"Bearer {token}"
        self._rankings = {
            name: _expression(text, ConfigError) for name, text in (rankings or {}).items()
        }
        self._inputs: dict[str, dict[str, Input]] = {}
        self._transport = _transport(
            target, model, version, label, timeout, retries, headers, tls or Tls()
        )

    def predict(
        self, columns: Mapping[str, Sequence[Any] | np.ndarray], signature: str = _DEFAULT
    ) -> dict[str, np.ndarray]:
        """Predictions for a batch of rows.

        Args:
            columns: by input name, each of shape (rows,), or (rows, width) of a vector or a
                history: text as str or bytes, numbers as numbers; of one row where all are
                the same, which a server that batches refuses. A column may be left out
                if the model knows what stands for it. For the signature `examples`:
                `{"examples": [serialised, …]}`.
            signature: of the model.

        Returns:
            `ctr`, `cvr` and `ctcvr`, each float32 of shape (rows,), in [0, 1].

        Raises:
            InvalidRequest: the columns do not fit each other or the model.
            ModelNotFound: no such model, version or label.
            ServerUnavailable, TimedOut, ServerFault, AccessDenied: the server is at fault, away,
                or trusts somebody else.
        """
        arrays = as_arrays(columns)
        inputs = self._inputs_of(signature)
        try:
            return self._transport.predict(signature, completed(arrays, inputs), inputs)
        except InvalidRequest:
            # Another version may be served by now, which takes other columns.
            now = self._transport.inputs(signature)
            if now == inputs:
                raise
            self._inputs[signature] = now
        return self._transport.predict(signature, completed(arrays, now), now)

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
            candidates: columns of each item (title, category, price, …), the same ones for
                all: the model's, and those that `by` names.
            by: one of the client's rankings, or an expression over outputs and candidate
                columns: `ctcvr * price`, `ctr * log1p(margin)`. What cannot be computed, such
                as a division by zero, comes last.
            context: columns that all rows share, such as `device`.

        Returns:
            One entry per candidate.

        Raises:
            InvalidRequest: candidates differ in their columns, or `by` names none.
        """
        expression = self._rankings.get(by) or _expression(by, InvalidRequest)
        if not candidates:
            return []
        columns: dict[str, Any] = {"query": [query] * len(candidates)}
        for name, value in (context or {}).items():
            columns[name] = [value] * len(candidates)
        columns.update(transposed(candidates))
        known = self._inputs_of(_DEFAULT)
        own = expression.names - set(known) if known else set()  # for the ranking alone
        outputs = self.predict({k: v for k, v in columns.items() if k not in own})
        try:
            scores = expression(columns | outputs)
        except ValueError as error:
            raise InvalidRequest(f"by={by!r}: {error}") from None
        scores = np.broadcast_to(scores, len(candidates))
        order = np.argsort(-scores, kind="stable")
        return [
            Ranked(int(i), float(scores[i]), {k: float(v[i]) for k, v in outputs.items()})
            for i in order
        ]

    def _inputs_of(self, signature: str) -> dict[str, Input]:
        """Asked once for each signature."""
        if signature not in self._inputs:
            self._inputs[signature] = self._transport.inputs(signature)
        return self._inputs[signature]

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
    tls: Tls,
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
        target if rest else address, model, version, label, timeout, retries, headers, tls
    )
    if rest:
        return RestTransport(endpoint)
    # Imported here because it needs TensorFlow, which takes seconds to import.
    from serving.grpc_transport import GrpcTransport

    return GrpcTransport(endpoint, secure=scheme == "grpcs")


def _expression(text: str, kind: type[HeftError]) -> RankingExpression:
    try:
        return RankingExpression(text)
    except ValueError as error:
        raise kind(f"by={text!r:.100}: {error}") from None
