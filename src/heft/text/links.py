"""What BERT's attention says of query and title pairs: read for some, predicted for others."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from heft.errors import DataError

__all__ = ["PairLinks", "Prediction", "pair_keys", "pair_of"]

Array = np.ndarray

_FORMAT = 1
_MANIFEST = "links.json"
_LINKS = "links.parquet"
_TITLE_BITS = 32
_BINS = 16
_LEAST = 100  # pairs without which the cosine says nothing of the link


def pair_keys(queries: Array, titles: Array) -> Array:
    """(n,) int64, one number for each pair of ids from 0; −1 where an id is negative."""
    known = (queries >= 0) & (titles >= 0)
    return np.where(known, (queries.astype(np.int64) << _TITLE_BITS) | titles, -1)


def pair_of(keys: Array) -> tuple[Array, Array]:
    """The query ids and title ids of `pair_keys`."""
    return keys >> _TITLE_BITS, keys & ((1 << _TITLE_BITS) - 1)


@dataclass(frozen=True)
class Prediction:
    """The link of a pair that was not read, from the cosine of its texts.

    Attributes:
        cosines, links: (k,) knots, between which it is a straight line, and flat
            beyond them.
        mean: for a pair without a cosine: a text that is not in the vocabulary.
    """

    cosines: Array
    links: Array
    mean: float

    @classmethod
    def fit(cls, cosine: Array, link: Array, impressions: Array) -> "Prediction":
        """Means of up to 16 equal parts of the pairs, ordered by cosine.

        Args:
            cosine: (n,) of the texts that were read, n ≥ 1.
            link: (n,) in [0, 1].
            impressions: (n,) of each pair, by which the mean is weighted.
        """
        mean = float(np.average(link, weights=impressions))
        order = np.argsort(cosine, kind="stable")
        parts = np.array_split(order, _BINS if len(order) >= _LEAST else 1)
        knots = np.array([[cosine[p].mean(), link[p].mean()] for p in parts], np.float64)
        if len(order) < _LEAST:
            knots[:, 1] = mean
        _, first = np.unique(knots[:, 0], return_index=True)
        return cls(knots[first, 0], knots[first, 1], mean)

    def of(self, cosine: Array) -> Array:
        """(n,) float32 in [0, 1]; the mean where the cosine is NaN."""
        found = np.interp(np.nan_to_num(cosine), self.cosines, self.links)
        return np.where(np.isfinite(cosine), found, self.mean).astype(np.float32)


@dataclass(frozen=True)
class PairLinks:
    """`Attended.link` of the pairs that were read, and what stands for those of others.

    Attributes:
        keys: (m,) int64, ascending; see `pair_keys`.
        links: (m,) float32 in [0, 1].
        query_texts, title_texts: of each pair, so that a later run may take it over.
        prediction: for pairs that were not read.
        fingerprint: of the encoder's files.
        max_tokens: at which texts were cut.
        facts: `pairs` there are, `impressions` of all of them; `read`, `reused` and
            `impressions_read`.
    """

    keys: Array
    links: Array
    query_texts: list[bytes]
    title_texts: list[bytes]
    prediction: Prediction
    fingerprint: str
    max_tokens: int
    facts: Mapping[str, int]

    def of(self, queries: Array, titles: Array, cosine: Array) -> Array:
        """(n,) float32 in [0, 1], the link of each row; predicted where it was not read.

        Args:
            queries, titles: (n,) ids; negative where a text is not in the vocabulary.
            cosine: (n,) of the texts; not asked where an id is negative.
        """
        keys = pair_keys(queries, titles)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        read = self.keys[place] == keys
        predicted = self.prediction.of(np.where(keys < 0, np.nan, cosine))
        return np.where(read, self.links[place], predicted).astype(np.float32)

    def known(self, fingerprint: str, max_tokens: int) -> dict[tuple[bytes, bytes], float]:
        """Links by texts; none if another encoder read them, or more or fewer tokens of them."""
        if (self.fingerprint, self.max_tokens) != (fingerprint, max_tokens):
            return {}
        texts = zip(self.query_texts, self.title_texts, strict=True)
        return dict(zip(texts, self.links.tolist(), strict=True))

    def save(self, uri: str) -> None:
        """Writes into the folder `uri`; `links.json`, written last, makes it whole."""
        tf.io.gfile.makedirs(uri)
        columns = {
            "pair": pa.array(self.keys, pa.int64()),
            "link": pa.array(self.links, pa.float32()),
            "query": pa.array(self.query_texts, pa.binary()),
            "title": pa.array(self.title_texts, pa.binary()),
        }
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer)
        with tf.io.gfile.GFile(f"{uri}/{_LINKS}", "wb") as file:
            file.write(buffer.getvalue())
        manifest = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "max_tokens": self.max_tokens,
            "prediction": {
                "cosines": self.prediction.cosines.tolist(),
                "links": self.prediction.links.tolist(),
                "mean": self.prediction.mean,
            },
            **self.facts,
        }
        with tf.io.gfile.GFile(f"{uri}/{_MANIFEST}", "w") as file:
            file.write(json.dumps(manifest, indent=1))

    @classmethod
    def load(cls, uri: str) -> "PairLinks":
        """Reads what `save` wrote.

        Raises:
            DataError: there is nothing whole of this format at `uri`.
        """
        facts = _manifest(uri)
        with tf.io.gfile.GFile(f"{uri}/{_LINKS}", "rb") as file:
            table = pq.read_table(io.BytesIO(file.read()))
        fitted = facts.pop("prediction")
        return cls(
            keys=table.column("pair").to_numpy(),
            links=table.column("link").to_numpy(),
            query_texts=table.column("query").to_pylist(),
            title_texts=table.column("title").to_pylist(),
            prediction=Prediction(
                np.array(fitted["cosines"]), np.array(fitted["links"]), fitted["mean"]
            ),
            fingerprint=facts.pop("fingerprint"),
            max_tokens=facts.pop("max_tokens"),
            facts=facts,
        )


def _manifest(uri: str) -> dict[str, Any]:
    path = f"{uri}/{_MANIFEST}"
    if not tf.io.gfile.exists(path):
        raise DataError(f"{uri}: no {_MANIFEST}, so no whole set of links; run PairReader again")
    with tf.io.gfile.GFile(path) as file:
        facts: dict[str, Any] = json.loads(file.read())
    if (found := facts.pop("format", None)) != _FORMAT:
        raise DataError(f"{path}: format={found!r}, expected {_FORMAT}; run PairReader again")
    return facts
