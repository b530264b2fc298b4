"""One method on one size, in a process of its own; `benchmarks.importance.speed` starts it.

    .venv/bin/python -m benchmarks.importance.speed_methods METHOD ROWS DIMS [--exchange FOLDER]

The last line is one JSON object. The compiler and the thread pools are warmed up on
3,000 rows of other data before the clock starts; peaks hold all of the process. The
exact values, which take a fraction of a second, are timed five times for the shortest.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heft.importance.base import ImportanceData
from heft.importance.data_oob import DataOob
from heft.importance.dynamics import one_pass
from heft.importance.knn_shapley import KnnShapley
from heft.importance.self_influence import SelfInfluence

__all__ = ["EXACT", "METHODS", "REFERENCE_ROWS", "sample"]

Array = np.ndarray

REFERENCE_ROWS, TOP = 500, 200
EXACT = "knn_exact"  # what pyDVL computes too
_WARM_ROWS = 3_000
_GROUP = 10  # rows a request
_EXACT_RUNS = 5


def _knn_shapley(data: ImportanceData, reference: ImportanceData) -> Array:
    return KnnShapley(reference=reference, top=TOP).fit(data).score(data)


def _knn_exact(data: ImportanceData, reference: ImportanceData) -> Array:
    # As pyDVL: features as they are. `values` are the scores before they are rounded.
    return KnnShapley(reference=reference, standardise=False).fit(data).values(data)


METHODS: dict[str, Callable[[ImportanceData, ImportanceData], object]] = {
    "one_pass": lambda data, _: one_pass(data),
    "self_influence": lambda data, _: SelfInfluence().fit(data).score(data),
    "knn_shapley": _knn_shapley,
    "data_oob": lambda data, _: DataOob().fit(data).score(data),
    EXACT: _knn_exact,
}


def main() -> None:
    """Warms up, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("rows", type=int)
    parser.add_argument("dims", type=int)
    parser.add_argument("--exchange", type=Path, help="folder for the sample and its values")
    options = parser.parse_args()
    method = METHODS[options.method]
    reference = sample(REFERENCE_ROWS, options.dims, seed=1)
    method(sample(_WARM_ROWS, options.dims, seed=2), reference)
    data = sample(options.rows, options.dims, seed=3)
    before = _peak_gib()
    walls, processors = [], []
    for _ in range(_EXACT_RUNS if options.method == EXACT else 1):
        wall, processor = time.perf_counter(), time.process_time()
        found = method(data, reference)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    figures = {
        "seconds": min(walls),
        "processor_seconds": min(processors),
        "peak_gib": _peak_gib(),
        "before_gib": before,
    }
    if options.exchange:
        columns = {"x": data.features, "y": data.label}
        valid = {"valid_x": reference.features, "valid_y": reference.label}
        np.savez(options.exchange / "sample.npz", **columns, **valid)
        np.save(options.exchange / "values.npy", found)
    print(json.dumps(figures))


def sample(rows: int, dims: int, seed: int) -> ImportanceData:
    """Gaussian features, labels by a curved logistic law, ten rows a request."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, dims), dtype=np.float32)
    slope = np.random.default_rng(0).standard_normal(dims).astype(np.float32) / np.sqrt(dims)
    logit = 2 * (features @ slope) + np.abs(features[:, 0]) - 1.5
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return ImportanceData.of(features, label, group=np.arange(rows) // _GROUP)


def _peak_gib() -> float:
    """Most memory this process has held so far."""
    # Not getrusage: its figure starts at that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    main()
