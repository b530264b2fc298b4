"""How a client reaches a model server: what REST and gRPC have in common."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from heft.errors import ConfigError

__all__ = ["Endpoint", "Input", "Tls", "Transport", "jittered"]

_BACKOFF_SECONDS = 0.05  # before the first retry; doubles, and each wait is jittered
_MAX_BACKOFF_SECONDS = 2.0


@dataclass(frozen=True)
class Tls:
    """Whom to trust, and how to be trusted; files in PEM.

    Attributes:
        ca_file: certificates of the authorities; the system's if None.
        certificate_file, key_file: of the client, where the server asks for them.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ConfigError("certificate_file and key_file: give both or none of them")

    def read(self, name: str) -> bytes | None:
        """The contents of one of the files; None if it is not given.

        Raises:
            ConfigError: it cannot be read.
        """
        path: str | None = getattr(self, name)
        try:
            return None if path is None else Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"{name}={path!r} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Endpoint:
    """What a client asks, and how patiently."""

    target: str
    model: str
    version: int | None
    label: str | None
    timeout: float  # seconds for a call with its retries
    retries: int
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls = Tls()


@dataclass(frozen=True)
class Input:
    """One input of a signature: TensorFlow's name of its type, and what stands for it if absent."""

    dtype: str  # such as DT_FLOAT
    default: np.ndarray | None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Input)
            and self.dtype == other.dtype
            and np.array_equal(np.asarray(self.default), np.asarray(other.default))
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none


class Transport(Protocol):
    """One way to ask a model server."""

    def predict(
        self, signature: str, columns: Mapping[str, np.ndarray], inputs: Mapping[str, Input]
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature, by name."""

    def inputs(self, signature: str) -> dict[str, Input]:
        """What a signature takes; empty if the server has none of that name."""

    def states(self) -> dict[int, str]:
        """State by version."""

    def close(self) -> None:
        """Gives up the connections."""


def jittered(attempt: int) -> float:
    """Seconds to wait before retry number `attempt`, from 0; callers do not come back together."""
    return random.uniform(0.5, 1.5) * min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**attempt)
