"""Does weighting help? The whole street, over several seeds, weighted against control.

    .venv/bin/python -m benchmarks.street --config pipeline/configs/chorus.yaml --seeds 101 102 103

Each seed is its own shop: other shoppers, other bots, another split of the
queries. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import stats

METRICS = {"auc": "ctr_auc", "ndcg_at_10": "ctr_ndcg_at_10", "ece": "ctr_ece"}


def main() -> None:
    """Runs every seed in a process of its own and prints a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("pipeline/configs/chorus.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    results = [_run(options, seed) for seed in options.seeds]
    figures = {name: _figures(results, metric) for name, metric in METRICS.items()}
    print(f"\n{'metric':<12}{'weighted':>10}{'control':>10}{'difference':>12}  95 % interval")
    for name, found in figures.items():
        low, high = found["interval"]
        print(
            f"{name:<12}{found['weighted']:>10.4f}{found['control']:>10.4f}"
            f"{found['difference']:>+12.4f}  {low:+.4f} … {high:+.4f}"
        )
    facts = {
        "config": options.config.name,
        "seeds": options.seeds,
        "pushed": sum(bool(result["pushed"]) for result in results),
        "seconds": [result["wall"] for result in results],
        **figures,
    }
    print(json.dumps(facts))


def _run(options: argparse.Namespace, seed: int) -> dict:
    """One seed through the street; its summary."""
    name = f"{options.config.stem}-{seed}"
    command = [sys.executable, "-m", "heft.cli", "run", str(options.config), "--name", name]
    command += ["--runs", str(options.runs), "--set", f"seed={seed}"]
    command += [part for item in options.overrides for part in ("--set", item)]
    began = time.monotonic()
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"seed {seed} failed:\n{done.stdout}{done.stderr}")
    summary = json.loads((options.runs / name / "summary.json").read_text())
    summary["wall"] = round(time.monotonic() - began, 1)
    graded = {m: summary["metrics"][m]["graded"] for m in ("weighted", "control")}
    print(
        f"seed {seed}: clean-test AUC {graded['weighted']['ctr_auc']:.4f} weighted, "
        f"{graded['control']['ctr_auc']:.4f} control, pushed={summary['pushed']}, "
        f"{summary['wall']:.0f} s",
        flush=True,
    )
    return summary


def _figures(results: list[dict], metric: str) -> dict:
    """Means over seeds, and the t interval of the paired difference."""
    weighted, control = (
        np.array([result["metrics"][model]["graded"][metric] for result in results])
        for model in ("weighted", "control")
    )
    difference = weighted - control
    interval = [float("nan")] * 2
    if len(difference) > 1:
        half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
        interval = [float(difference.mean() - half), float(difference.mean() + half)]
    return {
        "weighted": float(weighted.mean()),
        "control": float(control.mean()),
        "difference": float(difference.mean()),
        "interval": interval,
        "by_seed": [round(float(x), 4) for x in difference],
    }


if __name__ == "__main__":
    main()
