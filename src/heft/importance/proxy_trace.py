"""What the out-of-fold networks say of rows, at every checkpoint."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from heft.importance.stacked import Network
from heft.importance.stacked_kernels import look

__all__ = ["Checkpoints", "ProxyTrace", "sigmoid"]

Array = np.ndarray


def _none() -> Array:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class ProxyTrace:
    """What out-of-fold training says of n rows, at E checkpoints, one after each epoch.

    None of it depends on a row's label.

    Attributes:
        early: (n,) float32 in (0, 1), attractiveness after the first epoch.
        final: (n,) float32 in (0, 1), attractiveness after the last.
        logits: (n, E) float32, the logit of attractiveness at every checkpoint.
        sensitivity: (n, E) float32, ‖∂logit/∂parameters‖₂ over all parameters of
            the network; times |∂loss/∂logit| it is the norm of the row's gradient.
    """

    early: Array
    final: Array
    logits: Array = field(default_factory=_none)
    sensitivity: Array = field(default_factory=_none)


@dataclass(frozen=True)
class Checkpoints:
    """The networks of one fold at all checkpoints, side by side."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array

    @classmethod
    def of(cls, networks: list[Network]) -> "Checkpoints":
        """From the networks of one fold, by checkpoint."""
        return cls(
            np.concatenate([n.w1 for n in networks], axis=1),
            np.concatenate([n.b1 for n in networks]),
            np.stack([n.w2 for n in networks]),
            np.array([n.b2 for n in networks], np.float32),
        )

    @cached_property
    def linear(self) -> bool:
        """Whether there is no hidden layer."""
        return not self.w1.shape[1]

    def look(self, inputs: Array) -> tuple[Array, Array]:
        """Logits and sensitivities, (b, E) each."""
        square = np.einsum("bd,bd->b", inputs, inputs) + 1
        if self.linear:
            logits = inputs @ self.w2.T + self.b2
            return logits, np.broadcast_to(np.sqrt(square)[:, None], logits.shape)
        logits = np.empty((len(inputs), len(self.b2)), np.float32)
        sensitivity = np.empty_like(logits)
        look(inputs @ self.w1, self.b1, self.w2, self.b2, square, logits, sensitivity)
        return logits, sensitivity


def sigmoid(logit: Array) -> Array:
    """Float32, kept 1e-7 away from 0 and 1."""
    logit = np.asarray(logit, np.float32)
    with np.errstate(over="ignore"):
        return np.clip(1 / (1 + np.exp(-logit)), 1e-7, 1 - 1e-7).astype(np.float32)
