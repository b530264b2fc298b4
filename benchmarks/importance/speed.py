"""How long do estimators take on a million rows, and how much memory?

    .venv/bin/python -m benchmarks.importance.speed
    .venv/bin/python -m benchmarks.importance.speed --no-peers --methods knn_shapley

Each method at a tenth of the rows and at all of them, `fit` and `score`, on two cores,
in processes of their own, so that the peak of memory is the method's (interpreter,
libraries and data included). Compiling is done before the clock starts. Then exact
KNN-Shapley at 10,000 × 500 beside pyDVL's on the same arrays, whose environment is made
under runs/benchmark-envs. Ours is the shortest of five runs; pyDVL's the shorter of one
with one process and one with two. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.importance.peer_environments import PEERS, SCRIPTS, prepare
from benchmarks.importance.speed_methods import EXACT, METHODS, REFERENCE_ROWS

ROOT = Path(__file__).parents[2]
EXACT_ROWS = 10_000
AT_SCALE = [name for name in METHODS if name != EXACT]
_STEP = 10  # the smaller size is this much smaller
# Distances are float32 here and there: two rows almost as far as each other may swap
# places, which changes values by about 1 / (rank · reference rows).
_DIFFERENCE = 1e-5


def main() -> None:
    """Measures, then prints figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=AT_SCALE, choices=AT_SCALE)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    # What is started from here inherits it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, {options.dims} dimensions; compiled and warmed up beforehand\n")
    print(f"{'method':<16}{'rows':>10}{'seconds':>10}{'processor s':>13}{'peak GiB':>10}")
    large, small = {}, {}
    for name in options.methods:
        small[name] = measure(name, options.rows // _STEP, options.dims)
        large[name] = measure(name, options.rows, options.dims)
    with tempfile.TemporaryDirectory() as folder:
        exact = measure(EXACT, EXACT_ROWS, options.dims, Path(folder))
        peer = {} if options.no_peers else beside_pydvl(Path(folder), exact["seconds"], cores)
    peaks = {name: round(found["peak_gib"], 2) for name, found in large.items()}
    figures = {
        "rows": options.rows,
        "dims": options.dims,
        "cores": cores,
        **{f"{name}_s": round(found["seconds"], 2) for name, found in large.items()},
        "peak_gib": max(peaks.values(), default=None),
        "peaks": peaks,
        "processor_s": {
            name: round(found["processor_seconds"], 2) for name, found in large.items()
        },
        "growth": {
            name: round(found["seconds"] / small[name]["seconds"], 2)
            for name, found in large.items()
        },
        "growth_of_rows": _STEP,
        "knn_exact_s": round(exact["seconds"], 4),
        **peer,
    }
    print(json.dumps(figures))


def measure(name: str, rows: int, dims: int, exchange: Path | None = None) -> dict[str, float]:
    """Figures of one method on one size, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.importance.speed_methods"]
    command += [name, str(rows), str(dims)]
    if exchange:
        command += ["--exchange", str(exchange)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    line = f"{name:<16}{rows:>10,}{found['seconds']:>10.2f}{found['processor_seconds']:>13.2f}"
    print(f"{line}{found['peak_gib']:>10.2f}", flush=True)
    return found


def beside_pydvl(folder: Path, ours: float, cores: int) -> dict[str, object]:
    """pyDVL on the sample in `folder`: its seconds, how often ours fit in, the difference.

    Raises:
        ArithmeticError: the values differ.
    """
    (pydvl,) = (peer for peer in PEERS if peer.name == "pydvl")
    python, error = prepare(pydvl)
    if python is None:
        print(f"pyDVL could not be installed: {error}")
        return {"ratio_pydvl": None, "unavailable": [f"pyDVL could not be installed: {error}"]}
    jobs = sorted({1, cores})
    command = [
        str(python),
        "-W",
        "ignore",
        str(SCRIPTS / "pydvl_speed.py"),
        str(folder),
        *map(str, jobs),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = json.loads(done.stdout.splitlines()[-1])
    values, theirs = np.load(folder / "values.npy"), np.load(folder / "pydvl.npy")
    difference = float(np.abs(values - theirs).max())
    if not difference <= _DIFFERENCE:
        raise ArithmeticError(
            f"values differ from pyDVL's by {difference:.1e}: expected at most {_DIFFERENCE:.0e}"
        )
    spent = ", ".join(f"{s:.2f} s with {n} processes" for n, s in seconds.items())
    best = min(seconds.values())
    print(
        f"\nKNN-Shapley, exact, {len(values):,} x {REFERENCE_ROWS}: Heft {ours:.3f} s, "
        f"pyDVL {spent}; {best / ours:.0f} times; largest difference {difference:.1e}\n"
    )
    return {
        "pydvl_s": {n: round(s, 2) for n, s in seconds.items()},
        "ratio_pydvl": round(best / ours, 1),
        "largest_difference": difference,
    }


if __name__ == "__main__":
    main()
