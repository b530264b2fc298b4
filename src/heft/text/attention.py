"""What the encoder's attention says of a query and a title read together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from heft.errors import ConfigError, DataError, EncoderError
from heft.text.encoder import TextEncoder

__all__ = ["Attended", "PairAttention", "PairExplanation"]

Array = np.ndarray
Texts = Sequence[bytes | str]

_TOKENISED_AT_ONCE = 8192


class Attended(NamedTuple):
    """What passes between the texts of n pairs, each (n,) float32 in [0, 1].

    Attributes:
        link: how firmly the query's pieces find a counterpart in the title. For
            each of them the strongest link to a piece of the title, on average;
            a link is the attention of the head that attends most, mean over
            layers and both directions.
        flow: attention rollout: the share of the query's output tokens that comes
            from the title, and of the title's that comes from the query, averaged.
    """

    link: Array
    flow: Array


@dataclass(frozen=True)
class PairExplanation:
    """Which word pieces of one pair belong together.

    Attributes:
        query, title: word pieces.
        links: (query pieces, title pieces) float32 in [0, 1]; see `Attended`.
        link, flow: of the pair; see `Attended`.
        query_rollout, title_rollout: (pieces,) float32, each one's share of all output
            tokens, by rollout, on average; the rest of 1 is that of `[CLS]` and `[SEP]`.
    """

    query: list[str]
    title: list[str]
    links: Array
    link: float
    flow: float
    query_rollout: Array
    title_rollout: Array

    @property
    def query_importance(self) -> Array:
        """(query pieces,), each one's strongest link into the title; low: not answered."""
        return self.links.max(axis=1, initial=0)

    @property
    def title_importance(self) -> Array:
        """(title pieces,), each one's strongest link into the query; low: not asked for."""
        return self.links.max(axis=0, initial=0)


class PairAttention:
    """Attention of BERT over "[CLS] query [SEP] title [SEP]", segments 0 and 1.

    Rollout (Abnar & Zuidema 2020, *Quantifying Attention Flow in Transformers*):
    A = ½·mean_heads(attention) + ½·I, R = A_L ··· A_1; R_ij is the share of input
    token j in output token i, and rows of R sum to 1.

    Args:
        encoder: from `load_encoder`.
        batch_tokens: most tokens encoded at once, padding included.

    Cost: one pass of BERT for each distinct pair, about a hundred a second on one
    core. Memory: batch_tokens · heads · longest pair, a few times.

    Raises:
        ConfigError: batch_tokens < 1.
        EncoderError: the encoder's layers do not show their attention.
    """

    def __init__(self, encoder: TextEncoder, batch_tokens: int = 2048) -> None:
        if batch_tokens < 1:
            raise ConfigError(f"batch_tokens={batch_tokens}: expected at least 1")
        if not hasattr(encoder.backbone, "transformer_layers"):
            raise EncoderError(
                f"encoder={type(encoder.backbone).__name__} does not show the attention of its "
                "layers: expected KerasHub's BertBackbone, as load_encoder gives"
            )
        self.encoder, self.batch_tokens = encoder, batch_tokens
        self._positions = int(encoder.backbone.max_sequence_length)
        # Traced once for every shape.
        self._read = tf.function(
            self.attend,
            input_signature=[tf.TensorSpec([None, None], tf.int32)] * 3,
            autograph=False,
        )

    def attended(self, queries: Texts, titles: Texts) -> Attended:
        """Both measures of n pairs; 0 where a text is empty. Each distinct pair is read once.

        Args:
            queries, titles: n texts each, UTF-8 bytes or strings.

        Raises:
            DataError: of unequal number.
        """
        if len(queries) != len(titles):
            raise DataError(
                f"received {len(queries)} queries and {len(titles)} titles: expected a title for "
                "each query"
            )
        rows: dict[tuple[bytes, bytes], int] = {}
        texts = zip(map(_as_bytes, queries), map(_as_bytes, titles), strict=True)
        inverse = np.array([rows.setdefault(pair, len(rows)) for pair in texts], np.int64)
        link, flow = np.zeros((2, len(rows)), np.float32)
        pairs = self._tokenise(list(rows))
        for batch in self._batches(pairs):
            *_, link[batch], flow[batch] = self._measure([pairs[row] for row in batch])
        return Attended(link[inverse], flow[inverse])

    def explain(
        self, query: bytes | str, title: bytes | str, vocabulary: Sequence[str]
    ) -> PairExplanation:
        """One pair, piece by piece.

        Args:
            query, title: the texts.
            vocabulary: of the encoder's checkpoint, from `Checkpoint.vocabulary`.
        """
        (pair,) = self._tokenise([(_as_bytes(query), _as_bytes(title))])
        links, rollout, link, flow = self._measure([pair])
        of_query, of_title = (
            slice(1, len(pair[0]) - 1),
            slice(len(pair[0]), sum(map(len, pair)) - 1),
        )
        return PairExplanation(
            query=[vocabulary[i] for i in pair[0][1:-1]],
            title=[vocabulary[i] for i in pair[1][:-1]],
            links=links[0, of_query, of_title],
            link=float(link[0]),
            flow=float(flow[0]),
            query_rollout=rollout[0].mean(axis=0)[of_query],
            title_rollout=rollout[0].mean(axis=0)[of_title],
        )

    def attend(
        self, tokens: tf.Tensor, segments: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Links and rollout, both (n, length, length) float32, of padded ids (n, length) int32."""
        bert = self.encoder.backbone
        embedded = bert.token_embedding(tokens)
        parts = (embedded, bert.position_embedding(embedded), bert.segment_embedding(segments))
        states = bert.embeddings_layer_norm(bert.embeddings_add(parts))
        rollout = tf.eye(tf.shape(tokens)[1], batch_shape=[tf.shape(tokens)[0]])
        links = tf.zeros_like(rollout)
        for layer in bert.transformer_layers:
            states, attention = layer(
                states, padding_mask=mask, training=False, return_attention_scores=True
            )
            attention = tf.cast(attention, tf.float32)
            rollout = 0.5 * tf.matmul(tf.reduce_mean(attention, axis=1), rollout) + 0.5 * rollout
            strongest = tf.reduce_max(attention, axis=1)
            links += strongest + tf.linalg.matrix_transpose(strongest)
        return links / (2 * len(bert.transformer_layers)), rollout

    def _tokenise(self, pairs: list[tuple[bytes, bytes]]) -> list[tuple[Array, Array]]:
        """Ids of "[CLS] query [SEP]" and of "title [SEP]", which is cut to the positions left."""
        rows: dict[bytes, int] = {}
        places = [[rows.setdefault(text, len(rows)) for text in pair] for pair in pairs]
        distinct, ids = list(rows), []
        for start in range(0, len(distinct), _TOKENISED_AT_ONCE):
            part = tf.constant(distinct[start : start + _TOKENISED_AT_ONCE])
            ragged = self.encoder.tokenize_batch(part)
            ids += np.split(ragged.flat_values.numpy(), ragged.row_splits.numpy()[1:-1])
        return [(ids[q], self._second(ids[t], len(ids[q]))) for q, t in places]

    def _second(self, ids: Array, taken: int) -> Array:
        """The title without its [CLS]; the [SEP] at its end stays when it is cut."""
        return np.append(ids[1:-1][: max(self._positions - taken - 1, 0)], ids[-1])

    def _batches(self, pairs: list[tuple[Array, Array]]) -> Iterator[Array]:
        """Row numbers, longest pairs first, so that little is padding."""
        lengths = np.array([len(query) + len(title) for query, title in pairs], np.int64)
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            size = max(1, self.batch_tokens // int(lengths[order[start]]))
            yield order[start : start + size]
            start += size

    def _measure(self, pairs: list[tuple[Array, Array]]) -> tuple[Array, Array, Array, Array]:
        """Links and rollout, (n, length, length); link and flow of each pair, (n,)."""
        length = max(len(query) + len(title) for query, title in pairs)
        tokens, segments, mask = np.zeros((3, len(pairs), length), np.int32)
        of_query, of_title = np.zeros((2, len(pairs), length), bool)
        for row, (query, title) in enumerate(pairs):
            start, end = len(query), len(query) + len(title)
            tokens[row, :start], tokens[row, start:end] = query, title
            segments[row, start:end], mask[row, :end] = 1, 1
            of_query[row, 1 : start - 1], of_title[row, start : end - 1] = True, True
        links, rollout = (x.numpy() for x in self._read(tokens, segments, mask))
        strongest = np.where(of_title[:, None, :], links, 0).max(axis=2)
        link = _mean(strongest, of_query)
        to_query = _mean(np.where(of_title[:, None, :], rollout, 0).sum(axis=2), of_query)
        to_title = _mean(np.where(of_query[:, None, :], rollout, 0).sum(axis=2), of_title)
        return links, rollout, link, 0.5 * (to_query + to_title)


def _mean(values: Array, kept: Array) -> Array:
    """(n,) of (n, length), over what is kept; 0 where nothing is."""
    return np.where(kept, values, 0).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", errors="replace")
