"""Offline ranking as one Beam pipeline.

Files are read and predicted batch by batch; what was predicted is written to disk in slices,
one per hash bucket of the group, and each bucket is then ordered and written by itself. So
memory follows the bucket and not the input.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam import pvalue
from apache_beam.transforms.combiners import ToList

from heft.errors import DataError, InputError
from heft.logs.files import LogFile
from heft.logs.storage import listed
from heft.scoring.columns import columns_of
from heft.scoring.report import ScoreReport
from heft.scoring.settings import CANDIDATES, GROUPS, ScoreSettings
from heft.scoring.steps import COUNTS, QUARANTINED, SCORED, PredictFile, RankBucket

__all__ = ["score"]

_SUMMARY, _QUARANTINE, _SHUFFLE = "summary.json", "quarantine.jsonl.gz", ".shuffle"
_BUCKET_BYTES = 64 * 2**20  # of input, for each bucket
_FEWEST, _MOST = 4, 10_000


def score(settings: ScoreSettings, output: str, make_pipeline: Callable[[], Any]) -> ScoreReport:
    """Asks a model of every row of the input and writes the rows of each group in their order.

    The same files, model and settings give the same rows, however the work was spread.

    Args:
        settings: the job.
        output: a folder, for `scores-*.parquet`, `quarantine.jsonl.gz` and, last, `summary.json`.
            That of an earlier job is replaced.
        make_pipeline: makes the Beam pipeline to run on.

    Raises:
        InputError: no file, no model, or a folder that holds something else.
        GateError: too many rows cannot be used.
    """
    pipeline = make_pipeline()
    files = _files(settings.inputs)
    group = _group(files, settings)
    _require_model(settings.model)
    _make_room(output)
    size = sum(file.size for file in files)
    buckets = min(max(-(-size // _BUCKET_BYTES), _FEWEST), _MOST)
    shuffle = f"{output}/{_SHUFFLE}"
    try:
        with pipeline:
            _build(pipeline, files, settings, group, buckets, output)
    finally:
        if tf.io.gfile.exists(shuffle):
            tf.io.gfile.rmtree(shuffle)
    with tf.io.gfile.GFile(f"{output}/{_SUMMARY}", "r") as summary:
        report = ScoreReport.model_validate_json(summary.read())
    report.check(settings.logs.max_quarantine_rate)
    return report


def _files(pattern: str) -> list[LogFile]:
    found = sorted(
        (path, size) for path, size in listed(pattern)
        if not PurePosixPath(path).name.startswith(("_", "."))
    )  # fmt: skip
    if not found:
        raise InputError(f"--input {pattern}: no file matches; expected Parquet, JSON Lines or CSV")
    # Below the folders that the pattern spells out: two folders may have files of one name.
    folder = re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    return [
        LogFile(CANDIDATES, path, path.removeprefix(folder).lstrip("/"), size, number)
        for number, (path, size) in enumerate(found)
    ]


def _group(files: list[LogFile], settings: ScoreSettings) -> str:
    """What candidates are ranked within: what all files have.

    Raises:
        DataError: a file has no query, or lacks what the ranking alone reads.
    """
    found = [columns_of(file, settings) for file in files]
    needed = {one.name for one in settings.fields if one.required} - {GROUPS[-1]}
    for file, columns in zip(files, found, strict=True):
        if needed - columns:
            raise DataError(
                f"--by {settings.by.text}: {sorted(needed - columns)} is not in {file.name}, "
                f"which has {sorted(columns)}: name it by --column, or order by something else"
            )
    for name in GROUPS:
        if all(name in columns for columns in found):
            return name
    raise DataError(
        f"--input {settings.inputs}: no column {GROUPS[-1]!r} in {files[0].name}, which has "
        f"{sorted(found[0])}: name it by --column {GROUPS[-1]}=ITS_NAME"
    )


def _require_model(path: str) -> None:
    """Before what an earlier job wrote is removed.

    Raises:
        InputError: there is none, or TensorFlow does not know the file system.
    """
    with contextlib.suppress(tf.errors.OpError):
        if tf.io.gfile.exists(f"{path}/saved_model.pb"):
            return
    raise InputError(
        f"{path} holds no SavedModel that can be read: expected saved_model.pb in a folder of this "
        "machine, or one on gs://"
    )


def _make_room(output: str) -> None:
    """An empty folder; what an earlier job wrote goes.

    Raises:
        InputError: it holds something else, or is on a file system that TensorFlow cannot write.
    """
    try:
        _empty(output)
    except tf.errors.OpError as error:
        raise InputError(
            f"--output {output} cannot be written ({error.message}): expected a folder of this "
            "machine, or one on gs://"
        ) from error


def _empty(output: str) -> None:
    if tf.io.gfile.exists(output):
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(output)]
        ours = {_SUMMARY, _QUARANTINE, _SHUFFLE}
        foreign = [n for n in names if n not in ours and not n.startswith("scores-")]
        if foreign:
            raise InputError(
                f"--output {output} holds {sorted(foreign)[0]!r}, which no scoring wrote: expected "
                "a new folder, or that of an earlier job"
            )
        # The summary first: without it a folder is no result.
        for name in sorted(names, key=lambda n: n != _SUMMARY):
            path = f"{output}/{name}"
            (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(path)
    tf.io.gfile.makedirs(output)


def _build(
    pipeline: Any, files: list[LogFile], settings: ScoreSettings, group: str, buckets: int,
    output: str,
) -> None:  # fmt: skip
    predict = PredictFile(settings, group, buckets, f"{output}/{_SHUFFLE}")
    predicted = (
        pipeline
        | "Files" >> beam.Create(files)
        | "Spread" >> beam.Reshuffle()
        | "Predict" >> beam.ParDo(predict).with_outputs(COUNTS, QUARANTINED, main=SCORED)
    )
    ranked = (
        predicted[SCORED]
        | "ByGroup" >> beam.GroupByKey()
        | "Rank" >> beam.ParDo(RankBucket(output, buckets, settings.top))
    )
    counts = (predicted[COUNTS], ranked) | "Counts" >> beam.Flatten() | "All" >> ToList()
    _ = counts | "Summary" >> beam.Map(
        _summarise, pvalue.AsIter(predicted[QUARANTINED]), settings, group, output
    )


def _summarise(
    counts: list[dict[str, int]], rejected: Iterable[tuple[int, bytes]], settings: ScoreSettings,
    group: str, output: str,
) -> None:  # fmt: skip
    total = sum((Counter(one) for one in counts), Counter())
    parts = [blob for _, blob in sorted(rejected)]
    if parts:
        with tf.io.gfile.GFile(f"{output}/{_QUARANTINE}", "wb") as quarantine:
            quarantine.write(b"".join(parts))
    mark = "quarantined: "
    report = ScoreReport(
        read=total["read"], scored=total["scored"],
        quarantined={k.removeprefix(mark): n for k, n in total.items() if k.startswith(mark)},
        groups=total["groups"], group=group, by=settings.by.text, written=total["written"],
        unknown_items=total["unknown_items"], model=settings.model,
        files=sorted(n for n in tf.io.gfile.listdir(output) if n.startswith("scores-")),
    )  # fmt: skip
    with tf.io.gfile.GFile(f"{output}/{_SUMMARY}", "w") as summary:
        summary.write(json.dumps(report.model_dump(), indent=1))
