"""How a peer's script takes splits and gives scores; NumPy and the standard library only.

    python NAME_scores.py SPLITS SCORES [--models N] [--slow-at NOISE]

Writes SCORES/SPLIT.npz with one (n,) array per method, higher for worth more, and
SCORES/report.json with the processor seconds a split and the errors of each method.
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


def serve(methods: dict[str, Method], slow: tuple[str, ...] = ()) -> None:
    """Runs every method on every split, the slow ones at one level of noise only.

    A method that fails is reported and left out.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("splits", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--models", type=int, default=200, help="bagged models of each ensemble")
    parser.add_argument("--slow-at", type=float, help="noise at which slow methods run; all if not")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    errors: dict[str, str] = {}
    for path in sorted(options.splits.glob("*.npz")):
        with np.load(path) as columns:
            split = dict(columns)
        found = {}
        here = options.slow_at is None or float(path.stem.split("-")[-2]) == options.slow_at
        for name, method in methods.items():
            if name in slow and not here:
                continue
            began = time.process_time()
            try:
                found[name] = np.asarray(method(split, options.models), np.float64)
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                errors.setdefault(name, f"{path.stem}: {type(error).__name__}: {error}")
            seconds[name].append(time.process_time() - began)
        np.savez(options.scores / path.name, **found)
    means = {name: round(float(np.mean(spent)), 2) for name, spent in seconds.items() if spent}
    report = {"seconds": means, "errors": errors}
    (options.scores / "report.json").write_text(json.dumps(report), encoding="utf-8")
