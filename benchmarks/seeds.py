"""One shop after another: what benchmarks of several seeds have in common."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from heft.console import quiet
from heft.errors import HeftError

__all__ = ["each_seed"]

_T = TypeVar("_T")


def each_seed(seeds: Iterable[int], run: Callable[[int], _T]) -> list[_T]:
    """What `run` makes of each seed, with seconds; bad input ends in one message."""
    quiet()
    found, began = [], time.monotonic()
    try:
        for seed in seeds:
            found.append(run(seed))
            print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    return found
