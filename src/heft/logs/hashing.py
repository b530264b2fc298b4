"""Hashes of ids, over Arrow's own buffers."""

import numba
import numpy as np
import pyarrow as pa

__all__ = ["hash_ids"]

_KEY = np.frombuffer(b"0123456789123456", "<u8")
_MASKS = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def hash_ids(ids: pa.Array) -> np.ndarray:
    """Hashes of strings, uint64 (rows,): SipHash-2-4 (Aumasson & Bernstein 2012) of the UTF-8
    bytes under a fixed key, mixed once more; those of `pandas.util.hash_array`, the same in
    every process. Null is hashed as the empty string."""
    if ids.null_count:
        ids = ids.fill_null("")
    if not len(ids):
        return np.empty(0, np.uint64)
    wide = pa.types.is_large_string(ids.type)
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32)
    ends = ends[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    text = (
        np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    )
    out = np.empty(len(ids), np.uint64)
    _hash_all(text, ends, out)
    return out


@numba.njit(nogil=True, cache=True, inline="always")
def _rotated(x: np.uint64, by: int) -> np.uint64:
    return (x << np.uint64(by)) | (x >> np.uint64(64 - by))


@numba.njit(nogil=True, cache=True)
def _rounds(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, count: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    for _ in range(count):
        a, c = a + b, c + d
        b, d = _rotated(b, 13) ^ a, _rotated(d, 16) ^ c
        a = _rotated(a, 32)
        c, a = c + b, a + d
        b, d = _rotated(b, 17) ^ c, _rotated(d, 21) ^ a
        c = _rotated(c, 32)
    return a, b, c, d


@numba.njit(nogil=True, cache=True)
def _mixed(value: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014): every bit depends on all."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _hash_all(text: np.ndarray, ends: np.ndarray, out: np.ndarray) -> None:
    low, high = _KEY[0], _KEY[1]
    for row in range(len(out)):
        begin, end = ends[row], ends[row + 1]
        a, b = low ^ np.uint64(_MASKS[0]), high ^ np.uint64(_MASKS[1])
        c, d = low ^ np.uint64(_MASKS[2]), high ^ np.uint64(_MASKS[3])
        place = begin
        while place + 8 <= end:
            word = np.uint64(0)
            for k in range(8):
                word |= np.uint64(text[place + k]) << np.uint64(8 * k)
            d ^= word
            a, b, c, d = _rounds(a, b, c, d, 2)
            a ^= word
            place += 8
        word = np.uint64(end - begin) << np.uint64(56)
        for k in range(end - place):
            word |= np.uint64(text[place + k]) << np.uint64(8 * k)
        d ^= word
        a, b, c, d = _rounds(a, b, c, d, 2)
        a ^= word
        c ^= np.uint64(0xFF)
        a, b, c, d = _rounds(a, b, c, d, 4)
        out[row] = _mixed(a ^ b ^ c ^ d)
