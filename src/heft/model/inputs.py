"""Weighted examples as batches for `fit`."""

from collections.abc import Sequence

import tensorflow as tf

from heft import features as f
from heft.importance.meta_weight_net import BUCKETS
from heft.model.network import InputSizes

__all__ = ["WEIGHT_COLUMNS", "dataset"]

WEIGHT_COLUMNS = tuple(
    column(task) for task in f.TASKS for column in (f.positive_weight, f.negative_weight)
)

# Absent in graded or foreign examples: then nothing is known of it.
_CONTEXT_SPEC = {
    f.POSITION: tf.io.FixedLenFeature([], tf.int64, 0),
    f.OBSERVATION: tf.io.FixedLenFeature([], tf.float32, 0.0),
}
_OLD = 16.0  # log of some 100 days in seconds

Batch = tuple[dict[str, tf.Tensor], tf.Tensor]


def dataset(
    paths: Sequence[str],
    sizes: InputSizes,
    *,
    batch_size: int,
    weighted: bool,
    shuffle_seed: int | None = None,
    context: bool = False,
) -> tf.data.Dataset:
    """(inputs, pairs) batches of the shards at `paths`.

    Args:
        paths: TFRecord shards that ImportanceEstimator wrote.
        sizes: the columns to read.
        batch_size: rows per batch; the last may be smaller.
        weighted: take the weight pairs, else the control's (y, 1 − y).
        shuffle_seed: shuffles shards and rows; None keeps the order.
        context: append what learned weights may depend on, the click, the age, the
            position and the slice of each row.

    Returns:
        Batches of (inputs of `build_training_model`, (batch, 4) pairs); (batch, 8)
        with the context, of which `EsmmPairLoss` takes no notice.
    """
    spec = _spec(sizes)

    def parse(serialised: tf.Tensor) -> Batch:
        columns = tf.io.parse_example(serialised, spec | (_CONTEXT_SPEC if context else {}))
        pairs = _pairs(columns, weighted)
        if context:
            pairs = tf.concat([pairs, _context(columns, sizes)], axis=1)
        return _inputs(columns, sizes), pairs

    def read(path: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(path, compression_type="GZIP", buffer_size=1 << 20)

    shards = tf.data.Dataset.from_tensor_slices(list(paths))
    if shuffle_seed is not None:
        shards = shards.shuffle(len(paths), seed=shuffle_seed)
    rows = shards.interleave(read, cycle_length=4, block_length=256, num_parallel_calls=2)
    if shuffle_seed is not None:
        rows = rows.shuffle(32 * batch_size, seed=shuffle_seed)
    return rows.batch(batch_size).map(parse, num_parallel_calls=2).prefetch(4)


def _spec(sizes: InputSizes) -> dict[str, tf.io.FixedLenFeature]:
    integers = [f.QUERY_ID, f.TITLE_ID, f.CLICK, f.CONVERSION, *sizes.categorical]
    floats = [*sizes.dense, *WEIGHT_COLUMNS]
    return {
        **{name: tf.io.FixedLenFeature([], tf.int64) for name in integers},
        **{name: tf.io.FixedLenFeature([], tf.float32) for name in floats},
    }


def _inputs(columns: dict[str, tf.Tensor], sizes: InputSizes) -> dict[str, tf.Tensor]:
    names = (f.QUERY_ID, f.TITLE_ID, *sizes.categorical)
    dense = tf.stack([columns[name] for name in sizes.dense], axis=1)
    return {"dense": dense, **{name: columns[name] for name in names}}


def _pairs(columns: dict[str, tf.Tensor], weighted: bool) -> tf.Tensor:
    if weighted:
        return tf.stack([columns[name] for name in WEIGHT_COLUMNS], axis=1)
    click = tf.cast(columns[f.CLICK], tf.float32)
    conversion = tf.cast(columns[f.CONVERSION], tf.float32)
    return tf.stack([click, 1 - click, conversion, 1 - conversion], axis=1)


def _context(columns: dict[str, tf.Tensor], sizes: InputSizes) -> tf.Tensor:
    """(batch, 4) float32: click; age and position, as logarithms; bucket of the slice."""
    click = tf.cast(columns[f.CLICK], tf.float32)
    age = tf.math.log1p(tf.maximum(columns[f.OBSERVATION], 0.0)) / _OLD
    position = tf.math.log1p(tf.cast(tf.maximum(columns[f.POSITION], 0), tf.float32))
    bucket = tf.zeros_like(click)
    if sizes.categorical:
        bucket = tf.cast(columns[next(iter(sizes.categorical))] % BUCKETS, tf.float32)
    return tf.stack([click, age, position, bucket], axis=1)
