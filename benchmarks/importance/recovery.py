"""How much of what bias costs do the weights win back? Click logs with known truth.

    .venv/bin/python -m benchmarks.importance.recovery --data home_depot --eta 1 --bots .05

Every arm trains the same network on the same batches; what differs is the
weight pairs. It is judged on human grades of queries that no log contains.
Recovery R = (arm − unweighted) / (oracle − unweighted), where the oracle trains on
the true attractiveness. The last line is one JSON object.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.side_by_side import train
from heft.console import quiet
from heft.errors import HeftError
from heft.evaluation.grouped import group_codes, ndcg_at_k
from heft.evaluation.metrics import Auc, Ece, Metric, err_gain
from heft.simulate import SimulationSettings
from heft.simulate.sources import load_judgements

METRICS = ("auc", "ndcg_at_10", "ece")
HEADLINES = {
    "r_auc_true": "heft_true",
    "r_auc_estimated": "heft_estimated",
    "r_auc_no_shuffle": "heft_no_shuffle",
}

Array = np.ndarray


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    asked = parser(__doc__)
    asked.add_argument("--arms", nargs="+", help="only these, beside the reference arms")
    options = asked.parse_args()
    quiet()
    try:
        settings = simulation_settings(options)
        seeds = [_seed(settings, seed, options) for seed in options.seeds]
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    names = list(seeds[0]["values"])
    arms = {name: _figures(seeds, name, options.resamples) for name in names}
    _print_table(arms)
    detection = {
        kind: float(np.mean([s["bots"][kind] for s in seeds if kind in s["bots"]]))
        for kind in sorted({kind for s in seeds for kind in s["bots"]})
    }
    facts = {
        **{key: arms[name]["r_auc"] for key, name in HEADLINES.items()},
        "loss_auc": round(arms["unweighted"]["auc"] - arms["heft_no_shuffle"]["auc"], 5),
        "shuffled_weights_gain": round(
            arms["heft_shuffled_weights"]["auc"] - arms["unweighted"]["auc"], 5
        ),
        "bot_detection_auc": detection,
        "settings": settings.model_dump(exclude={"seed"}),
        "seeds": options.seeds,
        "seconds": [round(s["seconds"], 1) for s in seeds],
        "arms": arms,
    }
    print(json.dumps(facts))


def parser(text: str) -> argparse.ArgumentParser:
    """What a log is made of; `text` is the documentation of the benchmark."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--data", default="home_depot", help="home_depot, chorus or a folder")
    parser.add_argument("--eta", type=float, default=1.0)
    parser.add_argument("--bots", type=float, default=0.05, help="share of sessions")
    parser.add_argument("--noise", type=float, default=0.0, help="share of labels turned over")
    parser.add_argument("--sessions", type=int, default=60_000)
    parser.add_argument("--shuffled", type=float, default=0.02, help="share of shuffled pages")
    parser.add_argument("--popularity", type=float, default=0.0, help="exponent of Zipf's law")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    parser.add_argument("--resamples", type=int, default=200)
    return parser


def simulation_settings(options: argparse.Namespace) -> SimulationSettings:
    """The shop of the options, its seed aside."""
    known = options.data in ("home_depot", "chorus")
    root = Path(os.environ.get("HEFT_DATA", "../shared/data"))
    settings = SimulationSettings(
        source=options.data if known else "pairs",
        data=str(root / options.data if known else options.data),
        sessions=options.sessions,
        eta=options.eta,
        bots=options.bots,
        label_noise=options.noise,
        shuffled=options.shuffled,
        popularity=options.popularity,
    )
    # Pages of ten where the data has queries enough for them.
    judged = load_judgements(settings).pairs["query"].value_counts()
    full = max((size for size in (10, 5, 2) if (judged >= size).sum() >= 100), default=2)
    return settings.model_copy(update={"min_candidates": full})


def _seed(settings: SimulationSettings, seed: int, options: argparse.Namespace) -> dict:
    """One shop: what every arm predicts for the human grades, as metrics."""
    began = time.monotonic()
    settings = settings.model_copy(update={"seed": seed})
    log = make_log(settings)
    arms = Arms(log, settings, seed)
    wanted = {"unweighted", "oracle", "heft_shuffled_weights", *HEADLINES.values()}
    wanted |= set(options.arms or [])
    made = {}
    for name, make in arms:
        if options.arms is None or name in wanted:
            made[name] = make().astype(np.float32)
            print(f"seed {seed}: {name}, {time.monotonic() - began:.0f} s", flush=True)
    model = train(log.pair_features, log.pair_of, np.stack(list(made.values()), axis=1), seed)
    predicted = model.predict(log.pair_features[log.test_pairs])
    metrics = {name: _metrics(log, predicted[:, k]) for k, name in enumerate(made)}
    ones = np.ones(len(log.test_pairs))
    values = {n: [metric.value(ones) for metric in found] for n, found in metrics.items()}
    seconds = time.monotonic() - began
    gap = values["oracle"][0] - values["unweighted"][0]
    print(f"seed {seed}: oracle − unweighted {gap:+.4f} AUC, {seconds:.0f} s", flush=True)
    return {
        "values": values,
        "resampled": _resample(metrics, log.test_query, seed, options.resamples),
        "bots": _detection(arms),
        "seconds": seconds,
    }


def _metrics(log: ClickLog, score: Array) -> tuple[Metric, ...]:
    grade = log.test_grade.astype(float)
    return (
        Auc(err_gain(grade, 3), score),
        ndcg_at_k(grade, score, log.test_query, 10),
        Ece(log.test_attractiveness, score),
    )


def _resample(metrics: dict, query: Array, seed: int, resamples: int) -> dict[str, Array]:
    """(resamples,) AUC of each arm, all on the same draws of queries."""
    codes, count = group_codes(query)
    rng = np.random.default_rng(seed)
    drawn = {name: np.empty(resamples) for name in metrics}
    for k in range(resamples):
        weight = np.bincount(rng.integers(0, count, count), minlength=count)[codes].astype(float)
        for name, found in metrics.items():
            drawn[name][k] = found[0].value(weight)
    return drawn


def _detection(arms: Arms) -> dict[str, float]:
    """AUC of the fraud score among clicked rows: people against each kind of bot."""
    clicked = arms.data.label == 1
    kind = arms.log.truth["bot_kind"].to_numpy()[clicked]
    suspicion = 1.0 - arms.human_score[clicked]
    person = kind == "person"
    found = {}
    for name in (*sorted(set(kind[~person])), "all"):
        rows = person | (kind == name if name != "all" else ~person)
        if (~person[rows]).any():
            bot = (~person[rows]).astype(float)
            found[name] = float(Auc(bot, suspicion[rows]).value(np.ones(int(rows.sum()))))
    return found


def _figures(seeds: list[dict], name: str, resamples: int) -> dict:
    """Means over seeds, recovery of those means, and its interval over queries."""

    def mean(arm: str) -> Array:
        return np.mean([seed["values"][arm] for seed in seeds], axis=0)

    def drawn(arm: str) -> Array:
        return np.mean([seed["resampled"][arm] for seed in seeds], axis=0)

    base, oracle, own = mean("unweighted"), mean("oracle"), mean(name)
    recovery = (own - base) / (oracle - base)
    spread = (drawn(name) - drawn("unweighted")) / (drawn("oracle") - drawn("unweighted"))
    low, high = np.quantile(spread, [0.025, 0.975])
    gains = [seed["values"][name][0] - seed["values"]["unweighted"][0] for seed in seeds]
    return {
        **{metric: round(float(x), 5) for metric, x in zip(METRICS, own, strict=True)},
        **{f"r_{m}": round(float(x), 3) for m, x in zip(METRICS, recovery, strict=True)},
        "r_auc_interval": [round(float(low), 3), round(float(high), 3)],
        "auc_gain_by_seed": [round(float(x), 4) for x in gains],
    }


def _print_table(arms: dict[str, dict]) -> None:
    print(f"\n| {'arm':<22} | AUC | NDCG@10 | ECE | R of AUC | over queries | R of ECE |")
    print("|---|---|---|---|---|---|---|")
    for name, found in arms.items():
        low, high = found["r_auc_interval"]
        print(
            f"| {name} | {found['auc']:.4f} | {found['ndcg_at_10']:.4f} | {found['ece']:.3f} "
            f"| {found['r_auc']:.2f} | {low:.2f} … {high:.2f} | {found['r_ece']:.2f} |"
        )


if __name__ == "__main__":
    main()
