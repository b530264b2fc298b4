"""Transform's graph over shards of examples, a shard at a time.

TFX writes transformed rows one by one: Beam takes each of them through a window, a shard writer
in Python and the slowest gzip but one. Here a step of Beam has a whole shard; TensorFlow parses
and transforms its batches on all cores while earlier ones are encoded and written.
"""

import uuid
from collections.abc import Callable, Mapping
from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from heft.examples import shard_paths
from heft.record_files import write_stream

__all__ = ["transform_splits"]

_BATCH_ROWS = 4_096


def transform_splits(
    transform_uri: str, splits: Mapping[str, str], make_pipeline: Callable[[], beam.Pipeline]
) -> None:
    """Writes the rows of splits as Transform's graph sees them, shard by shard.

    Args:
        transform_uri: Transform's output folder.
        splits: from a split's folder of shards, gzipped TFRecords of `tf.Example`, to the folder
            to write to; a shard keeps its rows, their order, and its number.
        make_pipeline: an empty Beam pipeline; shards are spread over its workers.

    Raises:
        DataError: a split has no shards.
    """
    work = []
    for source, target in splits.items():
        paths = shard_paths(source)
        for folder in (target, _unfinished(target)):
            tf.io.gfile.makedirs(folder)
        for number, path in enumerate(paths):
            name = f"transformed_examples-{number:05d}-of-{len(paths):05d}.gz"
            work.append((path, f"{target}/{name}"))
    with make_pipeline() as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(work)
            | "Spread" >> beam.Reshuffle()
            | "Transform" >> beam.ParDo(_TransformShard(transform_uri))
        )
    for target in splits.values():
        tf.io.gfile.rmtree(_unfinished(target))


def _unfinished(target_uri: str) -> str:
    """Beside the split, so that what a killed worker leaves is not read as one of its shards."""
    return f"{target_uri.rstrip('/')}.unfinished"


class _TransformShard(beam.DoFn):
    def __init__(self, transform_uri: str) -> None:
        self._uri = transform_uri

    def setup(self) -> None:
        output = tft.TFTransformOutput(self._uri)
        layer, spec = output.transform_features_layer(), output.raw_feature_spec()
        self._apply = tf.function(
            lambda records: layer(tf.io.parse_example(records, spec)),
            input_signature=[tf.TensorSpec([None], tf.string)],
        )

    def process(self, paths: tuple[str, str]) -> None:
        source, target = paths
        rows = tf.data.TFRecordDataset(source, compression_type="GZIP").batch(_BATCH_ROWS)
        # Whole or not at all: Beam may try a shard twice, at once even.
        folder, _, _ = target.rpartition("/")
        part = f"{_unfinished(folder)}/{uuid.uuid4().hex}.gz"
        write_stream(part, (partial(self._columns, batch) for batch in rows.prefetch(1)))
        tf.io.gfile.rename(part, target, overwrite=True)

    def _columns(self, records: tf.Tensor) -> dict[str, pa.Array]:
        return {name: _array(values.numpy()) for name, values in self._apply(records).items()}


def _array(values: np.ndarray) -> pa.Array:
    """Values as they are: a NaN stays one."""
    if values.ndim == 2:
        flat = pa.array(values.ravel(), from_pandas=False)
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.array(values, pa.binary() if values.dtype == object else None, from_pandas=False)
