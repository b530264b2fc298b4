"""How a peer's script takes splits and gives scores; NumPy and the standard library only.

    python NAME_scores.py SPLITS SCORES [--models N]

Writes SCORES/SPLIT.npz with one (n,) array per method, higher for worth more, and
SCORES/report.json with the seconds and the errors of each method.
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

Method = Callable[[dict[str, np.ndarray], int], np.ndarray]


def serve(methods: dict[str, Method]) -> None:
    """Runs every method on every split. One that fails is reported and left out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("splits", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--models", type=int, default=200, help="bagged models of each ensemble")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seconds = dict.fromkeys(methods, 0.0)
    errors: dict[str, str] = {}
    for path in sorted(options.splits.glob("*.npz")):
        with np.load(path) as columns:
            split = dict(columns)
        found = {}
        for name, method in methods.items():
            began = time.perf_counter()
            try:
                found[name] = np.asarray(method(split, options.models), np.float64)
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                errors.setdefault(name, f"{path.stem}: {type(error).__name__}: {error}")
            seconds[name] += time.perf_counter() - began
        np.savez(options.scores / path.name, **found)
    count = len(list(options.splits.glob("*.npz")))
    report = {
        "splits": count,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "errors": errors,
    }
    (options.scores / "report.json").write_text(json.dumps(report), encoding="utf-8")
