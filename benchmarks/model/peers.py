"""Heft's model beside torch-rechub's ESMM and LightGBM, on click logs with known truth.

    .venv/bin/python -m benchmarks.model.peers

Everyone has the same impressions, features and tune rows, and is judged on human grades
of queries that no log contains. Heft goes through its own trainer; a peer runs in an environment
of its own (`benchmarks/model/peer_scripts`). The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.peer_environments import MODEL_PEERS, prepare, run_script
from benchmarks.importance.recovery import parser, simulation_settings
from benchmarks.model import rows
from heft import features as f
from heft.console import quiet
from heft.errors import HeftError
from heft.evaluation.grouped import group_codes, ndcg_at_k
from heft.evaluation.metrics import Auc, err_gain
from heft.model.settings import ModelSettings
from heft.simulate.behaviour import conversion_probability

METRICS = ("click_auc", "conversion_auc", "ndcg_at_10")
UNWEIGHTED = ("heft_unweighted", "rechub_dense", "rechub_binned", "lightgbm")

Array = np.ndarray
Rates = dict[str, tuple[Array, Array]]


def main() -> None:
    """Runs every seed, then every peer on all of them, and prints figures."""
    options = parser(__doc__).parse_args()
    quiet()
    began = time.monotonic()
    judged: list[dict[str, list]] = []
    with tempfile.TemporaryDirectory(prefix="heft-peers-") as folder:
        splits, scores = Path(folder) / "splits", Path(folder) / "scores"
        splits.mkdir()
        logs = []
        try:
            settings = simulation_settings(options)
            for seed in options.seeds:
                found = settings.model_copy(update={"seed": seed})
                log = make_log(found)
                judged.append(_judge(log, _ours(log, Arms(log, found, seed), splits, seed)))
                logs.append(log)
                print(f"seed {seed}: Heft, {time.monotonic() - began:.0f} s", flush=True)
        except HeftError as error:
            raise SystemExit(f"error: {error}") from error
        troubles = _peers(splits, scores)
        for seed, log, metrics in zip(options.seeds, logs, judged, strict=True):
            metrics.update(_judge(log, _predictions(scores, f"seed-{seed}.npz")))
    _print(judged, logs, options, troubles)


def _ours(log: ClickLog, arms: Arms, splits: Path, seed: int) -> Rates:
    """What Heft predicts for the test pairs; writes the split for the peers."""
    pairs = rows.heft_pairs(log, arms)
    np.savez(
        splits / f"seed-{seed}.npz",
        features=log.pair_features, pair=log.pair_of, click=log.data.label,
        conversion=rows.conversions(log), tune=rows.tune_rows(log).astype(np.int64),
        positive=pairs[f.CTR][:, 0], negative=pairs[f.CTR][:, 1], test=log.test_pairs,
    )  # fmt: skip
    found = {}
    for name, weights in (("heft_unweighted", None), ("heft", pairs)):
        model = rows.trained(log, weights, ModelSettings(seed=seed))
        found[name] = rows.predict(model, log, log.test_pairs)
    return found


def _peers(splits: Path, scores: Path) -> list[str]:
    """Runs every peer; what went wrong."""
    troubles = []
    for peer in MODEL_PEERS:
        python, trouble = prepare(peer)
        began = time.monotonic()
        if python is not None:
            _, trouble = run_script(peer, python, splits, scores / peer.name, [])
            print(f"{peer.name}: {time.monotonic() - began:.0f} s", flush=True)
        if trouble:
            troubles.append(f"{peer.name}: {trouble}")
    return troubles


def _predictions(scores: Path, name: str) -> Rates:
    found: Rates = {}
    for path in sorted(scores.glob(f"*/{name}")):
        with np.load(path) as columns:
            models = sorted({column.rsplit(".", 1)[0] for column in columns})
            found |= {m: (columns[f"{m}.click"], columns[f"{m}.conversion"]) for m in models}
    return found


def _judge(log: ClickLog, found: Rates) -> dict[str, list]:
    """Metrics of each model, to be valued at weights of the test pairs."""
    grade = log.test_grade.astype(float)
    bought = log.test_attractiveness * conversion_probability(log.test_grade)
    return {
        name: [
            Auc(err_gain(grade, 3), click),
            Auc(bought, conversion),
            ndcg_at_k(grade, click, log.test_query, 10),
        ]
        for name, (click, conversion) in found.items()
    }


def _print(
    judged: list[dict], logs: list[ClickLog], options: argparse.Namespace, troubles: list[str]
) -> None:
    names = list(judged[0])
    means = {name: _means(judged, logs, name) for name in names}
    print("\n| model | click AUC | conversion AUC | NDCG@10 | click AUC of Heft − it | 95 % |")
    print("|---|---|---|---|---|---|")
    facts = {}
    for name in sorted(names, key=lambda name: -means[name][0]):
        own = "heft_unweighted" if name in UNWEIGHTED else "heft"
        gap = means[own][0] - means[name][0]
        low, high = interval(judged, logs, own, name, options.resamples)
        values = [round(float(x), 4) for x in means[name]]
        facts[name] = {
            **dict(zip(METRICS, values, strict=True)), "ours": own,
            "gap": round(float(gap), 4), "interval": [round(low, 4), round(high, 4)],
        }  # fmt: skip
        print(
            f"| {name} | {' | '.join(f'{x:.4f}' for x in values)} "
            f"| {gap:+.4f} | {low:+.4f} … {high:+.4f} |"
        )
    for trouble in troubles:
        print(f"not run: {trouble}")
    print(json.dumps({"seeds": options.seeds, "models": facts, "unavailable": troubles}))


def _means(judged: list[dict], logs: list[ClickLog], name: str) -> Array:
    values = [
        [metric.value(np.ones(len(log.test_pairs))) for metric in metrics[name]]
        for metrics, log in zip(judged, logs, strict=True)
    ]
    return np.mean(values, axis=0)


def interval(
    judged: list[dict], logs: list[ClickLog], own: str, name: str, resamples: int
) -> tuple[float, float]:
    """95 % of the mean gap in click AUC over draws of test queries."""
    drawn = np.zeros(resamples)
    for metrics, log in zip(judged, logs, strict=True):
        codes, count = group_codes(log.test_query)
        rng = np.random.default_rng(0)
        for k in range(resamples):
            weight = np.bincount(rng.integers(0, count, count), minlength=count)[codes]
            ours, theirs = (metrics[x][0].value(weight.astype(float)) for x in (own, name))
            drawn[k] += (ours - theirs) / len(logs)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
