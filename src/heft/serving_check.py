"""Is the exported model fit to be served? Asked of a real server, before the push.

A server is started on the model, sent rows of the data and requests that
nobody should send, and compared with what the SavedModel itself predicts.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenisation ops that models carry
from pydantic import Field

from heft import features as f
from heft.errors import HeftError, ServingError
from heft.examples import shard_paths
from heft.serving_process import ServerProcess
from heft.serving_requests import hostile_requests, optional_columns
from heft.settings import Settings

__all__ = [
    "Check", "Connect", "Predicts", "ServingCheck", "ServingCheckSettings", "check_serving",
    "first_examples",
]  # fmt: skip

Columns = dict[str, np.ndarray]

_DEFAULT, _EXAMPLES = "serving_default", "examples"
_OUTPUTS = (f.CTR, f.CVR, f.CTCVR)


class ServingCheckSettings(Settings):
    """How a model is checked.

    `rows` of the data are compared, to `tolerance` (absolute). A latency request holds
    `candidates` rows; `latency_requests` are timed for each protocol. `max_p99_ms`
    makes latency a check too; without it, latency is only reported.
    """

    rows: int = Field(default=100, ge=1)
    timeout_seconds: float = Field(default=60.0, gt=0)
    request_timeout_seconds: float = Field(default=10.0, gt=0)
    tolerance: float = Field(default=1e-4, gt=0)
    candidates: int = Field(default=100, ge=1)
    latency_requests: int = Field(default=50, ge=2)
    max_p99_ms: float | None = Field(default=None, gt=0)


class Predicts(Protocol):
    """A client of the server."""

    def predict(self, columns: Mapping[str, Any], signature: str = ...) -> Columns:
        """The outputs of `signature`, each of shape (rows,)."""

    def close(self) -> None:
        """Gives up the connections."""


Connect = Callable[[str], Predicts]


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class ServingCheck:
    """What came of it. Latencies are milliseconds for one request of `candidates` rows."""

    checks: tuple[Check, ...]
    rows: int
    candidates: int
    start_seconds: float | None
    latency_ms: Mapping[str, Mapping[str, float]]  # by protocol: p50 and p99

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def why_not(self) -> str:
        """The failed checks in one line; empty if all passed."""
        return "; ".join(f"{check.name}: {check.detail}" for check in self.faults)

    def to_json(self) -> str:
        """All of it, for programs."""
        facts = {"ok": self.ok, "faults": len(self.faults), **asdict(self)}
        return json.dumps(facts, indent=2, sort_keys=True)


def first_examples(split_uri: str, rows: int) -> list[bytes]:
    """The first `rows` serialised tf.Examples of a split.

    Raises:
        DataError: the folder holds no file.
    """
    paths = shard_paths(split_uri)
    compression = "GZIP" if paths[0].endswith(".gz") else ""
    records = tf.data.TFRecordDataset(paths, compression_type=compression)
    return list(records.take(rows).as_numpy_iterator())


def check_serving(
    model_dir: str,
    examples: Iterable[bytes],
    *,
    command: Sequence[str],
    connect: Connect,
    settings: ServingCheckSettings | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
    cwd: str | None = None,
) -> ServingCheck:
    """Starts a server on a SavedModel and tries it.

    Args:
        model_dir: the SavedModel, with the signatures `serving_default` and `examples`.
        examples: serialised tf.Examples; the first `settings.rows` are used, without
            their position, since serving predicts at the reference position.
        command: starts the server, which has to understand the arguments of
            `serving.local_server`.
        connect: returns a client for `http://host:port` or `grpc://host:port`.
        settings: see there.
        expected: `ctr`, `cvr` and `ctcvr`, each (rows,); by default what the `examples`
            signature predicts in this process.
        cwd: the folder to start the command in.

    Returns:
        The checks, passed or not. A model that cannot be served is a failed check, not
        an exception; no process is left behind either way.
    """
    settings = settings or ServingCheckSettings()
    rows = [_without_position(row) for _, row in zip(range(settings.rows), examples, strict=False)]
    run = _Run(settings, rows, expected)
    if run.load(model_dir):
        try:
            with ServerProcess(command, model_dir, cwd, settings.timeout_seconds) as server:
                run.start_seconds = server.start_seconds
                run.try_server(server, connect)
        except ServingError as error:
            run.note("server", False, str(error))
        else:
            run.note("server", True, f"ready after {run.start_seconds:.1f} s, ended when told")
    return run.result()


class _Run:
    """The checks as they come in."""

    def __init__(
        self,
        settings: ServingCheckSettings,
        rows: Sequence[bytes],
        expected: Mapping[str, np.ndarray] | None,
    ) -> None:
        self.settings = settings
        self.rows = rows
        self.expected = expected
        self.columns: Columns = {}
        self.optional: frozenset[str] = frozenset()
        self.checks: list[Check] = []
        self.latency: dict[str, dict[str, float]] = {}
        self.start_seconds: float | None = None

    def note(self, name: str, passed: bool, detail: str) -> None:
        self.checks.append(Check(name, passed, detail))

    def result(self) -> ServingCheck:
        return ServingCheck(
            tuple(self.checks),
            len(self.rows),
            self.settings.candidates,
            self.start_seconds,
            self.latency,
        )

    def load(self, model_dir: str) -> bool:
        """Loads the model here, for the columns it takes and the predictions to expect."""
        if not self.rows:
            self.note("examples", False, "no row to ask with: expected at least one tf.Example")
            return False
        try:
            model = tf.saved_model.load(model_dir)
            signatures = {name: model.signatures[name] for name in (_DEFAULT, _EXAMPLES)}
            inputs = signatures[_DEFAULT].structured_input_signature[1]
            self.columns = _columns(self.rows, inputs)
            self.optional = optional_columns(model_dir)
            if self.expected is None:
                outputs = signatures[_EXAMPLES](tf.constant(self.rows))
                self.expected = {name: outputs[name].numpy() for name in _OUTPUTS}
        except (tf.errors.OpError, KeyError, ValueError, OSError) as error:
            self.note(
                "model", False, f"{model_dir} cannot be used: {type(error).__name__}: {error}"
            )
            return False
        for name in _OUTPUTS:
            fault = _not_a_probability(self.expected[name])
            self.note(f"{name} is a probability", fault is None, fault or "finite, in [0, 1]")
        return True

    def try_server(self, server: ServerProcess, connect: Connect) -> None:
        for protocol, target in (("REST", server.rest_target), ("gRPC", server.grpc_target)):
            client = connect(target)
            try:
                self._compare(protocol, client)
                self._time(protocol, client)
            finally:
                client.close()
        timeout = self.settings.request_timeout_seconds
        for attempt in hostile_requests(server, self.columns, timeout, self.optional):
            self.note(attempt.name, attempt.passed, attempt.detail)
        code = server.exit_code()
        self.note("alive afterwards", code is None, f"exit code {code}" if code else "running")

    def _compare(self, protocol: str, client: Predicts) -> None:
        asked: tuple[tuple[str, Mapping[str, Any]], ...] = (
            (_DEFAULT, self.columns),
            (_EXAMPLES, {"examples": self.rows}),
        )
        for signature, columns in asked:
            try:
                fault, gap = self._gap(client.predict(columns, signature))
            except HeftError as error:
                fault, gap = str(error), math.nan
            self.note(
                f"{protocol} {signature} as in process",
                fault is None,
                fault or f"{len(self.rows)} rows, largest difference {gap:.1e}",
            )

    def _gap(self, answered: Mapping[str, np.ndarray]) -> tuple[str | None, float]:
        largest = 0.0
        for name, wanted in (self.expected or {}).items():
            got = answered.get(name)
            if got is None or np.shape(got) != np.shape(wanted):
                return f"{name} is missing, or not of shape {np.shape(wanted)}", math.nan
            gap = float(np.max(np.abs(np.asarray(got, np.float64) - wanted)))
            if not gap <= self.settings.tolerance:
                return f"{name} differs by {gap:.2g}, more than {self.settings.tolerance:g}", gap
            largest = max(largest, gap)
        return None, largest

    def _time(self, protocol: str, client: Predicts) -> None:
        index = np.arange(self.settings.candidates) % len(self.rows)
        request = {name: values[index] for name, values in self.columns.items()}
        taken = []
        try:
            for _ in range(self.settings.latency_requests):
                started = time.perf_counter()
                client.predict(request, _DEFAULT)
                taken.append(1e3 * (time.perf_counter() - started))
        except HeftError as error:
            self.note(f"{protocol} latency", False, str(error))
            return
        p50, p99 = (float(v) for v in np.percentile(taken, (50, 99)))
        self.latency[protocol] = {"p50": p50, "p99": p99}
        limit = self.settings.max_p99_ms
        told = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms for {self.settings.candidates} candidates"
        self.note(f"{protocol} latency", limit is None or p99 <= limit, told)


def _without_position(row: bytes) -> bytes:
    example = tf.train.Example.FromString(row)
    example.features.feature.pop(f.POSITION, None)
    return bytes(example.SerializeToString())


def _columns(rows: Sequence[bytes], inputs: Mapping[str, tf.TensorSpec]) -> Columns:
    """The raw columns of the rows; what is absent is empty text or 0, as in the model."""
    ragged = tf.io.parse_example(
        rows, {name: tf.io.RaggedFeature(entry.dtype) for name, entry in inputs.items()}
    )
    columns = {}
    for name, entry in inputs.items():
        width = entry.shape[1] if len(entry.shape) == 2 else 1
        values = ragged[name].to_tensor(shape=[len(rows), width]).numpy()
        columns[name] = values if len(entry.shape) == 2 else values[:, 0]
    return columns


def _not_a_probability(values: np.ndarray) -> str | None:
    if not np.all(np.isfinite(values)):
        return f"{int(np.sum(~np.isfinite(values)))} of {values.size} values are not finite"
    if values.min() < 0 or values.max() > 1:
        return f"values from {values.min():.3g} to {values.max():.3g}: expected [0, 1]"
    return None
