"""Principal components of text vectors, weighted by how often shoppers met them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heft.text.settings import TextSettings

__all__ = ["Projection", "Reduction", "reduce_vectors", "sample_pairs", "weighted_pca"]

_BLOCK = 16_384
# Below this share of the mean squared length a direction is rounding, not variance.
_RANK_TOLERANCE = 1e-10
# A direction with less than this share of the first one's variance is not blown up further.
_WHITENING_FLOOR = 1e-6


@dataclass(frozen=True)
class Projection:
    """An affine map to fewer dimensions.

    Attributes:
        mean: (D,) float32, weighted by traffic.
        components: (k, D) float32, scaled already if whitened.
        explained: (k,) float64, each component's share of the variance, falling.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Maps (n, D) vectors to (n, k) float32."""
        reduced: np.ndarray = (vectors - self.mean) @ self.components.T
        return reduced.astype(np.float32)


@dataclass(frozen=True)
class Reduction:
    """The projections of titles, of queries, and of the product query ∘ title."""

    title: Projection
    query: Projection
    product: Projection


def weighted_pca(
    rows: Callable[[slice], np.ndarray],
    weights: np.ndarray,
    dimensions: int | float,
    *,
    whiten: bool,
) -> Projection:
    """Principal component analysis in which row i counts `weights[i]` times.

    The eigenvectors of the weighted covariance, computed block by block in
    float64 (Jolliffe, Principal Component Analysis, 2002, §14.2.1). Signs are
    set so that the entry of largest magnitude is positive.

    Args:
        rows: gives a slice of the n rows, (block, D).
        weights: (n,) non-negative, not all 0.
        dimensions: components wanted, fewer come back if the rows span fewer; or, as a
            float below 1, the share of the variance that the fewest of them are to explain.
        whiten: scale the components so that each output has unit weighted variance.
    """
    shares = weights / weights.sum(dtype=np.float64)
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(shares), _BLOCK)]
    mean = sum(shares[b] @ rows(b).astype(np.float64) for b in blocks)
    covariance = np.zeros((len(mean), len(mean)))
    for block in blocks:
        centred = rows(block).astype(np.float64) - mean
        covariance += (centred * shares[block, np.newaxis]).T @ centred
    values, vectors = np.linalg.eigh(covariance)
    total = float(np.trace(covariance))
    mean_square = total + float(mean @ mean)
    kept = np.flatnonzero(values > _RANK_TOLERANCE * mean_square)[::-1]
    kept = kept[: _count(values[kept], total, dimensions)]
    values, components = values[kept], vectors[:, kept].T
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(len(kept)), largest])[:, np.newaxis]
    if whiten and len(kept):
        floored = np.maximum(values, _WHITENING_FLOOR * values[0])
        components = components / np.sqrt(floored)[:, np.newaxis]
    return Projection(
        mean=mean.astype(np.float32),
        components=components.astype(np.float32),
        explained=values / total if len(kept) else values,
    )


def _count(values: np.ndarray, total: float, dimensions: int | float) -> int:
    """How many of the falling eigenvalues are kept."""
    if isinstance(dimensions, int):
        return dimensions
    # A share that is reached but for rounding is reached.
    return int((np.cumsum(values) < (dimensions - 1e-12) * total).sum()) + 1


def sample_pairs(pairs: np.ndarray, counts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `size` pairs that stand for all, and how often each counts.

    Systematic sampling: evenly spaced along the cumulated counts, so each
    pair is drawn in proportion to its traffic, without a random number.

    Args:
        pairs: (m, 2) ids.
        counts: (m,) positive.
        size: draws; with m ≤ `size` all pairs come back with their counts.
    """
    if len(pairs) <= size:
        return pairs, counts
    cumulated = np.cumsum(counts, dtype=np.float64)
    at = (np.arange(size) + 0.5) * (cumulated[-1] / size)
    drawn, times = np.unique(np.searchsorted(cumulated, at, side="right"), return_counts=True)
    return pairs[drawn], times


def reduce_vectors(
    queries: np.ndarray,
    titles: np.ndarray,
    pairs: np.ndarray,
    counts: np.ndarray,
    settings: TextSettings,
) -> Reduction:
    """Fits the three projections on the traffic `pairs` and `counts` describe.

    Args:
        queries, titles: (Q, D) and (T, D) vectors.
        pairs: (m, 2) query and title row numbers, m ≥ 1.
        counts: (m,) impressions of each pair, positive.
        settings: dimensions, `pairs_sample`, `whiten`.
    """

    def fit(vectors: np.ndarray, column: int, dimensions: int | float) -> Projection:
        traffic = np.bincount(pairs[:, column], counts, minlength=len(vectors))
        return weighted_pca(lambda s: vectors[s], traffic, dimensions, whiten=settings.whiten)

    sampled, times = sample_pairs(pairs, counts, settings.pairs_sample)

    def products(block: slice) -> np.ndarray:
        ids = sampled[block]
        product: np.ndarray = queries[ids[:, 0]] * titles[ids[:, 1]]
        return product

    return Reduction(
        title=fit(titles, 1, settings.title_dimensions),
        query=fit(queries, 0, settings.query_dimensions),
        product=weighted_pca(products, times, settings.product_dimensions, whiten=settings.whiten),
    )
