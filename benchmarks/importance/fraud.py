"""Whose clicks are not people's? Detection in simulated logs, whose bots are known.

    .venv/bin/python -m benchmarks.importance.fraud --data home_depot --bots 0.05

AUC over clicked rows: each kind of bot against people; and false clicks (a bot's, or a label
that was turned over) against true ones, next to what the simulator's own probabilities reach.
The last line is one JSON object.
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.importance.clicks import ClickLog, make_log
from heft.importance import Fraud, PairPosterior
from heft.simulate import SimulationSettings

Array = np.ndarray
KINDS = ("uniform", "hammer", "competitor", "stealth")


def main() -> None:
    """A row of the table for each seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="home_depot", help="home_depot or chorus")
    parser.add_argument("--bots", type=float, default=0.05, help="share of sessions")
    parser.add_argument("--noise", type=float, default=0.0, help="share of labels turned over")
    parser.add_argument("--eta", type=float, default=1.0)
    parser.add_argument("--sessions", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        settings = SimulationSettings(
            source=options.data, data=f"../shared/data/{options.data}", sessions=options.sessions,
            eta=options.eta, bots=options.bots, label_noise=options.noise, seed=seed,
        )  # fmt: skip
        found.append(_one(make_log(settings), options.noise, seed))
        print(f"seed {seed}: " + ", ".join(f"{k} {v:.4f}" for k, v in found[-1].items()))
    mean = pd.DataFrame(found).mean().round(5).to_dict()
    print("\n| figure | mean over seeds |\n|---|---|")
    for name, value in mean.items():
        print(f"| {name} | {value} |")
    print(json.dumps(mean | {"seeds": options.seeds, "bots": options.bots, "data": options.data,
                             "noise": options.noise, "sessions": options.sessions}))  # fmt: skip


def _one(log: ClickLog, noise: float, seed: int) -> dict[str, float]:
    start = time.perf_counter()
    fraud = Fraud(random_state=seed).fit(log.data)
    seconds = time.perf_counter() - start
    clicked = log.data.label == 1
    truth = log.truth[clicked]
    kind = truth["bot_kind"].to_numpy()
    score, weight = fraud.score(log.data)[clicked], fraud.weight(log.data)[clicked]
    person = kind == "person"
    found = {"fit_s": seconds, "auc_bots": roc_auc_score(person, score)}
    for name in KINDS:
        rows = person | (kind == name)
        if (kind == name).any():
            found[f"auc_{name}"] = roc_auc_score(person[rows], score[rows])
    genuine = score * _earned(log, fraud)[clicked]
    turned = np.where(person, _turned(truth["click_probability"].to_numpy(), noise), 1.0)
    found["auc_false_clicks"] = _soft_auc(turned, genuine)
    found["auc_false_clicks_truth"] = _soft_auc(turned, 1 - turned)
    found["people_kept"] = float(weight[person].mean())
    found["bots_removed"] = float(1 - weight[~person].mean()) if (~person).any() else np.nan
    return found


def _earned(log: ClickLog, fraud: Fraud) -> Array:
    """(n,) P(a click was earned by the item | a person clicked), by what the log tells."""
    people = replace(log.data, human=fraud.weight(log.data))
    posterior = PairPosterior(random_state=0).fit(people)
    slope, offset = posterior.model_.at(log.data.position)
    earned = slope * posterior.score(log.data)
    return np.asarray(earned / (earned + offset))


def _turned(chance: Array, noise: float) -> Array:
    """P(the label was turned over | click), from the probability of a click after turning."""
    before = np.clip((chance - noise) / (1 - 2 * noise), 0, 1)
    return np.asarray(noise * (1 - before) / np.maximum(chance, 1e-12))


def _soft_auc(false: Array, score: Array) -> float:
    """AUC of telling true from false where each row is false with a probability."""
    label = np.repeat([0, 1], len(score))
    return float(
        roc_auc_score(label, np.tile(score, 2), sample_weight=np.concatenate([false, 1 - false]))
    )


if __name__ == "__main__":
    main()
