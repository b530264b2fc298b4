"""Shapley values of the nearest-neighbour vote, in closed form, ties and all.

For one reference row, training rows ranked by distance, m_j = 1 where the labels
match and A_j = 1 / max(k, j), the recursion of Jia et al. (2019) sums up to

    s_i = A_i m_i − Σ_{j>i} (A_{j−1} − A_j) m_j

Rows at the same distance have no order among themselves. They get the mean over
all their orders, which has a closed form too: with ranks a…b, M the mean of
A_a…A_b and p the share of matches among the others of the tie,

    s = m M − Σ_{j>b} (A_{j−1} − A_j) m_j − p (M − A_b)

So equal rows get equal values, whatever the order of the data; and the rows
beyond the nearest T count as one big tie, which keeps the sum of all values.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from heft.importance.knn_kernels import CHUNKS, exact_block, join, join_table, value_lists
from heft.importance.nearest import blocks, distinct, nearest, norms, squared_distances
from heft.importance.stacked import threads

__all__ = ["KnnValues"]

Array = np.ndarray

_JOIN = 2048  # how many points a list keeps to value rows that join later


@dataclass(frozen=True)
class KnnValues:
    """Values of a training sample for a set of reference rows.

    Attributes:
        keys: (p,) uint64, sorted: the distinct points.
        counts: (p, 2) int32, rows of each label at a point.
        values: (p, 2) float64, the value of a row by its label.
        queries: (m, d) float32, the reference rows.
        label: (m,) their labels.
        edge: (m, t) float32, squared distances of the nearest points.
        point: (m, t) int32, those points.
        k: of the vote.
    """

    keys: Array
    counts: Array
    values: Array
    queries: Array
    label: Array
    edge: Array
    point: Array
    k: int

    @classmethod
    def of(
        cls,
        keys: Array,
        points: Array,
        label: Array,
        queries: Array,
        query_label: Array,
        k: int,
        top: int | None,
    ) -> Self:
        """Values every row of the sample.

        Args:
            keys: (n,) uint64, equal for equal rows.
            points: (n, d) float32.
            label: (n,) {0, 1}.
            queries: (m, d) float32, m ≥ 1.
            query_label: (m,) {0, 1}.
            k: neighbours that vote.
            top: nearest points told apart; all if None.
        """
        first, index = distinct(keys)
        counts = np.bincount(2 * index + label, minlength=2 * len(first))
        counts = counts.reshape(-1, 2).astype(np.int32)
        total = counts.sum(axis=0)
        weight, cumulative = _weights(k, len(label) + 1)
        chosen = points if _in_order(first, len(points)) else points[first]
        values = np.zeros((CHUNKS, len(first), 2))
        base = np.zeros((len(queries), 2))
        table = (counts, _lone(counts), total, weight, cumulative)
        if top is None or top >= len(first):
            edge, point = _exact(queries, query_label, chosen, table, values, base)
        else:
            found = nearest(queries, chosen, top)
            edge, point = found.distance, found.point
            value_lists(edge, point, query_label, *table, values, base)
        mean = (values.sum(axis=0) + base.sum(axis=0)) / len(queries)
        return cls(
            keys=keys[first],
            counts=counts,
            values=mean,
            queries=queries,
            label=query_label,
            edge=edge,
            point=point,
            k=k,
        )

    def score(self, keys: Array, points: Array, label: Array) -> Array:
        """(n,) float64: what a row is worth in the sample, or would be if it joined.

        Args:
            keys, points, label: as in `of`.
        """
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = (self.keys[place] == keys) & (self.counts[place, label] > 0)
        result = self.values[place, label]
        new = np.flatnonzero(~known)
        if not len(new):
            return result
        total = self.counts.sum(axis=0)
        weight, cumulative = _weights(self.k, int(total.sum()) + 1)
        table = join_table(
            self.edge, self.point, self.label, self.counts, total, weight, cumulative
        )
        lists = (self.edge, *table, total)
        for part in blocks(len(new), len(self.queries)):
            rows = new[part]
            distance = squared_distances(self.queries, points[rows])
            joined = np.zeros(len(rows))
            join(distance, label[rows], self.label, *lists, weight, cumulative, joined)
            result[rows] = joined / len(self.queries)
        return result


def _weights(k: int, rows: int) -> tuple[Array, Array]:
    """A_j = 1 / max(k, j) and its running sum, both for j = 0…rows; A_0 := A_1."""
    weight = 1.0 / np.maximum(k, np.arange(rows + 1))
    weight[0] = weight[min(1, rows)]
    return weight, np.concatenate([[0.0], np.cumsum(weight[1:])])


def _in_order(first: Array, rows: int) -> bool:
    return len(first) == rows and bool((first == np.arange(rows)).all())


def _exact(
    queries: Array,
    query_label: Array,
    points: Array,
    table: tuple[Array, ...],
    values: Array,
    base: Array,
) -> tuple[Array, Array]:
    """Adds up the values over full lists; gives the nearer part of each."""
    kept = min(len(points), _JOIN)
    edge = np.empty((len(queries), kept), np.float32)
    point = np.empty((len(queries), kept), np.int32)
    point_norms, query_norms = norms(points), norms(queries)

    def add(chunk: int) -> None:
        own = slice(len(queries) * chunk // CHUNKS, len(queries) * (chunk + 1) // CHUNKS)
        for part in blocks(own.stop - own.start, len(points), least=16):
            rows = slice(own.start + part.start, own.start + part.stop)
            exact_block(
                queries[rows] @ points.T,
                query_norms[rows],
                point_norms,
                query_label[rows],
                *table,
                values[chunk],
                base[rows],
                edge[rows],
                point[rows],
            )

    with threads() as pool:
        list(pool.map(add, range(CHUNKS)))
    return edge, point


def _lone(counts: Array) -> Array:
    """(p,) int8: the label of a point's only row; −1 where it has more than one."""
    label = np.where(counts[:, 1] > 0, 1, 0)
    return np.where(counts.sum(axis=1) == 1, label, -1).astype(np.int8)
