"""The embedding table: what TextEmbedder writes and all later nodes read."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from heft.errors import DataError
from heft.text.reduction import Projection, Reduction
from heft.text.settings import TextSettings

__all__ = ["TextTable"]

_FORMAT = 1
_MANIFEST = "table.json"
_PROJECTIONS = ("title", "query", "product")


@dataclass(frozen=True)
class TextTable:
    """One vector for each distinct query and title, and how to reduce them.

    Row i belongs to id i of Transform's vocabulary.

    Attributes:
        queries: (Q, D) float32.
        titles: (T, D) float32.
        query_texts: the Q queries, UTF-8.
        title_texts: the T titles, UTF-8.
        reduction: PCA of titles, queries and products.
        fingerprint: of the encoder's files.
        settings: that the table was built with.
        embedded: distinct texts that went through the encoder.
        reused: distinct texts taken over from the previous table.
    """

    queries: np.ndarray
    titles: np.ndarray
    query_texts: list[bytes]
    title_texts: list[bytes]
    reduction: Reduction
    fingerprint: str
    settings: TextSettings
    embedded: int
    reused: int

    def save(self, uri: str) -> None:
        """Writes the table into the folder `uri`; `table.json`, written last, makes it whole."""
        tf.io.gfile.makedirs(uri)
        manifest = f"{uri}/{_MANIFEST}"
        if tf.io.gfile.exists(manifest):
            tf.io.gfile.remove(manifest)
        _write_array(self.queries, f"{uri}/queries.npy")
        _write_array(self.titles, f"{uri}/titles.npy")
        _write_texts(self.query_texts, f"{uri}/queries.parquet")
        _write_texts(self.title_texts, f"{uri}/titles.parquet")
        for name in _PROJECTIONS:
            projection: Projection = getattr(self.reduction, name)
            _write_array(projection.mean, f"{uri}/{name}_mean.npy")
            _write_array(projection.components, f"{uri}/{name}_components.npy")
        with tf.io.gfile.GFile(manifest, "w") as file:
            file.write(json.dumps(self._facts(), indent=2))

    @classmethod
    def load(cls, uri: str) -> "TextTable":
        """Reads a table; on a local disk the vectors are mapped, not read.

        Raises:
            DataError: there is no whole table of this format at `uri`.
        """
        facts = _read_manifest(uri)
        return cls(
            queries=_read_array(f"{uri}/queries.npy"),
            titles=_read_array(f"{uri}/titles.npy"),
            query_texts=_read_texts(f"{uri}/queries.parquet"),
            title_texts=_read_texts(f"{uri}/titles.parquet"),
            reduction=Reduction(**{n: _read_projection(uri, n, facts) for n in _PROJECTIONS}),
            fingerprint=facts["fingerprint"],
            settings=TextSettings.model_validate(facts["settings"]),
            embedded=facts["embedded"],
            reused=facts["reused"],
        )

    def _facts(self) -> dict[str, Any]:
        wanted = {name: getattr(self.settings, f"{name}_dimensions") for name in _PROJECTIONS}
        return {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "settings": self.settings.model_dump(mode="json"),
            "queries": len(self.queries),
            "titles": len(self.titles),
            "dim": self.titles.shape[1],
            "embedded": self.embedded,
            "reused": self.reused,
            "reduction": {
                name: {
                    "wanted": wanted[name],
                    "kept": len(projection.components),
                    "explained": projection.explained.tolist(),
                }
                for name, projection in ((n, getattr(self.reduction, n)) for n in _PROJECTIONS)
            },
        }


def _read_manifest(uri: str) -> dict[str, Any]:
    path = f"{uri}/{_MANIFEST}"
    if not tf.io.gfile.exists(path):
        raise DataError(
            f"{uri}: no {_MANIFEST}, so no whole embedding table; run TextEmbedder again"
        )
    with tf.io.gfile.GFile(path) as file:
        facts: dict[str, Any] = json.loads(file.read())
    if facts.get("format") != _FORMAT:
        raise DataError(
            f"{path}: format={facts.get('format')!r}, expected {_FORMAT}; run TextEmbedder again"
        )
    return facts


def _read_projection(uri: str, name: str, facts: dict[str, Any]) -> Projection:
    return Projection(
        mean=_read_array(f"{uri}/{name}_mean.npy"),
        components=_read_array(f"{uri}/{name}_components.npy"),
        explained=np.array(facts["reduction"][name]["explained"], np.float64),
    )


def _write_array(array: np.ndarray, path: str) -> None:
    with tf.io.gfile.GFile(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _read_array(path: str) -> np.ndarray:
    if Path(path).is_file():
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    with tf.io.gfile.GFile(path, "rb") as file:
        array: np.ndarray = np.load(io.BytesIO(file.read()), allow_pickle=False)
        return array


def _write_texts(texts: list[bytes], path: str) -> None:
    # Parquet, as texts may hold line ends and bytes that are no UTF-8.
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_binary())}), buffer)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(buffer.getvalue())


def _read_texts(path: str) -> list[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file:
        table = pq.read_table(io.BytesIO(file.read()))
    texts: list[bytes] = table.column("text").to_pylist()
    return texts
