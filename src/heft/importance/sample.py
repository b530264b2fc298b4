"""Which rows estimators learn from: whole requests, picked by hash, as many as fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heft import features as f
from heft.importance.gather import FEATURES, HASHES, Block, hash_of, load_block

__all__ = ["Sample", "choose"]

Array = np.ndarray
Columns = dict[str, Array]


@dataclass(frozen=True)
class Sample:
    """Rows whose request's hash is below `bound`.

    Attributes:
        bound: in [1, HASHES]; with HASHES all rows are in.
        rows: how many that are.
        of: rows there are in all.
    """

    bound: int
    rows: int
    of: int

    def holds(self, request: Array) -> Array:
        """(n,) bool, by request key."""
        return hash_of(request) < self.bound

    def load(self, blocks: Sequence[Block]) -> tuple[Columns, Array]:
        """Columns and proxy features of the rows in it, in order; memory O(rows in it)."""
        columns: Columns = {}
        end = 0
        for block in blocks:
            stored = load_block(block.path)
            chosen = np.flatnonzero(self.holds(stored[f.REQUEST_KEY]))
            for name, values in stored.items():
                if name not in columns:
                    columns[name] = np.empty((self.rows, *values.shape[1:]), values.dtype)
                columns[name][end : end + len(chosen)] = values[chosen]
            end += len(chosen)
        return columns, columns.pop(FEATURES)


def choose(hashes: Array, most: int) -> Sample:
    """The largest such sample of at most `most` rows; one hash's requests at least.

    Args:
        hashes: (HASHES,) rows by hash of their request.
        most: all rows, where they fit.
    """
    total = np.cumsum(hashes)
    bound = int(np.searchsorted(total, most, side="right"))
    # Buckets that hold nothing must not keep the sample from holding something.
    bound = max(bound, int(np.flatnonzero(total)[0]) + 1 if total[-1] else HASHES)
    return Sample(min(bound, HASHES), int(total[min(bound, HASHES) - 1]), int(total[-1]))
