"""One step of contrastive learning: which pairs it sees, and its loss."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from heft.text.clicked import ShownPairs
from heft.text.finetune_settings import FinetuneSettings

__all__ = ["Batch", "Batches", "contrastive_loss"]

Array = np.ndarray

_TITLE_BITS = 32


@dataclass(frozen=True)
class Batch:
    """b clicked pairs, and p titles of each query's pages that nobody clicked.

    Attributes:
        query, title: (b,) ids.
        page: (b, p) ids, 0 where `page_there` is false.
        page_there: (b, p) bool.
        log_share: (b,) logarithm of each title's share of the draws.
        negative: (b, b) bool, whether title j is a negative of query i: neither clicked for
            it, nor seen earlier in the row.
    """

    query: Array
    title: Array
    page: Array
    page_there: Array
    log_share: Array
    negative: Array


class Batches:
    """Batches of clicked pairs, drawn in proportion to their clicks or weights.

    What a step sees follows from the seed and its number alone.

    Args:
        pairs: shown pairs, some of them clicked.
        settings: `batch_size`, `page_negatives` and `seed`.

    Cost of a batch: O(b² log m).
    """

    def __init__(self, pairs: ShownPairs, settings: FinetuneSettings) -> None:
        self._settings = settings
        clicked = pairs.positive > 0
        self._query, self._title = pairs.query[clicked], pairs.title[clicked]
        mass = pairs.positive[clicked]
        self._upto = np.cumsum(mass)
        shares = np.bincount(self._title, mass, len(pairs.title_texts)) / mass.sum()
        self._log_share = np.log(np.maximum(shares, 1e-12)).astype(np.float32)
        self._clicked = np.sort((self._query << _TITLE_BITS) | self._title)
        # Of each query, the pages' titles without a click, and how often they were shown.
        left = pairs.of(~clicked)
        self._page_title, self._page_upto = left.title, np.cumsum(left.negative)
        queries = np.arange(len(pairs.query_texts) + 1)
        self._page_start = np.searchsorted(left.query, queries)

    def batch(self, step: int) -> Batch:
        """The batch of a step, from 0."""
        size, pages = self._settings.batch_size, self._settings.page_negatives
        rng = np.random.default_rng([abs(self._settings.seed), step])
        drawn = np.searchsorted(self._upto, rng.random(size) * self._upto[-1], side="right")
        drawn = np.minimum(drawn, len(self._upto) - 1)
        query, title = self._query[drawn], self._title[drawn]
        page, there = self._pages(query, rng.random((size, pages)))
        keys = (query[:, None] << _TITLE_BITS) | title[None, :]
        place = np.minimum(np.searchsorted(self._clicked, keys), len(self._clicked) - 1)
        repeated = np.ones(size, bool)
        repeated[np.unique(title, return_index=True)[1]] = False
        negative = (self._clicked[place] != keys) & ~repeated[None, :]
        return Batch(query, title, page, there, self._log_share[title], negative)

    def _pages(self, query: Array, chance: Array) -> tuple[Array, Array]:
        start, end = self._page_start[query], self._page_start[query + 1]
        upto = np.concatenate([[0.0], self._page_upto])
        low, high = upto[start][:, None], upto[end][:, None]
        at = np.searchsorted(self._page_upto, low + chance * (high - low), side="right")
        there = np.broadcast_to((high > low), chance.shape)
        last = np.maximum(end - 1, 0)[:, None]
        titles = self._page_title if len(self._page_title) else np.zeros(1, np.int64)
        return np.where(there, titles[np.minimum(at, last)], 0), there


def contrastive_loss(
    query: tf.Tensor,
    title: tf.Tensor,
    page: tf.Tensor,
    log_share: tf.Tensor,
    negative: tf.Tensor,
    page_there: tf.Tensor,
    temperature: float,
) -> tf.Tensor:
    """The mean of −log softmax of each clicked title, in nats.

    Once among the titles of the batch, sᵢⱼ = cos(qᵢ, tⱼ)/τ − log pⱼ, where pⱼ is the title's
    share of the draws, so that popular titles are not negatives for being popular (Yi et al.
    2019, *Sampling-Bias-Corrected Neural Modeling*); and once among the titles of the query's
    own pages, without a correction.

    Args:
        query, title: (b, d) unit vectors; row i of both was clicked.
        page: (b, p, d) unit vectors.
        log_share: (b,); zeros leave popularity uncorrected.
        negative: (b, b) bool.
        page_there: (b, p) bool.
        temperature: τ.
    """
    own = tf.reduce_sum(query * title, axis=1) / temperature
    batch = tf.matmul(query, title, transpose_b=True) / temperature - log_share[None, :]
    loss = _cross_entropy(own - log_share, batch, negative)
    pages = tf.einsum("bd,bpd->bp", query, page) / temperature
    return tf.reduce_mean(loss + _cross_entropy(own, pages, page_there))


def _cross_entropy(own: tf.Tensor, others: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    """(b,) −log softmax of `own` (b,) among itself and the others that are there."""
    masked = tf.where(there, others, tf.constant(-1e9, others.dtype))
    every = tf.concat([own[:, None], masked], axis=1)
    return tf.reduce_logsumexp(every, axis=1) - own
