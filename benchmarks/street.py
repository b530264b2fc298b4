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
    _print_table(figures)
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
    facts = json.loads((options.runs / name / "report" / "report.json").read_text())
    graded = facts["comparison"]["views"]["graded"]["metrics"]
    summary["graded"] = {metric["name"]: metric for metric in graded}
    auc = summary["graded"]["ctr_auc"]
    print(
        f"seed {seed}: AUC on human grades {auc['weighted']:.4f} weighted, "
        f"{auc['control']:.4f} control, pushed={summary['pushed']}, {summary['wall']:.0f} s",
        flush=True,
    )
    return summary


def _figures(results: list[dict], metric: str) -> dict:
    """Means over seeds, with two intervals of the paired difference.

    `interval` is of the queries: each run's paired bootstrap over its unseen
    queries, the runs pooled as independent. `interval_seeds` is Student's t over
    the seeds, which also holds that each seed trains on other queries and clicks.
    """
    found = [result["graded"][metric] for result in results]
    weighted, control, low, high = (
        np.array([one[key] for one in found]) for key in ("weighted", "control", "low", "high")
    )
    difference = weighted - control
    mean, count = float(difference.mean()), len(found)
    pooled = float(np.sqrt((((high - low) / 2) ** 2).sum()) / count)
    spread = stats.t.ppf(0.975, count - 1) * stats.sem(difference) if count > 1 else np.nan
    return {
        "weighted": float(weighted.mean()),
        "control": float(control.mean()),
        "difference": mean,
        "interval": [mean - pooled, mean + pooled],
        "interval_seeds": [mean - float(spread), mean + float(spread)],
        "by_seed": [round(float(x), 4) for x in difference],
    }


def _print_table(figures: dict[str, dict]) -> None:
    columns = ("weighted", "control", "difference", "over queries", "over seeds")
    print(f"\n{'metric':<12}" + "".join(f"{name:>20}" for name in columns))
    for name, found in figures.items():
        spans = (
            f"{found[key][0]:+.4f} … {found[key][1]:+.4f}" for key in ("interval", "interval_seeds")
        )
        values = (
            f"{found['weighted']:.4f}",
            f"{found['control']:.4f}",
            f"{found['difference']:+.4f}",
        )
        print(f"{name:<12}" + "".join(f"{value:>20}" for value in (*values, *spans)))


if __name__ == "__main__":
    main()
