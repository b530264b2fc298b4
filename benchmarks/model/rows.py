"""A simulated click log as the packed rows that Heft's trainer reads, and what it predicts."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog
from heft import features as f
from heft.examples import write_columns
from heft.importance import ExaminationPosterior, OutOfFoldProxy
from heft.model.network import InputSizes
from heft.model.packing import Layout, pack
from heft.model.rates import Rates
from heft.model.run import calibrated
from heft.model.settings import ModelSettings
from heft.model.training import Trained, TrainingRows, Watch, train
from heft.text.table import TextTable

__all__ = [
    "SIZES", "Columns", "columns", "conversions", "fit", "heft_pairs", "joined", "logits", "packed",
    "part", "predict", "take", "trained", "tune_rows",
]  # fmt: skip

SIZES = InputSizes({}, ("price_log",))
_TUNE_TENTHS = 1

Array = np.ndarray
Columns = dict[str, Array]


def conversions(log: ClickLog) -> Array:
    """(n,) 1 where a conversion was logged."""
    return np.isfinite(log.data.delay).astype(np.int64)


def tune_rows(log: ClickLog) -> Array:
    """(n,) True for the impressions of a tenth of the queries."""
    texts = log.table.query_texts
    tenth = np.array([hashlib.sha256(text).digest()[0] % 10 for text in texts])
    return tenth[log.pair_texts[log.pair_of, 0]] < _TUNE_TENTHS


def heft_pairs(log: ClickLog, arms: Arms) -> dict[str, Array]:
    """Weight pairs of each task, (n, 2), as the pipeline's default estimates them."""
    curve = arms.model_no_shuffle.of_conversions().as_examination()
    bought = replace(log.data, label=conversions(log), human=arms.human.astype(np.float32))
    proxy = OutOfFoldProxy(random_state=arms.seed)
    cvr = ExaminationPosterior(proxy, curve).fit(bought).pairs(bought)
    factor = arms.human * arms.repeats
    return {
        f.CTR: next(make for name, make in arms if name == "heft_no_shuffle")(),
        f.CVR: cvr * (factor / factor.mean())[:, None],
    }


def part(log: ClickLog, chosen: Array) -> ClickLog:
    """The log with some of its impressions, (n,) bool; the pairs and the test stay."""
    truth = log.truth[chosen].reset_index(drop=True)
    return replace(log, pair_of=log.pair_of[chosen], data=log.data.take(chosen), truth=truth)


def trained(
    log: ClickLog,
    pairs: dict[str, Array] | None,
    settings: ModelSettings,
    rows: Array | None = None,
) -> Trained:
    """The model, by the trainer's own way: shards, packed rows, `fit`.

    Args:
        log: the shop.
        pairs: weight pairs of each task; None trains on the labels.
        settings: of the model.
        rows: (n,) bool, the impressions to use; all by default.
    """
    with tempfile.TemporaryDirectory(prefix="heft-peers-") as folder:
        found = packed(log, pairs, folder, rows)
        sizes = SIZES.with_rates(found.train)
        watch = Watch(log_dir=Path(folder) / "board")
        return train(found, log.table, sizes, settings, watch, weighted=pairs is not None)


def packed(
    log: ClickLog, pairs: dict[str, Array] | None, folder: str, rows: Array | None = None
) -> TrainingRows:
    """The impressions as the trainer reads them, in `folder`; arguments as of `trained`."""
    used = np.ones(len(log.pair_of), bool) if rows is None else rows
    found, tune = columns(log, pairs), tune_rows(log)
    return _packed(take(found, used & ~tune), take(found, used & tune), SIZES, folder)


def fit(
    train_columns: Columns,
    tune_columns: Columns,
    table: TextTable,
    settings: ModelSettings,
    *,
    sizes: InputSizes = SIZES,
    weighted: bool = True,
    prepare: Callable[[keras.Model], object] | None = None,
    clicks: Array | None = None,
) -> tuple[Trained, Rates | None]:
    """A model, and what it answers at a position if `clicks` (positions, 2) are given."""
    with tempfile.TemporaryDirectory(prefix="heft-rows-") as folder:
        rows = _packed(train_columns, tune_columns, sizes, folder)
        sizes = sizes.with_rates(rows.train)
        watch = Watch(log_dir=Path(folder) / "board")
        found = train(rows, table, sizes, settings, watch, weighted=weighted, prepare=prepare)
        rates = None if clicks is None else calibrated(found, rows.tune, sizes, settings, clicks)
    return found, rates


def _packed(
    train_columns: Columns, tune_columns: Columns, sizes: InputSizes, folder: str
) -> TrainingRows:
    layout, found = Layout.of(tuple(sizes.categorical), sizes.dense), []
    for split, values in ((f.TRAIN, train_columns), (f.TUNE, tune_columns)):
        shard = Path(folder) / f"{split}.gz"
        write_columns(values, shard)
        found.append(pack([str(shard)], layout, folder, split))
    return TrainingRows(*found)


def take(found: Columns, chosen: Array) -> Columns:
    """Some rows of columns, (n,) bool."""
    return {name: values[chosen] for name, values in found.items()}


def joined(*parts: Columns) -> Columns:
    """The rows of all."""
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def predict(found: Trained, log: ClickLog, pairs: Array) -> tuple[Array, Array]:
    """Attractiveness, and the rate of conversions at full examination, of rows of pairs."""
    inputs = {
        f.QUERY_ID: log.pair_texts[pairs, 0],
        f.TITLE_ID: log.pair_texts[pairs, 1],
        "dense": log.pair_dense[pairs].astype(np.float32),
    }
    rates = 1 / (1 + np.exp(-logits(found, inputs)[:, :2]))
    return rates[:, 0], rates[:, 0] * rates[:, 1]


def logits(found: Trained, inputs: dict[str, Array]) -> Array:
    """(n, 2) or wider, of a model's inputs."""
    return found.model.predict(inputs, batch_size=16_384, verbose=0)


def columns(log: ClickLog, pairs: dict[str, Array] | None) -> Columns:
    """The rows of a log as ImportanceEstimator would write them, (n,) each."""
    data, texts, dense = log.data, log.pair_texts[log.pair_of], log.pair_dense[log.pair_of]
    labels = {f.CTR: data.label, f.CVR: conversions(log)}
    found = {
        f.QUERY_ID: texts[:, 0],
        f.TITLE_ID: texts[:, 1],
        f.CLICK: labels[f.CTR],
        f.CONVERSION: labels[f.CVR],
        f.POSITION: data.position,
        f.OBSERVATION: np.ones(len(texts), np.float32),
    }
    found |= {name: dense[:, k].astype(np.float32) for k, name in enumerate(SIZES.dense)}
    for task, label in labels.items():
        weights = np.stack([label, 1 - label], axis=1) if pairs is None else pairs[task]
        found[f.positive_weight(task)] = weights[:, 0].astype(np.float32)
        found[f.negative_weight(task)] = weights[:, 1].astype(np.float32)
    return found
