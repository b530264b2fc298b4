"""Logged columns become model inputs: the tensorflow-transform graph.

The same graph runs over the training data and inside the served model.
"""

from collections.abc import Mapping
from types import MappingProxyType

import tensorflow as tf
import tensorflow_transform as tft
from pydantic import Field

from heft import features as f
from heft.errors import DataError
from heft.examples import Feature
from heft.lexical import lexical_features
from heft.settings import Settings

__all__ = [
    "QUERY_VOCABULARY", "TITLE_VOCABULARY", "TransformSettings", "dense_rows",
    "preprocess", "transformed_features",
]  # fmt: skip

QUERY_VOCABULARY = "query_text"
TITLE_VOCABULARY = "title_text"

Tensors = dict[str, tf.Tensor]
Raw = dict[str, tf.Tensor | tf.SparseTensor]


class TransformSettings(Settings):
    """Which columns the model sees beside the two texts.

    Attributes:
        categorical: string columns of the catalogue or the impression.
        numeric: float columns; a missing or non-positive value counts as the mean.
        vocabulary_size: most frequent values kept per categorical column.
        minimum_count: a categorical value seen less often is out of vocabulary.
        vectors: dense-vector columns; a missing one counts as the mean, and as missing.
    """

    categorical: tuple[str, ...] = (f.CATEGORY, f.BRAND)
    numeric: tuple[str, ...] = (f.PRICE,)
    vocabulary_size: int = Field(10_000, ge=1)
    minimum_count: int = Field(5, ge=1)
    vectors: tuple[str, ...] = ()


def preprocess(
    inputs: Raw,
    settings: TransformSettings,
    widths: Mapping[str, int] = MappingProxyType({}),
) -> Tensors:
    """The preprocessing_fn: model inputs, labels and the keys that later nodes need.

    Args:
        inputs: logged columns; sparse or dense, each one value per row.
        settings: the columns the model sees.
        widths: how many values a row has of each column that is a list.

    Returns:
        Tensors of shape (batch,): text ids (`heft.features.OOV` if new),
        categorical ids, z-scores, lexical features, labels, keys; of a vector column
        (batch, width) z-scores, and whether there was one; of the history (batch, width)
        ids of titles, `OOV` for new ones and for padding.

    Raises:
        DataError: no row has a vector that the model is to see, or a history.
    """
    for name in settings.vectors:
        if name not in inputs or inputs[name].dtype != tf.float32:
            raise DataError(
                f"no row has a vector {name!r}: map the column, or take it out of transform.vectors"
            )
    query, title = (_text(_dense(inputs[name], "")) for name in (f.QUERY, f.TITLE))
    outputs = {
        f.QUERY_ID: _text_id(query, QUERY_VOCABULARY),
        **_title_ids(title, inputs, widths.get(f.HISTORY, 0)),
        **lexical_features(query, title),
    }
    for name in settings.categorical:
        outputs[f.categorical_id(name)] = tft.compute_and_apply_vocabulary(
            _dense(inputs[name], ""),
            top_k=settings.vocabulary_size,
            frequency_threshold=settings.minimum_count,
            num_oov_buckets=1,
            vocab_filename=name,
        )
    for name in settings.numeric:
        outputs[f.numeric_value(name)] = _log_z_score(_number(inputs, name))
    for name in settings.vectors:
        outputs |= _vector(inputs, name, widths[name])
    for column in (f.POSITION, f.CLICK, f.CONVERSION, f.RANDOMISED):
        outputs[column] = _dense(inputs[column], 0)
    outputs[f.TIMESTAMP] = _dense(inputs[f.TIMESTAMP], 0)
    for column in (f.OBSERVATION, f.CLICK_DELAY, f.CONVERSION_DELAY):
        outputs[column] = _dense(inputs[column], -1.0)
    # A schema inferred from a log without propensities gives them no number's type.
    if f.PROPENSITY in inputs and inputs[f.PROPENSITY].dtype == tf.float32:
        outputs[f.PROPENSITY] = _dense(inputs[f.PROPENSITY], 0.0)
    if f.SAMPLING in inputs and inputs[f.SAMPLING].dtype == tf.float32:
        outputs[f.SAMPLING] = _dense(inputs[f.SAMPLING], 1.0)
    request = _dense(inputs[f.REQUEST_ID], "")
    user = _dense(inputs[f.USER_ID], "")
    # All that is known of a visitor without a name is the request.
    user = tf.where(user == "", request, user)
    outputs[f.REQUEST_KEY] = tf.strings.to_hash_bucket_fast(request, 2**62)
    outputs[f.USER_KEY] = tf.strings.to_hash_bucket_fast(user, 2**62)
    outputs[f.IMPRESSION_ID] = _dense(inputs[f.IMPRESSION_ID], "")
    return outputs


def _dense(values: tf.Tensor | tf.SparseTensor, default: str | int | float) -> tf.Tensor:
    """One value per row, as a tensor of shape (batch,)."""
    if isinstance(values, tf.SparseTensor):
        rows = values.dense_shape[0]
        one_column = tf.SparseTensor(values.indices, values.values, [rows, 1])
        values = tf.sparse.to_dense(one_column, tf.cast(default, values.dtype))
    return tf.reshape(values, [-1])


def _number(inputs: Raw, name: str) -> tf.Tensor:
    """A numeric column, (batch,) float32; zeros, which are no value, if no row has one: then an
    inferred schema lacks the column."""
    if name in inputs and inputs[name].dtype == tf.float32:
        return _dense(inputs[name], 0.0)
    return tf.zeros_like(_dense(inputs[f.POSITION], 0), tf.float32)


def _text(text: tf.Tensor) -> tf.Tensor:
    """What is looked up in a vocabulary, which holds no text with line breaks and not the empty
    one. The encoder gives both forms the same vector."""
    line = tf.strings.regex_replace(text, r"[\r\n]+", " ")
    return tf.where(line == "", " ", line)


def _text_id(text: tf.Tensor, vocabulary: str) -> tf.Tensor:
    return tft.compute_and_apply_vocabulary(
        text, default_value=f.OOV, num_oov_buckets=0, vocab_filename=vocabulary
    )


def _title_ids(title: tf.Tensor, inputs: Raw, width: int) -> Tensors:
    """Ids of titles, and of the titles in `width` last clicks, by one vocabulary."""
    if not width:
        return {f.TITLE_ID: _text_id(title, TITLE_VOCABULARY)}
    if f.HISTORY not in inputs or inputs[f.HISTORY].dtype != tf.string:
        raise DataError(
            f"no row has a history={width}: name the users of the impressions, or set "
            "logs.history: 0"
        )
    history = dense_rows(inputs[f.HISTORY], width)
    # An empty one is padding, and stays one.
    history = tf.where(history == "", history, _text(history))
    vocabulary = tft.vocabulary(title, vocab_filename=TITLE_VOCABULARY)
    return {
        name: tft.apply_vocabulary(texts, vocabulary, default_value=f.OOV, num_oov_buckets=0)
        for name, texts in ((f.TITLE_ID, title), (f.HISTORY_IDS, history))
    }


def dense_rows(values: tf.Tensor | tf.SparseTensor, width: int) -> tf.Tensor:
    """The first `width` values of each row, (batch, width); zeros or "" where there are fewer."""
    if isinstance(values, tf.SparseTensor):
        rows = values.dense_shape[0]
        cut = tf.sparse.slice(values, [0, 0], tf.stack([rows, width]))
        shape = tf.stack([rows, tf.cast(width, tf.int64)])
        values = tf.sparse.to_dense(tf.SparseTensor(cut.indices, cut.values, shape))
    return tf.reshape(values, [-1, width])


def _log_z_score(values: tf.Tensor) -> tf.Tensor:
    """z-score of the logarithm; 0, which is the mean, where there is no value."""
    known = tf.math.is_finite(values) & (values > 0)
    logs = tf.math.log(tf.where(known, values, tf.ones_like(values)))
    # The mean and variance are taken over known values alone: NaN is left out by TFT.
    nan = tf.fill(tf.shape(values), float("nan"))
    scaled = tft.scale_to_z_score(tf.where(known, logs, nan))
    return tf.where(tf.math.is_finite(scaled), scaled, tf.zeros_like(scaled))


def _vector(inputs: Raw, name: str, width: int) -> Tensors:
    """z-scores of each dimension, 0 where there is no vector, and a 1 where there is one.

    A vector of zeros alone, or with a number that is not finite, is none: a client that has
    to send something sends that.
    """
    values = dense_rows(inputs[name], width)
    finite = tf.reduce_all(tf.math.is_finite(values), axis=1)
    known = finite & tf.reduce_any(values != 0, axis=1)
    # As in `_log_z_score`, what is missing is left out of mean and variance.
    nan = tf.fill(tf.shape(values), float("nan"))
    scaled = tft.scale_to_z_score(tf.where(known[:, None], values, nan), elementwise=True)
    return {
        f.vector_value(name): tf.where(known[:, None], scaled, tf.zeros_like(scaled)),
        f.vector_present(name): tf.cast(known, tf.float32),
    }


def transformed_features(output: tft.TFTransformOutput) -> list[Feature]:
    """All columns that Transform wrote, as features to read back."""
    kinds = {tf.string: bytes, tf.int64: int, tf.float32: float}
    spec = output.transformed_feature_spec()
    return [
        Feature(name, kinds[entry.dtype], width=entry.shape[0] if entry.shape else 0)
        for name, entry in sorted(spec.items())
    ]
