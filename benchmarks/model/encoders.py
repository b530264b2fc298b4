"""Does the click model gain from an encoder that was fine-tuned on the same log?

    .venv/bin/python -m benchmarks.model.encoders --data chorus --sessions 5000

On click logs with known truth, the network is trained on Heft's weights over tables of three
encoders: the default, the default in int8, and the default fine-tuned on the clicks of the log.
Everything else is the same, weights included. Judged on human grades of queries that no log
contains; intervals are over draws of those queries. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.recovery import parser, simulation_settings
from benchmarks.model import rows
from benchmarks.model.peers import interval
from heft.console import quiet
from heft.errors import HeftError
from heft.evaluation.grouped import ndcg_at_k
from heft.evaluation.metrics import Auc, err_gain
from heft.model.settings import ModelSettings
from heft.text.build import build_table
from heft.text.clicked import count_shown
from heft.text.finetune import fine_tune
from heft.text.finetune_settings import FinetuneSettings
from heft.text.settings import TextSettings
from heft.text.table import TextTable

PLAIN = "float32"

Array = np.ndarray


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    asked = parser(__doc__)
    asked.add_argument("--steps", type=int, default=60, help="of fine-tuning")
    options = asked.parse_args()
    quiet()
    judged, logs, began = [], [], time.monotonic()
    try:
        settings = simulation_settings(options)
        for seed in options.seeds:
            simulated = settings.model_copy(update={"seed": seed})
            log = make_log(simulated)
            pairs = rows.heft_pairs(log, Arms(log, simulated, seed))
            judged.append({
                name: _judge(log, table, pairs, seed)
                for name, table in _tables(log, pairs, seed, options.steps)
            })  # fmt: skip
            logs.append(log)
            print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    _print(judged, logs, options)


def _tables(
    log: ClickLog, pairs: dict[str, Array], seed: int, steps: int
) -> Iterator[tuple[str, TextTable]]:
    yield PLAIN, log.table
    yield "int8", _embedded(log, TextSettings(precision="int8"))
    for name, weighted in (("fine-tuned", False), ("fine-tuned on weights", True)):
        chosen = FinetuneSettings(seed=seed, steps=steps, weighted=weighted)
        with tempfile.TemporaryDirectory(prefix="heft-encoder-") as folder:
            shown = count_shown(
                [rows.columns(log, pairs)], list(log.table.query_texts),
                list(log.table.title_texts), weighted=weighted,
            )  # fmt: skip
            tuned = fine_tune(shown, TextSettings(), chosen, Path(folder) / "encoder")
            print(f"  {name}: kept step {tuned.steps} of {steps}", flush=True)
            yield name, _embedded(log, TextSettings(encoder=str(tuned.folder)))


def _embedded(log: ClickLog, settings: TextSettings) -> TextTable:
    """The same texts under the same ids by another encoder."""
    ids, traffic = np.unique(log.pair_texts[log.pair_of], axis=0, return_counts=True)
    texts = (list(log.table.query_texts), list(log.table.title_texts))
    return build_table(*texts, ids, traffic, settings, None)


def _judge(log: ClickLog, table: TextTable, pairs: dict[str, Array], seed: int) -> list:
    """Metrics of the model over a table; see `benchmarks.model.peers`."""
    own = replace(log, table=table)
    found = rows.trained(own, pairs, ModelSettings(seed=seed))
    click, _ = rows.predict(found, own, log.test_pairs)
    grade = log.test_grade.astype(float)
    return [Auc(err_gain(grade, 3), click), ndcg_at_k(grade, click, log.test_query, 10)]


def _print(judged: list[dict], logs: list[ClickLog], options: argparse.Namespace) -> None:
    print(f"\n| encoder | click AUC | NDCG@10 | click AUC over {PLAIN}'s | 95 % |")
    print("|---|---|---|---|---|")
    facts, means = {}, {}
    for name in judged[0]:
        values = [
            [metric.value(np.ones(len(log.test_pairs))) for metric in metrics[name]]
            for metrics, log in zip(judged, logs, strict=True)
        ]
        auc, ndcg = means[name] = np.mean(values, axis=0)
        low, high = interval(judged, logs, name, PLAIN, options.resamples)
        gain = auc - means[PLAIN][0]
        print(f"| {name} | {auc:.4f} | {ndcg:.4f} | {gain:+.4f} | {low:+.4f} … {high:+.4f} |")
        facts[name] = {
            "click_auc": round(float(auc), 4), "ndcg_at_10": round(float(ndcg), 4),
            "gain": round(float(gain), 4), "interval": [round(low, 4), round(high, 4)],
        }  # fmt: skip
    print(json.dumps({"seeds": options.seeds, "encoders": facts}))


if __name__ == "__main__":
    main()
