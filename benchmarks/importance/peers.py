"""Who finds turned labels best? Heft's estimators and other projects', on the same splits.

    .venv/bin/python -m benchmarks.importance.peers --seeds 0 --noise 0.05 0.1 0.15 0.2

OpenDataVal's protocol (Jiang et al. 2023): 1,000 training, 100 validation and 500 test
rows; a share of the training labels is turned over; scores are cut in two by 2-means and
the lower cluster is called mislabelled; F1 against the truth, mean over tables and seeds.
The other projects run in environments of their own under runs/benchmark-envs. The last
line is one JSON object.
"""

import argparse
import importlib
import json
import pkgutil
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import heft.importance
from benchmarks.importance.peer_environments import PEERS, Peer, prepare, run_script
from benchmarks.importance.peer_tables import TABLES, Split, split_table, write_splits
from heft.errors import HeftError
from heft.importance import ImportanceData, OutOfFoldProxy, registry

Array = np.ndarray
Found = dict[str, dict[str, Array]]  # method, split, (n,) scores

# A sample learned by heart or hard to fit is a suspect here, so those scores count downwards.
OURS = {
    "aum": 1, "data_oob": 1, "el2n": -1, "ensemble": 1, "forgetting": -1, "grand": -1,
    "influence": 1, "knn_shapley": 1, "label_quality": 1, "learned": 1, "rho_loss": 1,
    "self_influence": -1, "tracin": 1,
}  # fmt: skip
SLOW = ("learned",)  # at the highest noise only, as are the slow ones of others
OPENDATAVAL_OWN = ("2dplanes", "fried")


def main() -> None:
    """Splits, scores, table, figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05, 0.1, 0.15, 0.2])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--methods", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--models", type=int, default=100, help="bagged models of a peer")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark-peers"))
    options = parser.parse_args()
    splits = [
        split_table(name, noise, seed)
        for noise in sorted(options.noise)
        for seed in options.seeds
        for name in options.tables
    ]
    shutil.rmtree(options.runs, ignore_errors=True)
    write_splits(splits, options.runs / "splits")
    with ThreadPoolExecutor(1) as beside:
        theirs = beside.submit(score_peers, options) if not options.skip_peers else None
        ours = score_ours(splits, options.methods)
        peers, troubles = theirs.result() if theirs else ({}, ["peers skipped: --skip-peers"])
    _report(splits, ours, peers, sorted(options.noise))
    for trouble in troubles:
        print(trouble)
    print(json.dumps(summary(splits, ours, peers, max(options.noise), troubles)))


def score_ours(splits: list[Split], names: list[str]) -> Found:
    """Scores of Heft's estimators that exist; one proxy serves all of a split."""
    for module in pkgutil.iter_modules(heft.importance.__path__):
        try:
            importlib.import_module(f"heft.importance.{module.name}")
        except ImportError as error:
            print(f"heft.importance.{module.name} cannot be imported: {error}")
    known = [name for name in names if name in registry.names()]
    for name in sorted(set(names) - set(known)):
        print(f"heft/{name} is not in the registry: left out")
    found: Found = {f"heft/{name}": {} for name in known}
    seconds: dict[str, list[float]] = {name: [] for name in known}
    hardest = max(split.noise for split in splits)
    for split in splits:
        data = ImportanceData.of(split.x, split.y)
        offered = {
            "proxy": OutOfFoldProxy(),
            "reference": ImportanceData.of(split.valid_x, split.valid_y),
            "random_state": 0,
        }
        for name in known:
            if name in SLOW and split.noise < hardest:
                continue
            began = time.process_time()
            scores = _score(name, data, offered)
            seconds[name].append(time.process_time() - began)
            if scores is not None:
                found[f"heft/{name}"][split.name] = OURS[name] * scores
    spent = ", ".join(f"{name} {np.mean(spent):.2f}" for name, spent in seconds.items() if spent)
    print(f"Heft, processor seconds a split (the first to need the proxy pays for it): {spent}")
    return found


def _score(name: str, data: ImportanceData, offered: dict) -> Array | None:
    """(n,), or None with a line that says why not."""
    taken = registry.parameters(name)
    try:
        estimator = registry.create(name, **{k: v for k, v in offered.items() if k in taken})
        return estimator.fit(data).score(data).astype(np.float64)
    except HeftError as error:
        print(f"heft/{name} failed: {error}", flush=True)
        return None


def score_peers(options: argparse.Namespace) -> tuple[Found, list[str]]:
    """Scores of the other projects, two at a time, and a line for each that gave none."""
    found: Found = {}
    troubles: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        # The one with most to do first.
        outcomes = list(pool.map(lambda peer: _run_peer(peer, options), PEERS[::-1]))
    for peer, trouble in zip(PEERS[::-1], outcomes, strict=True):
        troubles += [trouble] if trouble else _collect(peer, options.runs / peer.name, found)
    return found, troubles


def _run_peer(peer: Peer, options: argparse.Namespace) -> str:
    """What kept the peer from running; empty if nothing did."""
    python, error = prepare(peer)
    if python is None:
        return f"{peer.name} could not be installed: {error}"
    arguments = ["--models", str(options.models), "--slow-at", str(max(options.noise))]
    splits, scores = options.runs / "splits", options.runs / peer.name
    ran, error = run_script(peer, python, splits, scores, arguments)
    return "" if ran else f"{peer.name} did not run: {error}"


def _collect(peer: Peer, scores: Path, found: Found) -> list[str]:
    """Puts the peer's scores into `found`; a line for each method that failed somewhere."""
    for path in scores.glob("*.npz"):
        with np.load(path) as columns:
            for method, values in columns.items():
                found.setdefault(f"{peer.name}/{method}", {})[path.stem] = values
    report = json.loads((scores / "report.json").read_text(encoding="utf-8"))
    spent = ", ".join(f"{method} {value:.2f}" for method, value in report["seconds"].items())
    print(f"{peer.name}, processor seconds a split: {spent}", flush=True)
    return [f"{peer.name}/{name} failed on {text}" for name, text in report["errors"].items()]


def two_means(scores: Array) -> Array:
    """(n,) bool, the lower of the two clusters of exact one-dimensional 2-means.

    The cut of the sorted scores with the least squared distance to the two means,
    the lowest such cut on a tie; it may part equal scores only where all are equal,
    and then nothing is called low.
    """
    order = np.argsort(scores, kind="stable")
    centred = scores[order] - scores.mean()
    if not np.ptp(centred) > 0:
        return np.zeros(len(scores), bool)
    low = np.arange(1, len(scores))
    total = np.cumsum(centred)[:-1]
    # With mean zero, what lies between the clusters is S² (1/low + 1/high).
    between = total**2 * (1 / low + 1 / (len(scores) - low))
    found = np.zeros(len(scores), bool)
    found[order[: 1 + int(np.argmax(between))]] = True
    return found


def f1(scores: Array, turned: Array) -> float:
    """F1 of the lower cluster as finder of turned labels, in [0, 1]."""
    low = two_means(scores)
    return float(2 * (low & turned).sum() / max(low.sum() + turned.sum(), 1))


def mean_figures(splits: list[Split], scores: dict[str, Array]) -> tuple[float, float]:
    """Mean F1 and mean detection AUC; a split without finite scores counts as 0 and .5."""
    pairs = []
    for split in splits:
        values = scores.get(split.name)
        if values is None or not np.isfinite(values).all():
            pairs.append((0.0, 0.5))
        else:
            pairs.append((f1(values, split.turned), roc_auc_score(split.turned, -values)))
    means = np.mean(pairs, axis=0)
    return float(means[0]), float(means[1])


def summary(
    splits: list[Split], ours: Found, peers: Found, noise: float, troubles: list[str]
) -> dict:
    """The figures at one level of noise."""
    at = _at(splits, noise)
    own = {name: round(mean_figures(at, scores)[0], 4) for name, scores in ours.items()}
    theirs = {name: round(mean_figures(at, scores)[0], 4) for name, scores in peers.items()}
    best = max(own, key=own.__getitem__)
    best_peer = max(theirs, key=theirs.__getitem__, default=None)
    shared = [split for split in at if split.table in OPENDATAVAL_OWN]
    return {
        "noise": noise,
        "tables": len({split.table for split in at}),
        "splits": len(at),
        "ours": own,
        "peers": theirs,
        "best_ours": best,
        "f1": own[best],
        "best_peer": best_peer,
        "f1_peer": theirs.get(best_peer),
        "f1_opendataval_tables": round(mean_figures(shared, ours[best])[0], 4) if shared else None,
        "unavailable": troubles,
    }


def _at(splits: list[Split], noise: float) -> list[Split]:
    return [split for split in splits if split.noise == noise]


def _report(splits: list[Split], ours: Found, peers: Found, levels: list[float]) -> None:
    """Method by noise, then method by table at the highest noise."""
    everyone = ours | peers
    print(f"\nmean F1 (detection AUC)\n{'method':<34}" + "".join(f"{x:>16.0%}" for x in levels))
    last = _at(splits, levels[-1])
    ranking = sorted(everyone, key=lambda name: -mean_figures(last, everyone[name])[0])
    for name in ranking:
        cells = [_cell(_at(splits, level), everyone[name]) for level in levels]
        print(f"{name:<34}" + "".join(f"{cell:>16}" for cell in cells))
    tables = list(dict.fromkeys(split.table for split in last))
    print(
        f"\nF1 by table at {levels[-1]:.0%}\n{'method':<34}"
        + "".join(f"{t[:9]:>10}" for t in tables)
    )
    for name in ranking:
        parts = [[split for split in last if split.table == table] for table in tables]
        cells = [mean_figures(part, everyone[name])[0] for part in parts]
        print(f"{name:<34}" + "".join(f"{cell:>10.3f}" for cell in cells))
    print()


def _cell(splits: list[Split], scores: dict[str, Array]) -> str:
    """`F1 (AUC)`; a dash where the method was not run."""
    if not any(split.name in scores for split in splits):
        return "-"
    figures = mean_figures(splits, scores)
    return f"{figures[0]:.3f} ({figures[1]:.3f})"


if __name__ == "__main__":
    main()
