"""How a client reaches a model server: what REST and gRPC have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

__all__ = ["BACKOFF_SECONDS", "MAX_BACKOFF_SECONDS", "Endpoint", "Transport"]

BACKOFF_SECONDS = 0.05  # before the first retry; doubles, and each wait is jittered
MAX_BACKOFF_SECONDS = 2.0


@dataclass(frozen=True)
class Endpoint:
    """What a client asks, and how patiently."""

    target: str
    model: str
    version: int | None
    label: str | None
    timeout: float  # seconds for one attempt (REST), for all of them (gRPC)
    retries: int
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """One way to ask a model server."""

    def predict(self, signature: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a signature, by name."""

    def states(self) -> dict[int, str]:
        """State by version."""

    def close(self) -> None:
        """Gives up the connections."""
