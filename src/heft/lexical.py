"""How the letters of a query and a title match, in TensorFlow's graph.

A log shows the same query and the same title again and again, and a ranking asks for one
query with many titles: texts are cut up once for each distinct one in a batch, and compared once
for each distinct pair. What is compared are 62-bit hashes; that two of one batch meet by chance
has a probability of about 1e-8.
"""

from typing import NamedTuple

import tensorflow as tf

from heft import features as f

__all__ = ["lexical_features"]

_BUCKETS = 2**62
# Odd, and small enough that rows times it stay below 2^62.
_STRIDE = 0x9E3779B97F


class _Sets(NamedTuple):
    """Distinct values of rows, one row after another; those of row r are
    `values[splits[r]:splits[r + 1]]`."""

    values: tf.Tensor
    splits: tf.Tensor


class _Cut(NamedTuple):
    """Texts: how many tokens each has, the hash of its last, and what it consists of."""

    length: tf.Tensor
    last: tf.Tensor
    tokens: _Sets
    trigrams: _Sets


def lexical_features(query: tf.Tensor, title: tf.Tensor) -> dict[str, tf.Tensor]:
    """How the letters of a query and a title match; see `heft.features.LEXICAL`.

    Args:
        query, title: (batch,) strings, UTF-8.

    Returns:
        Float tensors (batch,): shares in [0, 1], and log(1 + tokens) for lengths.
    """
    queries, query_of = tf.unique(query, tf.int64)
    titles, title_of = tf.unique(title, tf.int64)
    count = tf.size(titles, tf.int64)
    pairs, pair_of = tf.unique(query_of * count + title_of)
    values = _compared(_cut(queries), pairs // count, _cut(titles), pairs % count)
    return {name: tf.gather(value, pair_of) for name, value in zip(f.LEXICAL, values, strict=True)}


def _compared(
    query: _Cut, query_of: tf.Tensor, title: _Cut, title_of: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """The features of each pair of rows."""
    tokens = _shared(query.tokens, query_of, title.tokens, title_of)
    trigrams = _shared(query.trigrams, query_of, title.trigrams, title_of)
    of_query, of_title = _sizes(query.trigrams, query_of), _sizes(title.trigrams, title_of)
    # A query without a token has -1, which no title has.
    count = tf.size(query.last, tf.int64)
    last = _Sets(query.last, tf.range(count + 1))
    return (
        tf.math.divide_no_nan(tokens, _sizes(query.tokens, query_of)),
        tf.math.divide_no_nan(trigrams, of_query),
        tf.math.divide_no_nan(trigrams, of_query + of_title - trigrams),
        _shared(last, query_of, title.tokens, title_of),
        tf.gather(tf.math.log1p(query.length), query_of),
        tf.gather(tf.math.log1p(title.length), title_of),
    )


def _cut(text: tf.Tensor) -> _Cut:
    lowered = tf.strings.lower(text, encoding="utf-8")
    words = tf.strings.strip(tf.strings.regex_replace(lowered, r"[^\p{L}\p{N}]+", " "))
    tokens = tf.strings.split(words)
    # Character trigrams, blanks at both ends included.
    letters = tf.strings.unicode_split(tf.strings.join([" ", words, " "]), "UTF-8")
    trigrams = tf.strings.ngrams(letters, 3, "")
    hashes, splits = _hashed(tokens.flat_values), tokens.row_splits
    last = tf.gather(tf.concat([[-1], hashes], axis=0), splits[1:])
    lengths = splits[1:] - splits[:-1]
    return _Cut(
        tf.cast(lengths, tf.float32),
        tf.where(lengths > 0, last, -1),
        _distinct(hashes, splits),
        _distinct(_hashed(trigrams.flat_values), trigrams.row_splits),
    )


def _hashed(parts: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(parts, _BUCKETS)


def _keys(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Numbers that are equal where value and row are; of them and rows it gives the values."""
    return tf.bitwise.bitwise_xor(values, rows * _STRIDE)


def _rows(splits: tf.Tensor) -> tf.Tensor:
    """The row of each value; in a tenth of the steps that TensorFlow's own function takes."""
    places = tf.range(splits[-1])
    return tf.raw_ops.UpperBound(
        sorted_inputs=splits[None, 1:], values=places[None, :], out_type=tf.int64
    )[0]


def _distinct(values: tf.Tensor, splits: tf.Tensor) -> _Sets:
    count = tf.size(splits, tf.int64) - 1
    rows = _rows(splits)
    keys, places = tf.unique(_keys(values, rows))
    # Of one key all rows are the same, and keys come in the order of rows.
    rows = tf.math.unsorted_segment_min(rows, places, tf.size(keys))
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, count)
    return _Sets(_keys(keys, rows), tf.concat([[0], tf.cumsum(sizes)], axis=0))


def _sizes(sets: _Sets, rows: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.gather(sets.splits[1:] - sets.splits[:-1], rows), tf.float32)


def _spread(sets: _Sets, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Keys of the values of chosen rows, and the number of the choice that each is of."""
    ranges = tf.raw_ops.RaggedRange(
        starts=tf.gather(sets.splits, chosen),
        limits=tf.gather(sets.splits, chosen + 1),
        deltas=tf.ones([], tf.int64),
    )
    rows = _rows(ranges.rt_nested_splits)
    return _keys(tf.gather(sets.values, ranges.rt_dense_values), rows), rows


def _shared(left: _Sets, left_of: tf.Tensor, right: _Sets, right_of: tf.Tensor) -> tf.Tensor:
    """How many values each pair of rows has in common, (pairs,) float32."""
    own, rows = _spread(left, left_of)
    other, _ = _spread(right, right_of)
    _, places, counts = tf.unique_with_counts(tf.concat([own, other], axis=0))
    in_both = tf.gather(counts, places[: tf.size(own)]) > 1
    return tf.math.unsorted_segment_sum(tf.cast(in_both, tf.float32), rows, tf.size(left_of))
