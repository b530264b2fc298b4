"""CRC-32C as TFRecord files mask it, compiled."""

import numba
import numpy as np

__all__ = ["masked_crc"]

_MASK_DELTA = np.uint32(0xA282EAD8)


def _crc_tables() -> np.ndarray:
    """(8, 256) uint32: CRC-32C of one byte, that many places before the end."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        tables[0, byte] = crc
    for place in range(1, 8):
        before = tables[place - 1]
        tables[place] = (before >> np.uint32(8)) ^ tables[0][before & np.uint32(255)]
    return tables


_TABLES = _crc_tables()


@numba.njit(nogil=True, cache=True)
def masked_crc(data: np.ndarray, begin: int, end: int) -> int:
    """TFRecord's masked CRC-32C of data[begin:end], eight bytes at a time."""
    crc = np.uint32(0xFFFFFFFF)
    place = begin
    while place + 8 <= end:
        low = np.uint32(0)
        for k in range(4):
            low |= np.uint32(data[place + k]) << np.uint32(8 * k)
        low ^= crc
        crc = np.uint32(0)
        for k in range(4):
            crc ^= _TABLES[7 - k, (low >> np.uint32(8 * k)) & np.uint32(255)]
            crc ^= _TABLES[3 - k, data[place + 4 + k]]
        place += 8
    while place < end:
        crc = (crc >> np.uint32(8)) ^ _TABLES[0, (crc ^ data[place]) & np.uint32(255)]
        place += 1
    crc ^= np.uint32(0xFFFFFFFF)
    rotated = (crc >> np.uint32(15)) | np.uint32(crc << np.uint32(17))
    masked: int = np.uint32(rotated + _MASK_DELTA)  # type: ignore[assignment]
    return masked
