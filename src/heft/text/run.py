"""TextEmbedder's work: a Transform output and a train split in, a saved table out."""

import logging
import time
from collections.abc import Callable

import apache_beam as beam
import numpy as np
import tensorflow_transform as tft

from heft import features
from heft.errors import DataError
from heft.examples import Feature, iterate_columns, shard_paths
from heft.text.beam import embed_on_beam
from heft.text.build import build_table
from heft.text.embed import Progress
from heft.text.pairs import count_pairs
from heft.text.settings import TextSettings
from heft.text.table import TextTable
from heft.transform import QUERY_VOCABULARY, TITLE_VOCABULARY

__all__ = ["embed_vocabularies"]

_IDS = (
    Feature(features.QUERY_ID, int, features.OOV),
    Feature(features.TITLE_ID, int, features.OOV),
)
_SECONDS_BETWEEN_LINES = 10.0

_log = logging.getLogger(__name__)


def embed_vocabularies(
    transform_uri: str,
    train_uri: str,
    settings: TextSettings,
    table_uri: str,
    make_pipeline: Callable[[], beam.Pipeline],
    previous_uri: str | None = None,
) -> TextTable:
    """Builds the embedding table of a Transform output and saves it.

    Args:
        transform_uri: Transform's output folder, with the vocabularies
            `query_text` and `title_text`.
        train_uri: folder of the transformed train split.
        settings: encoder and dimensions.
        table_uri: folder to write to.
        make_pipeline: an empty Beam pipeline; the encoder runs on its workers.
        previous_uri: an earlier table; what it holds is not embedded again. A table that
            cannot be read counts as none.

    Raises:
        DataError: a vocabulary or the train split is empty.
        EncoderError: the encoder cannot be used.
    """
    transform = tft.TFTransformOutput(transform_uri)
    pairs, counts = count_pairs(iterate_columns(shard_paths(train_uri), _IDS))

    def embed_new(texts: list[bytes]) -> np.ndarray:
        return embed_on_beam(
            texts, settings, make_pipeline, f"{table_uri}/unfinished", _progress_lines()
        )

    table = build_table(
        transform.vocabulary_by_name(QUERY_VOCABULARY),
        transform.vocabulary_by_name(TITLE_VOCABULARY),
        pairs,
        counts,
        settings,
        previous=_previous(previous_uri),
        embed_new=embed_new,
    )
    table.save(table_uri)
    _log.info("%d texts embedded, %d taken over", table.embedded, table.reused)
    return table


def _previous(uri: str | None) -> TextTable | None:
    """The earlier table; None if there is none, or no longer: it would only have saved time."""
    if uri is None:
        return None
    try:
        return TextTable.load(uri)
    except DataError as error:
        _log.warning("every text is embedded anew: %s", error)
        return None


def _progress_lines() -> Callable[[Progress], None]:
    """A callback that logs now and then."""
    last = time.monotonic()

    def write(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS_BETWEEN_LINES:
            return
        last = time.monotonic()
        _log.info(
            "%d of %d texts embedded, %.0f texts/s, %.0f s left",
            progress.done,
            progress.total,
            progress.texts_per_second,
            progress.seconds_left,
        )

    return write
