"""Who is near whom, for millions of rows, without the matrix of all distances."""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

__all__ = [
    "Nearest",
    "blocks",
    "distinct",
    "nearest",
    "norms",
    "row_keys",
    "salted",
    "sort_pairs",
    "squared",
    "squared_distances",
]

Array = np.ndarray

_BLOCK = 1 << 22  # distances at a time: 16 MiB
_BASIS = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Nearest:
    """The points nearest to each of m queries, nearest first.

    Attributes:
        distance: (m, t) float32, squared; infinity past the end of a list.
        point: (m, t) int32; −1 past the end.
    """

    distance: Array
    point: Array


def row_keys(features: Array) -> Array:
    """(n,) uint64: a hash of each row's values; equal rows have equal keys.

    Two different rows share a key with probability 2⁻⁶⁴.

    Args:
        features: (n, d), taken as float32.
    """
    features = np.ascontiguousarray(features, np.float32)
    keys = np.empty(len(features), np.uint64)
    _hash_rows(features.view(np.uint32).reshape(features.shape), keys)
    return keys


def salted(seed: int, *columns: Array) -> Array:
    """(n,) uint64: a hash of a seed and of each row's whole numbers.

    Args:
        columns: each (n,) of 64-bit integers.
    """
    rows = len(columns[0])
    words = [np.full(rows, seed, np.int64), *columns]
    bits = np.stack([np.asarray(x).astype(np.int64, copy=False) for x in words], axis=1)
    keys = np.empty(rows, np.uint64)
    _hash_rows(bits.view(np.uint32), keys)
    return keys


def distinct(keys: Array) -> tuple[Array, Array]:
    """One row per key, in the order of keys, and for each row which of them it is.

    Args:
        keys: (n,) uint64.

    Returns:
        (p,) int64 rows and (n,) int64 in [0, p).
    """
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    return first, index.ravel()


def blocks(rows: int, columns: int, least: int = 64) -> Iterator[slice]:
    """Slices of `rows` such that a slice times `columns` distances fit the cache.

    None but the last is shorter than `least`, so that products stay fast.
    """
    size = max(least, _BLOCK // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def squared_distances(queries: Array, points: Array) -> Array:
    """(m, n) float32 ‖q − x‖², by one matrix product; never below 0.

    Args:
        queries: (m, d) float32. points: (n, d) float32.
    """
    result = queries @ points.T
    _complete(result, norms(queries), norms(points))
    return result


def nearest(queries: Array, points: Array, top: int) -> Nearest:
    """The `top` points nearest to each query.

    Distances are made block by block. A list keeps what is nearer than the
    `top`-th found so far, and is cut back to `top` when it is full.

    Cost: n · m · d multiplications; time O(n · m), memory O(m · top).

    Args:
        queries: (m, d) float32.
        points: (n, d) float32; the order of equally near points decides which
            of them a full list keeps.
        top: at least 1.
    """
    top = min(top, len(points))
    room = 4 * top + 64
    distance = np.full((len(queries), room), np.inf, np.float32)
    point = np.full((len(queries), room), -1, np.int32)
    count = np.zeros(len(queries), np.int64)
    limit = np.full(len(queries), np.inf, np.float32)
    querynorms = norms(queries)
    for part in blocks(len(points), len(queries)):
        block = points[part]
        product = queries @ block.T
        _scan(
            product,
            querynorms,
            norms(block),
            part.start,
            top,
            distance,
            point,
            count,
            limit,
        )
    _finish(distance, point, count, top)
    return Nearest(distance[:, :top].copy(), point[:, :top].copy())


@numba.njit(cache=True, nogil=True, inline="always")
def squared(query_norm: np.float32, point_norm: np.float32, product: np.float32) -> np.float32:
    """‖q − x‖² from ‖q‖², ‖x‖² and q·x, float32."""
    return max(np.float32(0.0), query_norm + point_norm - np.float32(2.0) * product)


@numba.njit(cache=True, parallel=True)
def _complete(product: Array, querynorms: Array, pointnorms: Array) -> None:
    for q in numba.prange(len(querynorms)):
        for i in range(len(pointnorms)):
            product[q, i] = squared(querynorms[q], pointnorms[i], product[q, i])


def norms(rows: Array) -> Array:
    """(n,) squared length of each row."""
    return np.einsum("ij,ij->i", rows, rows)


@numba.njit(cache=True, parallel=True)
def _scan(
    product: Array,
    querynorms: Array,
    pointnorms: Array,
    start: int,
    top: int,
    distance: Array,
    point: Array,
    count: Array,
    limit: Array,
) -> None:
    """Adds one block of points to the list of every query."""
    room = distance.shape[1]
    for q in numba.prange(len(querynorms)):
        used, bound = count[q], limit[q]
        for i in range(len(pointnorms)):
            near = squared(querynorms[q], pointnorms[i], product[q, i])
            if near < bound:
                distance[q, used] = near
                point[q, used] = start + i
                used += 1
                if used == room:
                    sort_pairs(distance[q], point[q], used)
                    used = top
                    bound = distance[q, top - 1]
        count[q], limit[q] = used, bound


@numba.njit(cache=True, parallel=True)
def _finish(distance: Array, point: Array, count: Array, top: int) -> None:
    for q in numba.prange(len(count)):
        sort_pairs(distance[q], point[q], count[q])
        for i in range(count[q], top):
            distance[q, i] = np.inf
            point[q, i] = -1


@numba.njit(cache=True, nogil=True)
def sort_pairs(distance: Array, point: Array, used: int) -> None:
    """Sorts the first `used` pairs by distance, in place; equal distances keep their order.

    A radix sort: the bits of non-negative floats are in the order of the floats, and
    those above the smallest distance often fit two digits.

    Args:
        distance: (≥ used,) float32, non-negative. point: (≥ used,) int32.
    """
    if used < 2:
        return
    key, index = distance[:used].view(np.uint32), point[:used]
    low, high = key[0], key[0]
    for i in range(used):
        low, high = min(low, key[i]), max(high, key[i])
    bits = 0
    while (high - low) >> np.uint32(bits):
        bits += 1
    digits = max(1, -(-bits // (12 if used > 4096 else 8)))
    width = -(-bits // digits)
    values = 1 << width
    for i in range(used):
        key[i] -= low
    from_key, from_index = key, index
    to_key, to_index = np.empty_like(key), np.empty_like(index)
    offset = np.empty(values, np.int32)
    for digit in range(digits):
        shift, mask = np.uint32(digit * width), np.uint32(values - 1)
        _deal(from_key, from_index, to_key, to_index, offset, shift, mask)
        from_key, to_key = to_key, from_key
        from_index, to_index = to_index, from_index
    if digits % 2:
        key[:], index[:] = from_key, from_index
    for i in range(used):
        key[i] += low


@numba.njit(cache=True, nogil=True)
def _deal(
    key: Array,
    index: Array,
    to_key: Array,
    to_index: Array,
    offset: Array,
    shift: np.uint32,
    mask: np.uint32,
) -> None:
    """Sorts by one digit; equal digits keep their order."""
    offset[:] = 0
    for i in range(len(key)):
        offset[(key[i] >> shift) & mask] += 1
    total = 0
    for b in range(len(offset)):
        total, offset[b] = total + offset[b], total
    for i in range(len(key)):
        digit = (key[i] >> shift) & mask
        place = offset[digit]
        offset[digit] = place + 1
        to_key[place] = key[i]
        to_index[place] = index[i]


@numba.njit(cache=True, parallel=True)
def _hash_rows(bits: Array, keys: Array) -> None:
    for i in numba.prange(len(keys)):
        key = _BASIS
        for value in bits[i]:
            if value == 0x80000000:  # −0 equals 0
                value = np.uint32(0)
            key = (key ^ np.uint64(value)) * _PRIME
            key ^= key >> np.uint64(29)
        key = (key ^ (key >> np.uint64(32))) * _MIX
        keys[i] = key ^ (key >> np.uint64(31))
