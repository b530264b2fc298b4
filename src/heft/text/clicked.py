"""Which titles a query's pages showed, and how much was clicked: what fine-tuning learns from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from heft import features as f
from heft.errors import DataError

__all__ = ["ShownPairs", "count_shown"]

Array = np.ndarray

_TITLE_BITS = 32
_MERGED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ShownPairs:
    """Distinct query–title pairs that were shown, ascending by query and title.

    Attributes:
        query_texts, title_texts: UTF-8, by id.
        query, title: (m,) ids.
        positive: (m,) clicks, or positive weights.
        negative: (m,) impressions without a click, or negative weights, at least 0.
    """

    query_texts: list[bytes]
    title_texts: list[bytes]
    query: Array
    title: Array
    positive: Array
    negative: Array

    def of(self, chosen: Array) -> "ShownPairs":
        """The pairs where `chosen` (m,) is true."""
        return ShownPairs(
            self.query_texts, self.title_texts,
            *(x[chosen] for x in (self.query, self.title, self.positive, self.negative)),
        )  # fmt: skip

    def split(self, share: float, seed: int) -> tuple["ShownPairs", "ShownPairs"]:
        """Those to learn from and those held out, by a hash of the query's text.

        Raises:
            DataError: one of the two would be without a clicked pair.
        """
        buckets = np.array([_hash(text, seed) for text in self.query_texts])
        held = buckets[self.query] < share
        parts = self.of(~held), self.of(held)
        for part, name in zip(parts, ("to learn from", "held out"), strict=True):
            if not (part.positive > 0).any():
                raise DataError(
                    f"{len(np.unique(part.query))} queries {name} and no click on their pages: "
                    f"expected clicked pairs on both sides of holdout={share}; fine-tuning needs "
                    "more clicked queries"
                )
        return parts


def count_shown(
    batches: Iterable[Mapping[str, Array]],
    query_texts: list[bytes],
    title_texts: list[bytes],
    *,
    weighted: bool,
) -> ShownPairs:
    """Sums clicks, or weights, by pair, in memory of the distinct pairs only.

    Args:
        batches: columns of text ids and clicks, and with `weighted` the pairs of CTR weights;
            rows where an id is not in the vocabulary are left out.
        query_texts, title_texts: the vocabularies.
        weighted: count by weights.
    """
    keys, sums = np.empty(0, np.int64), np.empty((0, 2))
    waiting: list[tuple[Array, Array]] = []
    for batch in batches:
        query, title = batch[f.QUERY_ID], batch[f.TITLE_ID]
        known = (query >= 0) & (title >= 0)
        if weighted:
            mass = [batch[f.positive_weight(f.CTR)], batch[f.negative_weight(f.CTR)]]
        else:
            mass = [batch[f.CLICK], 1 - batch[f.CLICK]]
        own = np.stack(mass, axis=1).astype(np.float64)[known]
        waiting.append(((query[known] << _TITLE_BITS) | title[known], own))
        if sum(len(k) for k, _ in waiting) >= _MERGED_AT_ONCE:
            keys, sums = _merge(keys, sums, waiting)
            waiting = []
    keys, sums = _merge(keys, sums, waiting)
    return ShownPairs(
        query_texts, title_texts, keys >> _TITLE_BITS, keys & ((1 << _TITLE_BITS) - 1),
        # A correction makes single rows negative; their sum is not for want of rows alone.
        np.maximum(sums[:, 0], 0), np.maximum(sums[:, 1], 0),
    )  # fmt: skip


def _merge(keys: Array, sums: Array, waiting: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    every = np.concatenate([keys, *(k for k, _ in waiting)])
    mass = np.concatenate([sums, *(m for _, m in waiting)])
    merged, inverse = np.unique(every, return_inverse=True)
    columns = [np.bincount(inverse, mass[:, k], len(merged)) for k in (0, 1)]
    return merged, np.stack(columns, axis=1)


def _hash(text: bytes, seed: int) -> float:
    """In [0, 1): the same for a text whatever else there is."""
    from hashlib import blake2b

    digest = blake2b(text, digest_size=8, salt=seed.to_bytes(8, "little", signed=True)).digest()
    return int.from_bytes(digest, "little") / 2**64
