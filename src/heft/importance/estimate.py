"""ImportanceEstimator's library function: transformed examples in, weighted examples out.

Estimators are fitted on a bounded sample of requests. Everything else is passes
over blocks of shards on Beam, whose memory does not depend on how many rows
there are.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.examples import Feature, shard_paths
from heft.importance.gather import Gather, Shard, gather, load_hashes
from heft.importance.learn import Gathered, learn, needs_features
from heft.importance.sample import choose
from heft.importance.scoring import Scored, WeightFacts, score_blocks, weigh_blocks
from heft.importance.settings import ImportanceSettings
from heft.importance.summary import (
    click_facts,
    edges_of,
    examination_facts,
    merge_extremes,
    task_facts,
)
from heft.importance.writing import Written, parts_of, publish, write_train, write_tune
from heft.passes import MakePipeline, Passes, local_pipeline
from heft.text.links import PairLinks

__all__ = ["SUMMARY_FILE", "estimate_importance"]

SUMMARY_FILE = "importance.json"

Array = np.ndarray
Columns = dict[str, Array]

_log = logging.getLogger(__name__)


def estimate_importance(
    split_uris: Mapping[str, str],
    table_uri: str,
    features: list[Feature],
    settings: ImportanceSettings,
    output_uris: Mapping[str, str],
    summary_uri: str,
    make_pipeline: MakePipeline = local_pipeline,
    scratch: str | None = None,
    links_uri: str | None = None,
) -> dict[str, Any]:
    """Weighs the training split, and writes train and tune again with their weights.

    The same input gives the same bytes, however the work was spread. Outputs are
    there as a whole or not at all: splits are moved to their place when they are
    written, and the summary comes last.

    Memory: the sample of `settings.fit_rows` rows and what estimators make of it,
    and a few blocks of 100,000 rows per worker. Disk: the proxy features of every
    row, 4 bytes each, in `scratch` for the time it takes.

    Args:
        split_uris: folders of transformed examples; `train` and `tune`, and
            `harvest` where pages were shuffled.
        table_uri: the embedding table that the text ids point to.
        features: all columns of the transformed examples.
        settings: estimators and combination.
        output_uris: a folder each for `train` and `tune`.
        summary_uri: folder of the SampleImportance artifact.
        make_pipeline: makes the Beam pipelines to run on.
        scratch: a folder that all workers reach, left as it was found; beside
            the summary if None.
        links_uri: what `heft.text.reading.read_pairs` wrote, for `attention`.

    Returns:
        What was written to `importance.json`.

    Raises:
        ConfigError: `attention` is asked for and `links_uri` is not given.
        DataError: a split has no shard or train no row; and what estimators raise.
    """
    if not settings.asks_for("attention"):
        links_uri = None
    elif links_uri is None:
        raise ConfigError(
            "the estimator attention needs pairs that BERT has read, received links_uri=None: "
            "give what heft.text.reading.read_pairs wrote, or leave attention out"
        )
    shards = {split: _shards(split, uri) for split, uri in split_uris.items()}
    parent = Path(scratch) if scratch else Path(summary_uri).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".weighing-", dir=parent))
    try:
        passes = Passes(folder, make_pipeline)
        splits = _gather(passes, shards, table_uri, features, settings, links_uri)
        read = dict(PairLinks.load(links_uri).facts) if links_uri else None
        return _weigh(passes, splits, features, settings, output_uris, summary_uri, read)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _weigh(
    passes: Passes,
    splits: dict[str, Gathered],
    features: list[Feature],
    settings: ImportanceSettings,
    output_uris: Mapping[str, str],
    summary_uri: str,
    read: dict[str, Any] | None,
) -> dict[str, Any]:
    train, tune = splits[f.TRAIN], splits[f.TUNE]
    latest = max(block.latest for block in train.flat)
    sample = choose(train.hashes, settings.fit_rows)
    _log.info("estimators learn from %d of %d rows", sample.rows, sample.of)
    examination, fitted, fitted_tune, facts = learn(splits, sample, settings, latest)
    clicks = click_facts(fitted[f.CTR], examination)
    scored = score_blocks(passes, train.flat, fitted, sample, settings, latest)
    del fitted
    weights = weigh_blocks(passes, scored)
    staged = {split: passes.folder / f"weighted {split}" for split in (f.TRAIN, f.TUNE)}
    edges = {task: edges_of(scored.sampled_pairs(task)[:, 0]) for task in f.TASKS}
    written = write_train(
        passes, parts_of(train.shards, train.blocks), str(staged[f.TRAIN]), features, scored,
        edges, _by_mass(weights[f.CTR]),
    )  # fmt: skip
    parts = parts_of(tune.shards, tune.blocks)
    write_tune(passes, parts, str(staged[f.TUNE]), features, settings, fitted_tune)
    summary = _summarise(scored, train, weights, edges, written)
    curves = {"examination": examination_facts(examination), "clicks": clicks}
    summary = curves | summary | {"fit": facts}
    if read is not None:
        summary["attention"] = read
    for split, path in staged.items():
        publish(path, output_uris[split])
    path = Path(summary_uri) / SUMMARY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(summary, indent=1))
    part.replace(path)
    return summary


def _shards(split: str, uri: str) -> list[Shard]:
    return [
        Shard(split, number, path, int(tf.io.gfile.stat(path).length))
        for number, path in enumerate(shard_paths(uri))
    ]


def _gather(
    passes: Passes,
    shards: Mapping[str, Sequence[Shard]],
    table_uri: str,
    features: list[Feature],
    settings: ImportanceSettings,
    links_uri: str | None,
) -> dict[str, Gathered]:
    """Splits that nobody reads are left out; only train and the reference need features."""
    wanted = [s for s in (f.TRAIN, f.TUNE, f.HARVEST) if s in shards]
    with_features = tuple(s for s in wanted if needs_features(s, settings))
    blocks = passes.folder / "blocks"
    blocks.mkdir()
    work = Gather(str(blocks), table_uri, features, settings, with_features, links_uri)
    elements = [shard for split in wanted for shard in shards[split]]
    sizes = [shard.bytes for shard in elements]
    found = passes.run("gather", gather, elements, sizes, work, unit="bytes")
    gathered = {
        split: Gathered(
            list(shards[split]),
            [own for shard, own in zip(elements, found, strict=True) if shard.split == split],
            load_hashes(str(blocks), shards[split]),
        )
        for split in wanted
    }
    _check(gathered[f.TRAIN], settings)
    return gathered


def _check(train: Gathered, settings: ImportanceSettings) -> None:
    if not train.rows:
        raise DataError(
            f"0 rows in {len(train.shards)} shards of the train split: expected impressions; "
            "check the split shares of the logs"
        )
    unlogged = sum(block.unlogged for block in train.flat)
    if settings.propensity == "logged" and unlogged:
        raise DataError(
            f"propensity: logged needs one in every row, received {unlogged} rows without; "
            "map the column, or use propensity: estimated"
        )


def _by_mass(weights: WeightFacts) -> bool:
    """Where every row has the same mass, samples are told apart by w⁺."""
    return weights.highest - weights.lowest >= 1e-5 * weights.highest


def _summarise(
    scored: Scored,
    train: Gathered,
    weights: Mapping[str, WeightFacts],
    edges: Mapping[str, Array],
    written: Sequence[Written],
) -> dict[str, Any]:
    tasks = {}
    for task in f.TASKS:
        counts = np.sum([part.counts[task] for part in written], axis=0)
        positives = train.positives(task)
        tasks[task] = task_facts(
            scored, task, weights[task], train.rows, positives, edges[task], counts
        )
    merged = merge_extremes([part.extremes for part in written], scored.settings.samples)
    samples = {name: [extreme.facts for extreme in own] for name, own in merged.items()}
    return {"tasks": tasks, "samples": samples}
