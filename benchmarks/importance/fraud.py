"""Whose clicks are not people's? Detection in simulated logs, whose bots are known.

    .venv/bin/python -m benchmarks.importance.fraud --data home_depot --bots 0.05

AUC over clicked rows: each kind of bot against people; and false clicks (a bot's, or a label
that was turned over) against true ones, next to what the simulator's own probabilities reach.
The latter know who is a bot: without turned labels they reach 1.

Read `auc_visits` first. The simulator's bots come about 40 times and people a few times, so that
counting result pages finds nearly all of them. `--like-people` deals the pages of each bot out to
accounts with as many as people have: what is then found, clicks and delays have told.
`--no-delays` leaves out delays, by which the simulator's scripts are faster than people, too.
`auc_stealth_truth` is from clicks alone, by the true probabilities: without the visits no
estimate from clicks can beat it by more than chance.

The last line is one JSON object.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.importance.clicks import ClickLog, make_log
from heft.importance import Fraud, PairPosterior
from heft.simulate import SimulationSettings
from heft.simulate.behaviour import click_given_examination

Array = np.ndarray
KINDS = ("uniform", "hammer", "competitor", "stealth")
STEALTH_CLICKS = 0.5  # the simulator's, of what a stealth bot examines


def main() -> None:
    """A row of the table for each seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="home_depot", help="home_depot or chorus")
    parser.add_argument("--bots", type=float, default=0.05, help="share of sessions")
    parser.add_argument("--noise", type=float, default=0.0, help="share of labels turned over")
    parser.add_argument("--eta", type=float, default=1.0)
    parser.add_argument("--sessions", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--like-people", action="store_true", help="bots come as people do")
    parser.add_argument("--no-delays", action="store_true", help="without delays of clicks")
    options = parser.parse_args()
    root = Path(os.environ.get("HEFT_DATA", "../shared/data"))
    found = []
    for seed in options.seeds:
        settings = SimulationSettings(
            source=options.data, data=str(root / options.data), sessions=options.sessions,
            eta=options.eta, bots=options.bots, label_noise=options.noise, seed=seed,
        )  # fmt: skip
        log = make_log(settings)
        log = _like_people(log, seed) if options.like_people else log
        if options.no_delays:
            log = replace(log, data=replace(log.data, click_delay=None))
        found.append(_one(log, settings))
        print(f"seed {seed}: " + ", ".join(f"{k} {v:.4f}" for k, v in found[-1].items()))
    mean = pd.DataFrame(found).mean().round(5).to_dict()
    print("\n| figure | mean over seeds |\n|---|---|")
    for name, value in mean.items():
        print(f"| {name} | {value} |")
    print(json.dumps(mean | {"seeds": options.seeds, "bots": options.bots, "data": options.data,
                             "noise": options.noise, "sessions": options.sessions,
                             "like_people": options.like_people,
                             "no_delays": options.no_delays}))  # fmt: skip


def _one(log: ClickLog, settings: SimulationSettings) -> dict[str, float]:
    start = time.perf_counter()
    fraud = Fraud(random_state=settings.seed).fit(log.data)
    seconds = time.perf_counter() - start
    clicked = log.data.label == 1
    truth = log.truth[clicked]
    kind = truth["bot_kind"].to_numpy()
    score, weight = fraud.score(log.data)[clicked], fraud.weight(log.data)[clicked]
    person = kind == "person"
    found = {"fit_s": seconds, "auc_bots": roc_auc_score(person, score)}
    found["auc_visits"] = roc_auc_score(~person, _visits(log)[clicked])
    for name in KINDS:
        rows = person | (kind == name)
        if (kind == name).any():
            found[f"auc_{name}"] = roc_auc_score(person[rows], score[rows])
    rows = person | (kind == "stealth")
    if (kind == "stealth").any():
        best = _odds_of_stealth(log, settings)[clicked][rows]
        found["auc_stealth_truth"] = roc_auc_score(~person[rows], best)
    genuine = score * _earned(log, fraud)[clicked]
    noisy = _turned(truth["click_probability"].to_numpy(), settings.label_noise)
    turned = np.where(person, noisy, 1.0)
    found["auc_false_clicks"] = _soft_auc(turned, genuine)
    found["auc_false_clicks_truth"] = _soft_auc(turned, 1 - turned)
    found["people_kept"] = float(weight[person].mean())
    for name in KINDS:
        if (kind == name).any():
            found[f"removed_{name}"] = float(1 - weight[kind == name].mean())
    found["bots_removed"] = float(1 - weight[~person].mean()) if (~person).any() else np.nan
    return found


def _visits(log: ClickLog) -> Array:
    """(n,) result pages of each row's user."""
    user = np.unique(log.data.user, return_inverse=True)[1]
    pages = np.unique(np.stack([user, log.data.group], axis=1), axis=0)
    return np.asarray(np.bincount(pages[:, 0])[user])


def _like_people(log: ClickLog, seed: int) -> ClickLog:
    """The pages of each bot as those of several, with as many as people have."""
    rng = np.random.default_rng(seed)
    user, bot = log.data.user.copy(), log.truth["bot_kind"].to_numpy() != "person"
    first = np.unique(log.data.user[~bot], return_index=True)[1]
    pages_of_people = _visits(log)[~bot][first]
    account = 0
    for visitor in np.unique(log.data.user[bot]):
        rows = np.flatnonzero(log.data.user == visitor)
        page = np.unique(log.data.group[rows], return_inverse=True)[1]
        sizes = rng.choice(pages_of_people, page.max() + 1)
        dealt = np.repeat(np.arange(len(sizes)), sizes)[rng.permutation(page.max() + 1)]
        user[rows] = -1 - account - dealt[page]
        account += len(sizes)
    return replace(log, data=replace(log.data, user=user))


def _earned(log: ClickLog, fraud: Fraud) -> Array:
    """(n,) P(a click was earned by the item | a person clicked), by what the log tells."""
    people = replace(log.data, human=fraud.weight(log.data))
    posterior = PairPosterior(caution=1.0, random_state=0).fit(people)
    slope, offset = posterior.model_.at(log.data.position)
    earned = slope * posterior.score(log.data)
    return np.asarray(earned / (earned + offset))


def _odds_of_stealth(log: ClickLog, settings: SimulationSettings) -> Array:
    """(n,) log odds of each row's visitor, by all of the clicks and the true probabilities."""
    look = log.truth["examination_probability"].to_numpy()
    attraction = log.truth["attractiveness"].to_numpy()
    noise = settings.label_noise
    rank = log.data.position - 1
    person = look * click_given_examination(attraction, rank, settings.trust_bias)
    person = np.clip(person + noise * (1 - 2 * person), 1e-6, 1 - 1e-6)
    bot = np.clip(look * STEALTH_CLICKS, 1e-6, 1 - 1e-6)
    odds = np.where(log.data.label == 1, np.log(bot / person), np.log((1 - bot) / (1 - person)))
    user = np.unique(log.data.user, return_inverse=True)[1]
    return np.asarray(np.bincount(user, odds)[user])


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
