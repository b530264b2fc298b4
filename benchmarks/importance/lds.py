"""Do attributions say what a model trained on other samples would have said?

    .venv/bin/python -m benchmarks.importance.lds

The linear datamodeling score (Park et al. 2023, *TRAK*): the last layer is trained
anew on random halves of the samples, and for every target the margin it then has
is ranked against the sum of the attributions of that half's samples. The score is
Spearman's correlation over the halves, averaged over targets: 1 where the sums
rank the halves as retraining does, 0 where they say nothing. The last line is one
JSON object; its `lds` is the lower figure of Heft's influence on the two data sets.
`influence_of_a_proxy` explains another model than the one trained anew: a layer on
the hidden units of each fold.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from benchmarks.importance.lds_tasks import planted, shop
from heft.console import quiet
from heft.importance import ImportanceData, OutOfFoldProxy
from heft.importance.influence import attribution
from heft.importance.knn_values import KnnValues
from heft.importance.logistic import fit_layer
from heft.importance.nearest import row_keys
from heft.importance.self_influence import SelfInfluence

OURS = "influence"

Array = np.ndarray


def main() -> None:
    """Prints a table for each data set and the figures."""
    options = _options()
    quiet()
    began = time.monotonic()
    sizes = options.rows, options.targets, options.seed
    name, *real = shop(*sizes)
    tasks = {"planted": planted(*sizes), name: tuple(real)}
    results = {}
    for task, (data, targets) in tasks.items():
        results[task] = evaluate(data, targets, options.subsets, options.seed)
        _print_table(task, data, targets, results[task])
    ours = {task: result[OURS]["lds"] for task, result in results.items()}
    facts = {
        "lds": min(ours.values()),
        "subsets": options.subsets,
        "rows": options.rows,
        "targets": options.targets,
        "seed": options.seed,
        "data": results,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(facts))


def evaluate(data: ImportanceData, targets: ImportanceData, subsets: int, seed: int) -> dict:
    """LDS with its interval, and the seconds taken, by method.

    Args:
        data: n training rows.
        targets: m rows, not among them.
        subsets: how many random halves.
        seed: of halves, bootstrap and methods.
    """
    rng = np.random.default_rng(seed)
    halves = np.argsort(rng.random((subsets, len(data))), axis=1) < len(data) // 2
    actual = np.stack([margins(data.take(half), targets) for half in halves])
    draws = [
        (rng.integers(0, subsets, subsets), rng.integers(0, len(targets), len(targets)))
        for _ in range(200)
    ]
    found = {}
    for name, method in METHODS.items():
        began = time.monotonic()
        attributions = method(data, targets, seed)
        seconds = time.monotonic() - began
        predicted = halves @ attributions.astype(np.float64)
        means = [rank_correlation(predicted[s][:, t], actual[s][:, t]).mean() for s, t in draws]
        found[name] = {
            "lds": round(float(rank_correlation(predicted, actual).mean()), 4),
            "interval": [round(float(x), 4) for x in np.quantile(means, [0.025, 0.975])],
            "seconds": round(seconds, 2),
        }
    return found


def margins(data: ImportanceData, targets: ImportanceData) -> Array:
    """(m,) logit of each target's label by a last layer trained on `data`."""
    layer = fit_layer(data.features, data.label, data.observation())
    return (2 * targets.label - 1) * (layer.inputs(targets.features) @ layer.coefficients)


def rank_correlation(left: Array, right: Array) -> Array:
    """(m,) Spearman's correlation of the columns; 0 where one of them is constant."""
    left, right = (rankdata(x, axis=0) for x in (left, right))
    left, right = (x - x.mean(axis=0) for x in (left, right))
    norm = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    return (left * right).sum(axis=0) / np.where(norm > 0, norm, 1)


def _influence(data: ImportanceData, targets: ImportanceData, seed: int) -> Array:
    return attribution(data, targets, random_state=seed)


def _hidden_influence(data: ImportanceData, targets: ImportanceData, seed: int) -> Array:
    return attribution(data, targets, OutOfFoldProxy(random_state=seed), random_state=seed)


def _gradient_dot(data: ImportanceData, targets: ImportanceData, _: int) -> Array:
    """Influence with the identity in place of the Hessian, as TracIn at the last checkpoint."""
    layer = fit_layer(data.features, data.label, data.observation())

    def gradients(rows: ImportanceData) -> Array:
        h = layer.inputs(rows.features)
        return layer.slopes(h, rows.label, rows.observation())[0][:, None] * h

    return gradients(data) @ gradients(targets).T


def _knn_shapley(data: ImportanceData, targets: ImportanceData, _: int) -> Array:
    """The value of every row for the vote on each target alone."""
    mean, deviation = data.features.mean(axis=0), data.features.std(axis=0)
    points, queries = (
        ((x.features - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
        for x in (data, targets)
    )
    keys = row_keys(points)
    columns = [
        KnnValues.of(
            keys, points, data.label, queries[t : t + 1], targets.label[t : t + 1], 10, None
        ).score(keys, points, data.label)
        for t in range(len(targets))
    ]
    return np.stack(columns, axis=1)


def _self_influence(data: ImportanceData, targets: ImportanceData, seed: int) -> Array:
    """One number a row, the same for every target: what a score without targets can say."""
    score = SelfInfluence(random_state=seed).fit(data).score(data)
    return np.repeat(score[:, None], len(targets), axis=1)


def _random(data: ImportanceData, targets: ImportanceData, seed: int) -> Array:
    return np.random.default_rng(seed + 1).random((len(data), len(targets)))


METHODS: dict[str, Callable[[ImportanceData, ImportanceData, int], Array]] = {
    OURS: _influence,
    "influence_of_a_proxy": _hidden_influence,
    "gradient_dot": _gradient_dot,
    "knn_shapley": _knn_shapley,
    "self_influence": _self_influence,
    "random": _random,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--subsets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _print_table(task: str, data: ImportanceData, targets: ImportanceData, found: dict) -> None:
    shape = f"{len(data)} rows × {data.features.shape[1]}, {len(targets)} targets"
    print(f"\n{task}: {shape}, {data.label.mean():.3f} clicked")
    print(f"{'method':<24}{'LDS':>8}{'95 % interval':>22}{'seconds':>10}")
    for name, figures in found.items():
        low, high = figures["interval"]
        span = f"{low:+.3f} … {high:+.3f}"
        print(f"{name:<24}{figures['lds']:>8.3f}{span:>22}{figures['seconds']:>10.2f}")


if __name__ == "__main__":
    main()
