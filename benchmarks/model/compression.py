"""What smaller models cost and save: weights in fewer bits, and a student in place of its teacher.

    .venv/bin/python -m benchmarks.model.compression

One network is trained on Heft's weights of a simulated click log with known truth. Every
variant of it is judged on human grades of queries that no log contains: AUC of clicks,
log loss against the true attractiveness, the largest change of that prediction, bytes of the text
table and of the network, and the milliseconds that look-ups and network take for the 100
candidates of a request on one thread. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.recovery import parser, simulation_settings
from benchmarks.model import rows
from benchmarks.model.peers import interval
from heft import features as f
from heft.console import quiet
from heft.errors import HeftError
from heft.evaluation.metrics import Auc, err_gain, log_loss
from heft.model.compression import compressed, network_bytes, table_bytes
from heft.model.settings import ModelSettings
from heft.model.training import Trained, Watch, distilled, train

CANDIDATES, CALLS = 100, 400
LARGE, SMALL = (64, 32), (16,)
KINDS = [("none", "none"), ("float16", "none"), ("int8", "none"), ("none", "float16")]
KINDS += [("none", "int8"), ("float16", "float16"), ("int8", "int8")]
FIGURES = ("log_loss", "largest_change", "table_mib", "network_kib", "ms")

Array = np.ndarray


@dataclass
class Figures:
    """Of all seeds: `values` by variant and figure, and the AUC waiting for row weights."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    judged: list[dict[str, list]] = field(default_factory=list)
    logs: list[ClickLog] = field(default_factory=list)


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    asked = parser(__doc__)
    asked.set_defaults(seeds=[101, 102, 103])
    options = asked.parse_args()
    quiet()
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    found, began = Figures(), time.monotonic()
    try:
        settings = simulation_settings(options)
        for seed in options.seeds:
            simulated = settings.model_copy(update={"seed": seed})
            log = make_log(simulated)
            _seed(log, rows.heft_pairs(log, Arms(log, simulated, seed)), seed, found)
            print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    _print(found, options)


def _seed(log: ClickLog, pairs: dict[str, Array], seed: int, found: Figures) -> None:
    found.judged.append({})
    found.logs.append(log)
    reference: Array | None = None
    for name, model in _variants(log, pairs, seed):
        click, _ = rows.predict(model, log, log.test_pairs)
        reference = click if reference is None else reference
        found.judged[-1][name] = [Auc(err_gain(log.test_grade.astype(float), 3), click)]
        measured = {
            "log_loss": log_loss(log.test_attractiveness, click),
            "largest_change": float(np.abs(click - reference).max()),
            "table_mib": table_bytes(model.model) / 2**20,
            "network_kib": network_bytes(model.core) / 2**10,
            "ms": _milliseconds(model, log),
        }
        for figure, value in measured.items():
            found.values.setdefault(name, {}).setdefault(figure, []).append(value)


def _variants(log: ClickLog, pairs: dict[str, Array], seed: int) -> list[tuple[str, Trained]]:
    """Name and model; the first is what the others are compared with."""
    with tempfile.TemporaryDirectory(prefix="heft-compression-") as folder:
        packed = rows.packed(log, pairs, folder)
        sizes = rows.SIZES.with_rates(packed.train)

        def fit(name: str, settings: ModelSettings, teacher: Trained | None = None) -> Trained:
            common = (packed, log.table, sizes, settings, Watch(Path(folder) / name))
            if teacher is None:
                return train(*common, weighted=True)
            return distilled(teacher, *common, weighted=True)

        plain = ModelSettings(seed=seed, hidden=LARGE)
        teacher = fit("teacher", plain)
        found = [(_name(LARGE, *kind), _stored(teacher, *kind)) for kind in KINDS]
        small = fit("small", plain.model_copy(update={"hidden": SMALL}))
        found.append((f"{list(SMALL)} on the labels", small))
        for share in (0.5, 1.0):
            student = ModelSettings(seed=seed, student={"hidden": SMALL, "share": share})
            learned = fit(f"student-{share}", student, teacher)
            found.append((f"{list(SMALL)} student, share {share}", learned))
        name = f"{list(SMALL)} student, share {share}, both int8"
        found.append((name, _stored(learned, "int8", "int8")))
        return found


def _name(hidden: tuple[int, ...], table: str, network: str) -> str:
    if table == network:
        return f"{list(hidden)}" if table == "none" else f"{list(hidden)}, both {table}"
    part = f"table {table}" if network == "none" else f"network {network}"
    return f"{list(hidden)}, {part}"


def _stored(trained: Trained, table: str, network: str) -> Trained:
    kinds = {"table": table, "network": network}
    return compressed(trained, ModelSettings(compression=kinds))


def _milliseconds(found: Trained, log: ClickLog) -> float:
    """Median of many requests, each with other rows."""
    model = tf.function(lambda inputs: found.model(inputs, training=False))
    rng = np.random.default_rng(0)
    taken = []
    for _ in range(CALLS):
        picked = rng.choice(log.test_pairs, CANDIDATES)
        inputs = {
            f.QUERY_ID: tf.constant(log.pair_texts[picked, 0]),
            f.TITLE_ID: tf.constant(log.pair_texts[picked, 1]),
            "dense": tf.constant(log.pair_dense[picked], tf.float32),
        }
        began = time.perf_counter()
        model(inputs).numpy()
        taken.append(time.perf_counter() - began)
    return 1000 * float(np.median(taken[CALLS // 10 :]))


def _print(found: Figures, options: argparse.Namespace) -> None:
    first = next(iter(found.values))
    print(
        "\n| model | click AUC | AUC lost | 95 % | log loss | largest change | table, MiB ", end=""
    )
    print("| network, KiB | ms |\n|---|---|---|---|---|---|---|---|---|")
    facts = {}
    for name, values in found.values.items():
        aucs = [
            judged[name][0].value(np.ones(len(log.test_pairs)))
            for judged, log in zip(found.judged, found.logs, strict=True)
        ]
        low, high = interval(found.judged, found.logs, first, name, options.resamples)
        means = {figure: float(np.mean(values[figure])) for figure in FIGURES}
        lost = (facts[first]["auc"] if facts else float(np.mean(aucs))) - float(np.mean(aucs))
        facts[name] = {"auc": float(np.mean(aucs)), "lost": lost, "interval": [low, high], **means}
        print(
            f"| {name} | {np.mean(aucs):.4f} | {lost:+.4f} | {low:+.4f} … {high:+.4f} "
            f"| {means['log_loss']:.4f} | {means['largest_change']:.4f} | {means['table_mib']:.1f} "
            f"| {means['network_kib']:.1f} | {means['ms']:.2f} |"
        )
    rounded = {
        name: {k: np.round(v, 5).tolist() for k, v in values.items()}
        for name, values in facts.items()
    }
    print(json.dumps({"seeds": options.seeds, "sessions": options.sessions, "models": rounded}))


if __name__ == "__main__":
    main()
