"""Statistics of what a model is asked, given or computed from a log of requests."""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.gate.settings import LogColumns, ServingData
from heft.gate.statistics import Statistics, rows_of
from heft.logs.storage import content_digest, listed, opened
from heft.tfdv import tfdv

__all__ = ["serving_fingerprint", "serving_statistics"]

Row = Mapping[str, Any]

_FORMATS = {
    ".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet",
    ".tfrecord": "predictions", ".tfrecords": "predictions",
}  # fmt: skip
_SIDECAR = "examples"  # the input of the signature that takes tf.Examples


def serving_fingerprint(settings: ServingData | None) -> str:
    """Names and contents of the files, hashed, so that a cache follows them; "" of none.

    Raises:
        ConfigError: there is no such file.
    """
    if settings is None:
        return ""
    digest = hashlib.sha256()
    for path in _files(settings):
        digest.update(f"{path}\0{content_digest(path)}\0".encode())
    return digest.hexdigest()[:16]


def serving_statistics(settings: ServingData, columns: LogColumns) -> Statistics:
    """Of the columns that the model sees, of at most `settings.rows` rows of a log.

    Raises:
        ConfigError: there is no such file.
        DataError: a file is not what it is said to be, or has no row of the model's columns.
    """
    files = _files(settings)
    if settings.statistics is not None:
        return _load(files[0])
    wanted: dict[str, type] = {f.QUERY: str, f.TITLE: str}
    wanted |= dict.fromkeys(columns.seen_categorical, str)
    wanted |= dict.fromkeys(columns.seen_numeric, float)
    rows = list(islice(_rows(files, settings), settings.rows))
    found = {
        name: [_value(row.get(name), kind) for row in rows]
        for name, kind in wanted.items()
        if any(row.get(name) is not None for row in rows)
    }
    if not found:
        raise DataError(
            f"gate.serving.log={settings.log!r}: {len(rows)} requests, and none has one of "
            f"{sorted(wanted)}: expected rows of the model's columns, or bodies with "
            "`instances` or `inputs`"
        )
    statistics: Statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(found))
    return statistics


def _files(settings: ServingData) -> list[str]:
    which = "statistics" if settings.statistics is not None else "log"
    pattern = str(getattr(settings, which))
    found = sorted(path for path, _ in listed(pattern))
    if not found:
        raise ConfigError(
            f"gate.serving.{which}={pattern!r}: no such file; expected what the model was asked, "
            "or leave gate.serving out"
        )
    return found


def _load(path: str) -> Statistics:
    """TFDV's own files: text, one TFRecord, or the message alone."""
    found = Statistics()
    try:
        if path.endswith((".pbtxt", ".txt")):
            with opened(path) as file:
                text_format.Parse(file.read(), found)
        elif path.endswith((".tfrecord", ".tfrecords")):
            [record] = tf.data.TFRecordDataset(path).as_numpy_iterator()
            found.ParseFromString(record)
        else:
            with opened(path) as file:
                found.ParseFromString(file.read())
    except (text_format.ParseError, DecodeError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"{path} holds no statistics of TFDV: {error}") from error
    if not rows_of(found):
        raise DataError(f"{path} holds statistics of no row")
    return found


def _value(value: Any, kind: type) -> Any:
    if value is None:
        return None
    if kind is str:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _rows(files: Sequence[str], settings: ServingData) -> Iterator[Row]:
    for path in files:
        ending = "." + path.removesuffix(".gz").rpartition(".")[2]
        kind = _FORMATS.get(ending) if settings.format == "auto" else settings.format
        if kind is None:
            raise ConfigError(
                f"gate.serving.log: {path} ends in none of {sorted(_FORMATS)}: set "
                "gate.serving.format"
            )
        try:
            yield from _READERS[kind](path)
        except (ValueError, DecodeError, tf.errors.OpError, OSError, EOFError) as error:
            raise DataError(f"{path} is no log of requests as {kind}: {error}") from error


def _inflated(path: str, raw: Any) -> Any:
    return gzip.open(raw) if path.endswith(".gz") else raw


def _jsonl(path: str) -> Iterator[Row]:
    """Rows, or bodies of TensorFlow Serving's REST interface."""
    with opened(path) as raw:
        for line in io.TextIOWrapper(_inflated(path, raw), "utf-8"):
            if line.strip():
                yield from _of_body(json.loads(line))


def _of_body(body: Any) -> Iterator[Row]:
    if not isinstance(body, dict):
        raise ValueError(f"{type(body).__name__} in place of an object")
    if isinstance(body.get("instances"), list):
        yield from (row for row in body["instances"] if isinstance(row, dict))
    elif isinstance(body.get("inputs"), dict):
        yield from _of_columns(body["inputs"])
    else:
        yield body


def _of_columns(columns: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of columns; a single value is that of each row."""
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    rows = max((len(values) for values in lists.values()), default=1)
    for k in range(rows):
        yield {
            name: values if name not in lists else values[k] if k < len(values) else None
            for name, values in columns.items()
        }


def _csv(path: str) -> Iterator[Row]:
    with opened(path) as raw:
        text = _inflated(path, raw)
        for part in pd.read_csv(text, dtype=str, keep_default_na=False, chunksize=10_000):
            for row in part.to_dict("records"):
                yield {str(name): value or None for name, value in row.items()}


def _parquet(path: str) -> Iterator[Row]:
    with opened(path) as raw:
        for batch in pq.ParquetFile(raw).iter_batches(10_000):
            yield from batch.to_pylist()


def _examples(path: str) -> Iterator[Row]:
    for record in _records(path):
        yield _of_example(record)


def _predictions(path: str) -> Iterator[Row]:
    """TensorFlow Serving's request log; other calls than predictions are passed over."""
    for record in _records(path):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            continue
        inputs = {n: tf.make_ndarray(x) for n, x in log.predict_log.request.inputs.items()}
        if set(inputs) == {_SIDECAR}:
            yield from (_of_example(example) for example in inputs[_SIDECAR].ravel())
        else:
            yield from _of_columns({n: np.atleast_1d(x).tolist() for n, x in inputs.items()})


def _records(path: str) -> Iterator[bytes]:
    compression = "GZIP" if path.endswith(".gz") else ""
    yield from tf.data.TFRecordDataset(path, compression).as_numpy_iterator()


def _of_example(record: bytes) -> Row:
    features = tf.train.Example.FromString(record).features.feature
    row = {}
    for name, feature in features.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        row[name] = values[0] if len(values) == 1 else None
    return row


_READERS = {
    "jsonl": _jsonl, "csv": _csv, "parquet": _parquet, "examples": _examples,
    "predictions": _predictions,
}  # fmt: skip
