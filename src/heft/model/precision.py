"""In how many bits the bodies of a network compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

__all__ = ["computing_in"]


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers that are made inside compute in 32 bits, or with `mixed` in bfloat16.

    Their weights have 32 bits either way; bfloat16 has the range of float32, so that the loss
    needs no scaling. Inputs, batch normalisation and logits stay in 32 bits.
    """
    before = keras.config.dtype_policy()
    if precision == "mixed":
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
