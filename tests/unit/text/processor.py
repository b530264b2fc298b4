"""What int8 can reach on this processor."""

from pathlib import Path

__all__ = ["INT8_COSINE"]

_FLAGS = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()

# Without int8 products of their own (docs/text.md) processors saturate in some sums.
INT8_COSINE = 0.99 if {"avx512_vnni", "avx_vnni"} & set(_FLAGS) else 0.98
