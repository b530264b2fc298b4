"""Mean gradients of reference rows, and their product with the gradient of a sample."""

from typing import NamedTuple

import numpy as np

from heft.importance.proxy_trace import Checkpoints
from heft.importance.stacked import Targets
from heft.importance.stacked_kernels import backward, dot_gradients, pull_rows

__all__ = ["CellSum", "MeanGradients"]

Array = np.ndarray

_LEAST = 10  # rows without which a cell takes the mean over the cells of its side


class CellSum(NamedTuple):
    """Gradients of the rows of one cell, added up.

    Attributes:
        fold: whose network.
        cell: which cell.
        rows: how many.
        sums: as of w1, b1, w2, b2, at E checkpoints.
    """

    fold: int
    cell: int
    rows: int
    sums: list[Array]


class MeanGradients:
    """Over all parameters of one fold's network, at each of E checkpoints, by cell.

    Args:
        networks: the checkpoints of the fold.
        cells: how many means; their number is slice · sides + side.
    """

    def __init__(self, networks: Checkpoints, cells: int) -> None:
        self.networks = networks
        self.rows = np.zeros(cells, np.int64)
        shapes = [p.shape for p in (networks.w1, networks.b1, networks.w2, networks.b2)]
        self.w1, self.b1, self.w2, self.b2 = (np.zeros((cells, *s), np.float32) for s in shapes)

    def sums(self, inputs: Array, targets: Targets) -> tuple[int, list[Array]]:
        """The number of rows, and the sums of their gradients as of w1, b1, w2, b2.

        Args:
            inputs: (b, d) float32, standardised.
            targets: (b,) each.
        """
        net = self.networks
        nobody = np.full(len(inputs), -1)
        one = np.ones(len(net.b2), np.float32)
        columns = (nobody, targets.positive, targets.negative, targets.observed, one)
        if net.linear:
            pull = inputs @ net.w2.T
            pull_rows(pull, net.b2, *columns)
            return len(inputs), [net.w1, net.b1, pull.T @ inputs, pull.sum(axis=0)]
        inner = inputs @ net.w1
        b1, w2, b2 = (np.zeros_like(p) for p in (net.b1, net.w2, net.b2))
        backward(inner, net.b1, net.w2, net.b2, *columns, b1, w2, b2)
        return len(inputs), [inputs.T @ inner, b1, w2, b2]

    def add(self, found: CellSum) -> None:
        """Adds the gradients of rows of one cell."""
        self.rows[found.cell] += found.rows
        for sums, part in zip((self.w1, self.b1, self.w2, self.b2), found.sums, strict=True):
            sums[found.cell] += part

    def finish(self, sides: int) -> None:
        """Sums become means; a cell of few rows takes the mean over its side."""
        for sums in (self.w1, self.b1, self.w2, self.b2):
            for side in range(sides):
                cells = sums[side::sides]
                rows = self.rows[side::sides].reshape(-1, *[1] * (sums.ndim - 1))
                overall = cells.sum(axis=0) / max(rows.sum(), 1)
                cells[:] = np.where(rows < _LEAST, overall, cells / np.maximum(rows, 1))

    def dot(self, cell: int, inputs: Array, targets: Targets, rates: Array) -> Array:
        """(b,) float32, Σₑ rate · ⟨gradient of the row, mean of the cell⟩.

        Args:
            cell: that of all rows.
            inputs: (b, d) float32, standardised.
            targets: (b,) each.
            rates: (E,) float32.
        """
        net = self.networks
        columns = (targets.positive, targets.negative, targets.observed)
        if net.linear:
            pull = inputs @ net.w2.T
            nobody = np.full(len(inputs), -1)
            pull_rows(pull, net.b2, nobody, *columns, rates)
            return np.einsum("be,be->b", pull, inputs @ self.w2[cell].T + self.b2[cell])
        out = np.empty(len(inputs), np.float32)
        through = inputs @ self.w1[cell]
        means = (self.b1[cell], self.w2[cell], self.b2[cell])
        dot_gradients(
            inputs @ net.w1, through, net.b1, net.w2, net.b2, *columns, *means, rates, out
        )
        return out
