"""Loops behind `KnnValues`; its module text has the formulas."""

import numba
import numpy as np

from heft.importance.nearest import sort_pairs, squared

__all__ = ["CHUNKS", "exact_block", "join", "join_table", "value_lists"]

Array = np.ndarray

CHUNKS = 8  # fixed, so that sums do not depend on the number of cores


@numba.njit(cache=True, nogil=True)
def exact_block(
    product: Array,
    query_norms: Array,
    point_norms: Array,
    query_label: Array,
    counts: Array,
    lone: Array,
    total: Array,
    weight: Array,
    cumulative: Array,
    values: Array,
    base: Array,
    edge: Array,
    point: Array,
) -> None:
    """Sorts and values full lists, each read while it is in the cache; in one thread.

    Args:
        product: (b, p) float32, overwritten.
        edge, point: (b, kept), the nearer part of each list, written.
    """
    kept = edge.shape[1]
    order = np.empty(len(point_norms), np.int32)
    table = (counts, lone, total, weight, cumulative)
    for q in range(len(product)):
        distance = product[q]
        for i in range(len(order)):
            distance[i] = squared(query_norms[q], point_norms[i], distance[i])
            order[i] = i
        sort_pairs(distance, order, len(order))
        _value_list(distance, order, query_label[q], *table, values, base[q])
        edge[q], point[q] = distance[:kept], order[:kept]


@numba.njit(cache=True, parallel=True)
def value_lists(
    distance: Array,
    point: Array,
    query_label: Array,
    counts: Array,
    lone: Array,
    total: Array,
    weight: Array,
    cumulative: Array,
    values: Array,
    base: Array,
) -> None:
    """Values every list; chunk c of lists adds to `values[c]`."""
    chunks = len(values)
    for c in numba.prange(chunks):
        table = (counts, lone, total, weight, cumulative)
        for q in range(c, len(point), chunks):
            _value_list(distance[q], point[q], query_label[q], *table, values[c], base[q])


@numba.njit(cache=True, nogil=True)
def _value_list(
    distance: Array,
    point: Array,
    y: int,
    counts: Array,
    lone: Array,
    total: Array,
    weight: Array,
    cumulative: Array,
    values: Array,
    base: Array,
) -> None:
    """Adds the values of one list: `values` (p, 2) per listed point, `base` (2,) for the rest."""
    last = total[0] + total[1]
    used, kept, kept_match = len(point), last, total[y]
    if used < len(counts):
        used, kept, kept_match = 0, 0, 0
        while used < len(point) and point[used] >= 0:
            kept += counts[point[used], 0] + counts[point[used], 1]
            kept_match += counts[point[used], y]
            used += 1
    tail = 0.0
    if last > kept:
        match = total[y] - kept_match
        base[y] = _tied(1, match, kept, last, tail, weight, cumulative)
        base[1 - y] = _tied(0, match, kept, last, tail, weight, cumulative)
        tail += match / (last - kept) * (weight[kept] - weight[last])
        last = kept
    end = used
    while end > 0:
        p = point[end - 1]
        own = lone[p]
        if own >= 0 and (end == 1 or distance[end - 2] != distance[end - 1]):
            # Most often; the same, in short. Arithmetic, since a branch on `own == y`, which
            # nobody can predict, takes three times as long.
            mine = 1 - (own ^ y)
            values[p, own] += mine * weight[last] - tail - base[own]
            tail += mine * (weight[last - 1] - weight[last])
            last, end = last - 1, end - 1
            continue
        start, match, size = end, 0, 0
        while start > 0 and distance[start - 1] == distance[end - 1]:
            start -= 1
            match += counts[point[start], y]
            size += counts[point[start], 0] + counts[point[start], 1]
        first = last - size
        up = _tied(1, match, first, last, tail, weight, cumulative) - base[y]
        down = _tied(0, match, first, last, tail, weight, cumulative) - base[1 - y]
        for i in range(start, end):
            values[point[i], y] += up
            values[point[i], 1 - y] += down
        tail += match / size * (weight[first] - weight[last])
        last, end = first, start


@numba.njit(cache=True, nogil=True, inline="always")
def _tied(
    mine: int, match: int, first: int, last: int, tail: float, weight: Array, cumulative: Array
) -> float:
    """Value of a row, matching or not, that shares ranks first + 1…last with `match` matches."""
    if last - first == 1:
        return mine * weight[last] - tail
    mean = (cumulative[last] - cumulative[first]) / (last - first)
    others = (match - mine) / (last - first - 1)
    return mine * mean - tail - others * (mean - weight[last])


@numba.njit(cache=True, parallel=True)
def join_table(
    distance: Array,
    point: Array,
    query_label: Array,
    counts: Array,
    total: Array,
    weight: Array,
    cumulative: Array,
) -> tuple[Array, Array, Array]:
    """Running sums over each list, with the ranks after a row has joined before them."""
    lists, length = point.shape
    before = np.zeros((lists, length + 1), np.int64)
    match = np.zeros((lists, length + 1), np.int64)
    tail = np.zeros((lists, length + 1))
    for q in numba.prange(lists):
        y = query_label[q]
        for i in range(length):
            p = point[q, i]
            before[q, i + 1] = before[q, i] + (counts[p, 0] + counts[p, 1] if p >= 0 else 0)
            match[q, i + 1] = match[q, i] + (counts[p, y] if p >= 0 else 0)
        kept, rows = before[q, length], total[0] + total[1]
        taken = 0.0
        if rows > kept:
            share = (total[y] - match[q, length]) / (rows - kept)
            taken = share * (weight[kept + 1] - weight[rows + 1])
        tail[q, length] = taken
        end = length
        while end > 0:
            start = end - 1
            while start > 0 and distance[q, start - 1] == distance[q, end - 1]:
                start -= 1
            first, last = before[q, start], before[q, end]
            if last > first:
                share = (match[q, end] - match[q, start]) / (last - first)
                taken += share * (weight[first + 1] - weight[last + 1])
            tail[q, start:end] = taken
            end = start
    return before, match, tail


@numba.njit(cache=True, parallel=True)
def join(
    distance: Array,
    label: Array,
    query_label: Array,
    edge: Array,
    before: Array,
    match: Array,
    tail: Array,
    total: Array,
    weight: Array,
    cumulative: Array,
    joined: Array,
) -> None:
    """Adds to `joined` what each row would be worth to every reference row."""
    rows, length = total[0] + total[1], edge.shape[1]
    for c in numba.prange(CHUNKS):
        low, high = c * len(label) // CHUNKS, (c + 1) * len(label) // CHUNKS
        for q in range(len(query_label)):
            y, kept = query_label[q], before[q, length]
            far = np.zeros(2)
            if rows > kept:
                others = total[y] - match[q, length]
                far[0] = _tied(0, others, kept, rows + 1, 0.0, weight, cumulative)
                far[1] = _tied(1, others + 1, kept, rows + 1, 0.0, weight, cumulative)
            else:
                far[1] = weight[rows + 1]
            limit = edge[q, length - 1]
            for i in range(low, high):
                mine, near = int(label[i] == y), distance[q, i]
                if near > limit:
                    joined[i] += far[mine]
                    continue
                start = np.searchsorted(edge[q], near)
                end = start
                while end < length and edge[q, end] == near:
                    end += 1
                tied = match[q, end] - match[q, start] + mine
                first, last = before[q, start], before[q, end] + 1
                joined[i] += _tied(mine, tied, first, last, tail[q, end], weight, cumulative)
