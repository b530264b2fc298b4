"""FineTuner's work: a Transform output and a train split in, an encoder's folder out."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow_transform as tft

from heft import features as f
from heft.examples import Feature, iterate_columns, shard_paths
from heft.text.clicked import count_shown
from heft.text.finetune import Finetuned, Step, fine_tune
from heft.text.settings import TextSettings
from heft.transform import QUERY_VOCABULARY, TITLE_VOCABULARY

__all__ = ["ENCODER_FOLDER", "encoder_folder", "fine_tune_encoder"]

ENCODER_FOLDER = "encoder"
_SECONDS_BETWEEN_LINES = 10.0

_log = logging.getLogger(__name__)


def encoder_folder(uri: str) -> str:
    """Where in an artifact the checkpoint is."""
    return str(Path(uri) / ENCODER_FOLDER)


def fine_tune_encoder(
    transform_uri: str, train_uri: str, text: TextSettings, output_uri: str, state: str | None
) -> Finetuned:
    """Fine-tunes `text.encoder` on the clicks of a train split, and saves it as a checkpoint.

    Memory: the distinct query–title pairs that were shown, and the vocabularies.

    Args:
        transform_uri: Transform's output folder, with the vocabularies of queries and titles.
        train_uri: folder of the train split, with weights if `text.finetune.weighted`.
        text: the parent, and `finetune`.
        output_uri: a local folder to write to.
        state: where a run that is started again finds how far it was.

    Raises:
        DataError: no click to learn from.
        EncoderError: the parent cannot be used.
    """
    settings = text.finetune
    assert settings is not None
    transform = tft.TFTransformOutput(transform_uri)
    features = [Feature(name, int, f.OOV) for name in (f.QUERY_ID, f.TITLE_ID)]
    features.append(Feature(f.CLICK, int))
    if settings.weighted:
        features += [Feature(w(f.CTR), float, 0.0) for w in (f.positive_weight, f.negative_weight)]
    pairs = count_shown(
        iterate_columns(shard_paths(train_uri), features),
        transform.vocabulary_by_name(QUERY_VOCABULARY),
        transform.vocabulary_by_name(TITLE_VOCABULARY),
        weighted=settings.weighted,
    )
    _log.info(
        "fine-tuning on %d clicked of %d shown pairs", (pairs.positive > 0).sum(), len(pairs.query)
    )
    folder = Path(encoder_folder(output_uri))
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(state) if state else None
    return fine_tune(pairs, text, settings, folder, place, _progress_lines())


def _progress_lines() -> Callable[[Step], None]:
    """A callback that logs now and then, and at the end."""
    last = time.monotonic()

    def write(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS_BETWEEN_LINES and step.done < step.total:
            return
        last = time.monotonic()
        _log.info(
            "step %d of %d, loss %.3f, %.0f pairs/s, %.0f s left",
            step.done, step.total, step.loss, step.pairs_per_second, step.seconds_left,
        )  # fmt: skip

    return write
