"""How fast is training, and what does reading cost it?

    .venv/bin/python -m benchmarks.train

A log of the default model's columns (query and title of a table of 384-wide vectors,
six lexical features, price, category, brand; weights and the scores that stand beside them) is
written as ImportanceEstimator writes it. Then, each in a process of its own on two cores:
`packing`, the one pass over tf.Examples; `input`, five epochs of batches and nothing else, packing
included; `train`, five epochs of the default model, packing included but tracing the
graph not; `memory`, the same `fit` on arrays in memory. The last line is one JSON object:

    input_per_s      examples a second of `input`
    train_per_s      of `train`
    ratio_in_memory  `train` over `memory`, which had no packing to do
    peak_gib         of `train`; `peak_growth_gib` is what four times the rows add
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from heft import features as f
from heft.console import quiet
from heft.examples import write_columns
from heft.model.inputs import training_batches
from heft.model.losses import PairLoss
from heft.model.network import InputSizes, build_core, build_training_model
from heft.model.packing import Layout, PackedRows, pack
from heft.model.settings import ModelSettings
from heft.model.training import TrainingRows, Watch, train
from heft.model.weighting import Weighting
from heft.text.reduction import Projection, Reduction
from heft.text.settings import TextSettings
from heft.text.table import TextTable

ROOT = Path(__file__).parents[1]
SIZES = InputSizes({"category_id": 200, "brand_id": 2_000}, ("price_z",), 0.12, 0.02)
LAYOUT = Layout.of(tuple(SIZES.categorical), SIZES.dense)
QUERIES, TITLES, DIM = 12_000, 50_000, 384
SHARD_ROWS, EPOCHS = 125_000, 5
TUNE_ROWS = 50_000


def main() -> None:
    """Measures, then prints figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3, help="train and memory, in turns")
    parser.add_argument("--set", action="append", default=[], help="model settings, key=value")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory(prefix="heft-train-") as folder:
        options.folder = Path(folder)
        write_log(options.folder / "small", options.rows // 4)
        write_log(options.folder / "log", options.rows)
        found = {"packing": _measure("packing", options), "input": _measure("input", options)}
        rounds = [
            (_measure("train", options), _measure("memory", options)) for _ in range(options.rounds)
        ]
        small = _measure("train", options, options.folder / "small")
    ratios = [ours["per_s"] / theirs["per_s"] for ours, theirs in rounds]
    trained = [ours for ours, _ in rounds]
    figures = {
        "rows": options.rows,
        "batch_size": options.batch_size,
        "packing_per_s": round(found["packing"]["per_s"]),
        "input_per_s": round(found["input"]["per_s"]),
        "train_per_s": round(float(np.median([x["per_s"] for x in trained]))),
        "memory_per_s": round(float(np.median([x["per_s"] for _, x in rounds]))),
        "ratio_in_memory": round(float(np.median(ratios)), 3),
        "ratios": [round(x, 3) for x in ratios],
        "peak_gib": round(max(x["peak_gib"] for x in trained), 2),
        "peak_growth_gib": round(min(x["peak_gib"] for x in trained) - small["peak_gib"], 2),
    }
    print(json.dumps(figures))


def write_log(folder: Path, rows: int) -> None:
    """Weighted shards of random rows, with the columns that training does not read too."""
    rng = np.random.default_rng(0)
    for number, begin in enumerate(range(0, rows, SHARD_ROWS)):
        count = min(SHARD_ROWS, rows - begin)
        write_columns(_columns(rng, count), folder / f"weighted-{number:05d}.gz")
    write_columns(_columns(rng, min(TUNE_ROWS, rows // 10)), folder / "tune" / "weighted.gz")


def _columns(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    click = (rng.random(rows) < 0.12).astype(np.int64)
    conversion = click * (rng.random(rows) < 0.2)
    columns: dict[str, np.ndarray] = {
        f.QUERY_ID: rng.zipf(1.3, rows) % QUERIES,
        f.TITLE_ID: rng.integers(0, TITLES, rows),
        "category_id": rng.integers(0, 200, rows),
        "brand_id": rng.integers(0, 2_000, rows),
        f.CLICK: click,
        f.CONVERSION: conversion,
        f.POSITION: rng.integers(1, 11, rows),
        f.TIMESTAMP: rng.integers(0, 2**40, rows),
        f.RANDOMISED: np.zeros(rows, np.int64),
        f.REQUEST_KEY: rng.integers(0, 2**62, rows),
        f.USER_KEY: rng.integers(0, 2**62, rows),
        f.IMPRESSION_ID: np.char.add("i", np.arange(rows).astype(str))
        .astype(np.bytes_)
        .astype(object),
    }
    floats = (*f.LEXICAL, "price_z", f.OBSERVATION, f.CLICK_DELAY, f.CONVERSION_DELAY)
    scores = tuple(
        f.score_column(name, task)
        for task in f.TASKS
        for name in ("label_quality", "el2n", "fraud_weight", "repetition_weight")
    )
    for name in (*floats, *scores):
        columns[name] = rng.random(rows).astype(np.float32)
    for task, label in ((f.CTR, click), (f.CVR, conversion)):
        expected = np.clip(label + 0.1 * rng.random(rows), 0, 1).astype(np.float32)
        columns[f.positive_weight(task)] = expected
        columns[f.negative_weight(task)] = 1 - expected
    return columns


def table() -> TextTable:
    """Unit vectors at random, with the default dimensions of the projections."""
    rng = np.random.default_rng(0)
    settings = TextSettings()

    def unit(rows: int) -> np.ndarray:
        vectors = rng.normal(size=(rows, DIM)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def projection(kept: int) -> Projection:
        components = rng.normal(size=(kept, DIM)).astype(np.float32) / np.sqrt(DIM)
        return Projection(np.zeros(DIM, np.float32), components, np.zeros(kept))

    reduction = Reduction(
        title=projection(settings.title_dimensions),
        query=projection(settings.query_dimensions),
        product=projection(settings.product_dimensions),
    )
    queries, titles = unit(QUERIES), unit(TITLES)
    texts = [b"q"] * QUERIES, [b"t"] * TITLES
    return TextTable(queries, titles, *texts, reduction, "none", settings, 0, 0)


def _packing(options: argparse.Namespace) -> dict[str, float]:
    _pack(options, "warm", limit=1)
    began = time.monotonic()
    rows = _pack(options, "packed")
    return _figures(rows.train.rows, began)


def _input(options: argparse.Namespace) -> dict[str, float]:
    _pack(options, "warm", limit=1)
    began = time.monotonic()
    rows = _pack(options, "packed").train
    batches = training_batches(
        rows, SIZES, Weighting("loss", rows), batch_size=options.batch_size, seed=0,
        epochs=range(EPOCHS),
    )  # fmt: skip
    seen = sum(int(targets.shape[0]) for _, targets in batches)
    if seen != EPOCHS * rows.rows:
        raise SystemExit(f"{seen} rows were read: expected {EPOCHS} times {rows.rows}")
    return _figures(seen, began)


def _train(options: argparse.Namespace) -> dict[str, float]:
    settings, vectors = _settings(options), table()
    began = time.monotonic()
    rows = _pack(options, "packed")
    packing = time.monotonic() - began
    clock = EpochClock()
    watch = Watch(log_dir=options.folder / "tensorboard", callbacks=(clock,))
    train(rows, vectors, SIZES.with_rates(rows.train), settings, watch, weighted=True)
    return _rate(rows.train.rows, clock, packing)


def _memory(options: argparse.Namespace) -> dict[str, float]:
    settings, vectors = _settings(options), table()
    rows = _pack(options, "packed")
    inputs, targets = _arrays(rows.train)
    keras.utils.set_random_seed(0)
    model = build_training_model(vectors, build_core(vectors, SIZES, settings), settings)
    optimizer = keras.optimizers.Adam(settings.learning_rate, clipnorm=settings.clip_norm)
    model.compile(optimizer, loss=PairLoss.of(settings, ((1.0, 0.0),)), jit_compile=settings.jit)
    clock = EpochClock()
    model.fit(
        inputs, targets, batch_size=options.batch_size, epochs=EPOCHS, shuffle=True, verbose=0,
        callbacks=[clock],
    )  # fmt: skip
    return _rate(rows.train.rows, clock, 0.0)


def _arrays(rows: PackedRows) -> tuple[dict[str, np.ndarray], np.ndarray]:
    batches = list(
        training_batches(
            rows, SIZES, Weighting("loss", rows), batch_size=65_536, seed=0, epochs=range(1)
        )
    )
    inputs = {name: np.concatenate([x[name].numpy() for x, _ in batches]) for name in batches[0][0]}
    return inputs, np.concatenate([y.numpy() for _, y in batches])


class EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch's steps, without validation and checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """The last one counts."""
        self._last = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps the time."""
        self.seconds.append(self._last - self._began)


def _rate(rows: int, clock: EpochClock, packing: float) -> dict[str, float]:
    """Over as many epochs, each as long as the median of those after the first, which traces."""
    seconds = EPOCHS * float(np.median(clock.seconds[1:])) + packing
    return {"per_s": EPOCHS * rows / seconds, "peak_gib": _peak()}


def _figures(rows: int, began: float) -> dict[str, float]:
    return {"per_s": rows / (time.monotonic() - began), "peak_gib": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _settings(options: argparse.Namespace) -> ModelSettings:
    given = dict(pair.split("=", 1) for pair in options.set)
    return ModelSettings.model_validate(
        {"batch_size": options.batch_size, "epochs": EPOCHS, "patience": EPOCHS, **given}
    )


def _pack(options: argparse.Namespace, name: str, limit: int | None = None) -> TrainingRows:
    shards = sorted(str(path) for path in options.folder.glob("weighted-*.gz"))[:limit]
    folder = options.folder / name
    tune = pack([str(options.folder / "tune" / "weighted.gz")], LAYOUT, folder, f.TUNE)
    return TrainingRows(pack(shards, LAYOUT, folder, f.TRAIN), tune)


def _measure(part: str, options: argparse.Namespace, folder: Path | None = None) -> dict:
    """Figures of one part, from a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.train", "--part", part,
        "--folder", str(folder or options.folder / "log"), "--batch-size", str(options.batch_size),
    ]  # fmt: skip
    for pair in options.set:
        command += ["--set", pair]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{part}: {found['per_s']:,.0f} rows/s, peak {found['peak_gib']:.2f} GiB", flush=True)
    return found


PARTS = {"packing": _packing, "input": _input, "train": _train, "memory": _memory}

if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
