"""How far is estimated examination from the curve that the clicks were drawn by?

    .venv/bin/python -m benchmarks.importance.examination --data home_depot --eta 1

Each source of `importance.examination` sees the same log; click rates by position stand
beside them. Error is the mean of |estimate / truth − 1| over positions 1 to 10. The last
line is one JSON object.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.importance.clicks import ClickLog, make_log
from heft.console import quiet
from heft.errors import HeftError
from heft.importance.click_model import click_model_from_pairs
from heft.importance.dual_learning import from_dual_learning
from heft.importance.examination import from_pairs, from_shuffled_pages
from heft.importance.regression_em import from_regression_em
from heft.simulate import SimulationSettings
from heft.simulate.behaviour import examination

POSITIONS = 10

Array = np.ndarray


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    options = _options()
    quiet()
    truth = examination(np.arange(POSITIONS), options.eta)
    truth = truth / truth[0]
    found: dict[str, list[Array]] = {}
    seconds: dict[str, float] = {}
    try:
        for seed in options.seeds:
            log = make_log(_settings(options, seed))
            for name, curve in _sources(log).items():
                began = time.monotonic()
                found.setdefault(name, []).append(curve())
                seconds[name] = seconds.get(name, 0.0) + time.monotonic() - began
            print(f"seed {seed}: {len(log.data)} rows, {len(log.harvest)} shuffled", flush=True)
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    sources = {name: _figures(curves, truth) for name, curves in found.items()}
    for name, figures in sources.items():
        figures["seconds"] = round(seconds[name] / len(options.seeds), 2)
    _print_table(sources, truth)
    print(json.dumps({"settings": vars(options), "truth": truth.round(4).tolist()} | sources))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="home_depot", help="home_depot or chorus")
    parser.add_argument("--eta", type=float, default=1.0)
    parser.add_argument("--bots", type=float, default=0.05, help="share of sessions")
    parser.add_argument("--trust", default="0.35", help="trust bias in [0, 1], or none")
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--shuffled", type=float, default=0.02, help="share of shuffled pages")
    parser.add_argument("--popularity", type=float, default=0.0, help="exponent of Zipf's law")
    parser.add_argument("--temperature", type=float, default=0.5, help="of the ranker's noise")
    parser.add_argument("--ranker-share", type=float, default=0.01, help="pairs it learned from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    return parser.parse_args()


def _settings(options: argparse.Namespace, seed: int) -> SimulationSettings:
    root = Path(os.environ.get("HEFT_DATA", "../shared/data"))
    return SimulationSettings(
        source=options.data,
        data=str(root / options.data),
        sessions=options.sessions,
        eta=options.eta,
        bots=options.bots,
        trust_bias="none" if options.trust == "none" else float(options.trust),
        shuffled=options.shuffled,
        popularity=options.popularity,
        temperature=options.temperature,
        ranker_share=options.ranker_share,
        min_candidates=POSITIONS,
        seed=seed,
    )


def _sources(log: ClickLog) -> dict[str, Callable[[], Array]]:
    data, harvest = log.data, log.harvest
    columns = data.position, data.label, data.pair
    return {
        "click rates": lambda: _rates(data.position, data.label),
        "shuffled_pages": lambda: from_shuffled_pages(harvest.position, harvest.label).values,
        "pairs": lambda: from_pairs(*columns).values,
        "click model": lambda: click_model_from_pairs(*columns).as_examination().values,
        "regression_em": lambda: from_regression_em(data).values,
        "dual_learning": lambda: from_dual_learning(data).values,
    }


def _rates(position: Array, click: Array) -> Array:
    rate = np.bincount(position, click)[1:] / np.bincount(position)[1:]
    return rate / rate[0]


def _figures(curves: list[Array], truth: Array) -> dict:
    errors = [float(np.abs(curve[:POSITIONS] / truth - 1).mean()) for curve in curves]
    mean = np.mean([curve[:POSITIONS] for curve in curves], axis=0)
    return {
        "error": round(float(np.mean(errors)), 4),
        "errors": [round(e, 4) for e in errors],
        "curve": mean.round(4).tolist(),
    }


def _print_table(sources: dict, truth: Array) -> None:
    print("| source | error | seconds | " + " | ".join(f"{k + 1}" for k in range(POSITIONS)) + " |")
    print("|---|---|---|" + "---|" * POSITIONS)
    print("| truth | 0 | | " + " | ".join(f"{v:.3f}" for v in truth) + " |")
    for name, found in sources.items():
        curve = " | ".join(f"{v:.3f}" for v in found["curve"])
        print(f"| {name} | {found['error']:.3f} | {found['seconds']:.2f} | {curve} |")


if __name__ == "__main__":
    main()
