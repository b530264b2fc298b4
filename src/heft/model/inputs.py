"""Packed rows as batches for `fit`: the same order for the same seed and epoch."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.importance.meta_weight_net import BUCKETS
from heft.model import targets as t
from heft.model.alias import alias_draws
from heft.model.network import InputSizes
from heft.model.packing import BLOCK_ROWS, PackedRows
from heft.model.poisson import PoissonRows
from heft.model.weighting import Weighting

__all__ = ["evaluation_batches", "steps_per_epoch", "training_batches"]

_WINDOW = 64 * BLOCK_ROWS  # rows that are shuffled, or drawn from, together
_OLD = 16.0  # log of some 100 days in seconds

Batch = tuple[dict[str, tf.Tensor], tf.Tensor]


def steps_per_epoch(rows: int, batch_size: int, even: bool = False) -> int:
    """Batches of one epoch; the last may be smaller, or is left out if all have to be `even`."""
    return rows // batch_size if even else -(-rows // batch_size)


def training_batches(
    packed: PackedRows,
    sizes: InputSizes,
    weighting: Weighting,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    positions: bool = False,
    even: bool = False,
    poisson: PoissonRows | None = None,
) -> tf.data.Dataset:
    """(inputs, targets) batches, `steps_per_epoch` for each of `epochs`, one after another.

    What an epoch holds follows from the seed and its number alone, so that training
    can go on from any of them. Files, blocks and then the rows of some 65,000 are
    shuffled; no more than that is in memory. With `positions` they are one input more.
    Several devices need `even` batches: tf.distribute would carry the rest of an epoch over
    into the next. `poisson` draws each batch by itself, with `batch_size` rows on average.

    Returns:
        Inputs as of `build_training_model`; targets (batch, `targets.WIDTH`) float32 with
        the pairs of `weighting`.
    """
    steps = steps_per_epoch(packed.rows, batch_size, even)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        if poisson is not None:
            batches = poisson.batches(epoch, steps).enumerate()
        else:
            windows = _windows(packed, seed + 1009 * epoch)
            rows = _drawn(windows, packed, weighting, seed, epoch)
            batches = rows.rebatch(batch_size).take(steps).enumerate()

        def finish(step: tf.Tensor, words: tf.Tensor) -> Batch:
            inputs, targets = _split(words, packed, sizes, positions)
            done = tf.cast(epoch, tf.float32) + tf.cast(step, tf.float32) / steps
            return inputs, _with_pairs(targets, weighting.pairs(targets, done))

        return batches.map(finish, num_parallel_calls=2)

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return _finished(numbers.flat_map(one_epoch), steps * len(epochs))


def evaluation_batches(
    packed: PackedRows,
    sizes: InputSizes,
    *,
    batch_size: int,
    weighted: bool,
    positions: bool = False,
) -> tf.data.Dataset:
    """(inputs, targets) batches of every row once, in order."""
    weighting = Weighting("loss" if weighted else "none", packed)

    def finish(words: tf.Tensor) -> Batch:
        inputs, targets = _split(words, packed, sizes, positions)
        return inputs, _with_pairs(targets, weighting.pairs(targets, tf.constant(0.0)))

    rows = tf.data.TFRecordDataset(list(packed.paths)).map(_decode(packed)).rebatch(batch_size)
    batches = rows.map(finish, num_parallel_calls=2)
    return _finished(batches, steps_per_epoch(packed.rows, batch_size))


def _windows(packed: PackedRows, seed: tf.Tensor) -> tf.data.Dataset:
    """(≤ _WINDOW, width) int32 of shuffled rows."""
    paths = tf.constant(packed.paths)
    order = tf.random.experimental.stateless_shuffle(
        tf.range(len(packed.paths)), seed=tf.stack([seed, -1])
    )
    blocks = tf.data.Dataset.from_tensor_slices(tf.gather(paths, order)).interleave(
        tf.data.TFRecordDataset, cycle_length=8, block_length=1, num_parallel_calls=2
    )
    windows = blocks.map(_decode(packed), num_parallel_calls=2).rebatch(_WINDOW)

    def mix(place: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(rows, seed=tf.stack([seed, place]))

    return windows.enumerate().map(mix, num_parallel_calls=2)


def _drawn(
    windows: tf.data.Dataset,
    packed: PackedRows,
    weighting: Weighting,
    seed: int,
    epoch: tf.Tensor,
) -> tf.data.Dataset:
    """Windows of drawn rows, as many in all as there are; `windows` where nothing is drawn."""
    if not weighting.draws:
        return windows
    # A window gets its share of the draws, rounded up or down at random so that the
    # shares are right on average and the sum is right always.
    offset = tf.random.stateless_uniform([], [seed, epoch], 1e-3, 1 - 1e-3, tf.float64)

    def draw(
        state: tuple[tf.Tensor, tf.Tensor], rows: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        place, begun = state
        expected = weighting.propensities(_targets(rows, packed))
        end = begun + tf.reduce_sum(expected)
        count = tf.cast(tf.floor(end + offset) - tf.floor(begun + offset), tf.int64)
        key = tf.stack([tf.cast(seed, tf.int64), epoch, place])
        picked = tf.numpy_function(_draw, [expected, count, key], tf.int64)
        return (place + 1, end), tf.gather(rows, tf.ensure_shape(picked, [None]))

    start = (tf.constant(0, tf.int64), tf.constant(0.0, tf.float64))
    return windows.scan(start, draw)


def _draw(expected: np.ndarray, count: np.ndarray, key: np.ndarray) -> np.ndarray:
    return alias_draws(expected, int(count), key) if count else np.empty(0, np.int64)


def _decode(packed: PackedRows) -> Callable[[tf.Tensor], tf.Tensor]:
    width = packed.layout.width
    return lambda block: tf.reshape(tf.io.decode_raw(block, tf.int32), [-1, width])


def _split(words: tf.Tensor, packed: PackedRows, sizes: InputSizes, positions: bool) -> Batch:
    """The inputs and the targets (rows, `targets.WIDTH`) of packed rows."""
    layout = packed.layout
    names = (f.QUERY_ID, f.TITLE_ID, *sizes.categorical, *([f.POSITION] if positions else []))
    ids = {name: tf.cast(words[:, layout.integers.index(name)], tf.int64) for name in names}
    start = layout.place(sizes.dense[0]).start
    dense = tf.bitcast(words[:, start : start + len(sizes.dense)], tf.float32)
    vectors = {name: tf.bitcast(words[:, layout.place(name)], tf.float32) for name in sizes.vectors}
    if sizes.history:
        ids[f.HISTORY_IDS] = tf.cast(words[:, layout.place(f.HISTORY_IDS)], tf.int64)
    return {"dense": dense, **vectors, **ids}, _targets(words, packed)


def _targets(words: tf.Tensor, packed: PackedRows) -> tf.Tensor:
    layout = packed.layout

    def integer(name: str) -> tf.Tensor:
        return tf.cast(words[:, layout.integers.index(name)], tf.float32)

    first = layout.width - 5  # the weights and the observation stand last
    floats = tf.bitcast(words[:, first:], tf.float32)
    age = tf.math.log1p(tf.maximum(floats[:, 4], 0.0)) / _OLD
    slices = tf.zeros_like(age)
    if layout.integers[2] != f.CLICK:
        slices = tf.cast(words[:, 2] % BUCKETS, tf.float32)
    columns = [integer(f.CLICK), integer(f.CONVERSION), age, integer(f.POSITION), slices]
    return tf.concat([floats[:, :4], tf.stack(columns, axis=1)], axis=1)


def _with_pairs(targets: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    return tf.concat([pairs, targets[:, t.CLICK :]], axis=1)


def _finished(batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Read ahead and counted; several workers each take their part of every batch."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    counted = batches.apply(tf.data.experimental.assert_cardinality(count))
    return counted.prefetch(4).with_options(options)
