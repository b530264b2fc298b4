"""What privacy costs: DP-SGD at several noises beside ordinary training, on a log with known truth.

    .venv/bin/python -m benchmarks.model.privacy

Everyone trains the default model on the clicks of the same simulated log, without weights, and
is judged on human grades of queries that no log contains. Rows a second are those of the steps,
validation left out. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.recovery import parser, simulation_settings
from benchmarks.model import rows
from benchmarks.train import EpochClock
from heft.console import quiet
from heft.errors import HeftError
from heft.evaluation.metrics import auc, err_gain
from heft.model.settings import ModelSettings
from heft.model.training import TrainingRows, Watch, train

FIGURES = ("epsilon", "auc", "rows_per_s")


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    asked = parser(__doc__)
    asked.set_defaults(seeds=[101], sessions=5_000)
    asked.add_argument("--noise-multipliers", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    asked.add_argument("--clip-norm", type=float, default=1.0)
    options = asked.parse_args()
    quiet()
    found: dict[str, dict[str, list[float]]] = {}
    began, count = time.monotonic(), 0
    try:
        settings = simulation_settings(options)
        for seed in options.seeds:
            log = make_log(settings.model_copy(update={"seed": seed}))
            with tempfile.TemporaryDirectory(prefix="heft-privacy-") as folder:
                packed = rows.packed(log, None, folder)
                count = packed.train.rows
                for name, model in _variants(options, seed).items():
                    values = _measured(packed, log, model, Path(folder) / name)
                    for figure, value in zip(FIGURES, values, strict=True):
                        found.setdefault(name, {}).setdefault(figure, []).append(value)
                    said = f"{name}: {time.monotonic() - began:.0f} s"
                    print(f"seed {seed}, {said}", flush=True)
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    print("\n| noise multiplier | ε at δ = 1e-5 | click AUC | rows a second |\n|---|---|---|---|")
    means = {n: {k: float(np.mean(v)) for k, v in values.items()} for n, values in found.items()}
    for name, mean in means.items():
        print(f"| {name} | {mean['epsilon']:.2f} | {mean['auc']:.4f} | {mean['rows_per_s']:,.0f} |")
    for mean in means.values():
        mean["epsilon"] = mean["epsilon"] if np.isfinite(mean["epsilon"]) else None
    print(json.dumps({"seeds": options.seeds, "training_rows": count, "models": means}))


def _variants(options: argparse.Namespace, seed: int) -> dict[str, ModelSettings]:
    def private(noise: float) -> ModelSettings:
        privacy = {"noise_multiplier": noise, "clip_norm": options.clip_norm, "delta": 1e-5}
        return ModelSettings(seed=seed, privacy=privacy)

    return {"none": ModelSettings(seed=seed)} | {
        str(noise): private(noise) for noise in options.noise_multipliers
    }


def _measured(
    packed: TrainingRows, log: ClickLog, settings: ModelSettings, folder: Path
) -> tuple[float, ...]:
    """Epsilon, AUC, rows a second."""
    clock = EpochClock()
    sizes = rows.SIZES.with_rates(packed.tune if settings.privacy else packed.train)
    watch = Watch(folder, callbacks=(clock,))
    found = train(packed, log.table, sizes, settings, watch, weighted=False)
    click, _ = rows.predict(found, log, log.test_pairs)
    score = auc(err_gain(log.test_grade.astype(float), 3), click)
    spent = found.privacy["epsilon"] if found.privacy else float("inf")
    return spent, score, packed.train.rows / float(np.median(clock.seconds[1:] or clock.seconds))


if __name__ == "__main__":
    main()
