"""The embedding of many texts on Beam: RunInference with the encoder as its model."""

import io
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, RunInference

from heft.text.checkpoint import find_checkpoint
from heft.text.embed import Progress, Reporter, Tokens, encode_tokens, tokenise
from heft.text.encoder import load_encoder
from heft.text.precision import BatchEncoder, batch_encoder
from heft.text.settings import TextSettings
from heft.text.tokenizer import GraphTokenizer

__all__ = ["EncoderHandler", "embed_on_beam"]

# Texts of a shard: what a worker is given at once, some seconds of work on two cores.
_SHARD = 2048
_SECONDS_BETWEEN_LOOKS = 2.0


class EncoderHandler(ModelHandler[str, int, BatchEncoder]):
    """Encodes shards of token ids, `NAME.npz`, into vectors beside them, `NAME.npy`.

    Beam loads one encoder in each worker process and shares it among the threads there.
    """

    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        self._settings = settings

    def load_model(self) -> BatchEncoder:
        """The encoder of the settings; on all GPUs or TPUs of the worker if it has any."""
        return batch_encoder(load_encoder(self._settings), self._settings.precision)

    def batch_elements_kwargs(self) -> dict[str, int]:
        """A shard is a batch of batches already."""
        return {"min_batch_size": 1, "max_batch_size": 1}

    def run_inference(
        self,
        batch: Sequence[str],
        model: BatchEncoder,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[int]:
        """Writes the vectors of each shard and gives the number of its texts.

        Args:
            batch: paths of shards, without the ending.
            model: from `load_model`.
            inference_args: not used.
        """
        settings = self._settings
        for path in batch:
            with np.load(io.BytesIO(_read(f"{path}.npz"))) as columns:
                tokens = Tokens(columns["ids"], columns["lengths"])
            vectors = encode_tokens(tokens, model, settings.batch_size, settings.batch_tokens)
            buffer = io.BytesIO()
            np.save(buffer, vectors)
            _write(f"{path}.npy", buffer)
            yield len(vectors)


def embed_on_beam(
    texts: Sequence[bytes],
    settings: TextSettings,
    make_pipeline: Callable[[], beam.Pipeline],
    scratch: str,
    progress: Callable[[Progress], None] | None = None,
) -> np.ndarray:
    """The vectors of distinct texts, n ≥ 1, in their order, (n, dim) float32.

    Args:
        texts: UTF-8.
        settings: encoder, precision and batches. The encoder must be reachable from the workers.
        make_pipeline: an empty pipeline on the runner to use.
        scratch: an empty folder that this process and the workers share; it is removed.
        progress: called now and then with what is done, on whichever runner.

    Raises:
        EncoderError: the checkpoint cannot be used.
    """
    checkpoint = find_checkpoint(settings.encoder)
    tokenizer = tf.function(
        GraphTokenizer(checkpoint, settings.max_tokens),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    tokens = tokenise(texts, tokenizer)
    tf.io.gfile.makedirs(scratch)
    # Longest texts first, so that a shard holds texts of about one length.
    order = np.argsort(-tokens.lengths, kind="stable")
    shards = {
        f"{scratch}/shard-{start // _SHARD:06d}": order[start : start + _SHARD]
        for start in range(0, len(order), _SHARD)
    }
    for path, rows in shards.items():
        part = tokens.of(rows)
        buffer = io.BytesIO()
        np.savez(buffer, ids=part.ids, lengths=part.lengths)
        _write(f"{path}.npz", buffer)
    with _watched(shards, tokens, Reporter(tokens, progress)), make_pipeline() as pipeline:
        names = pipeline | "Shards" >> beam.Create(list(shards)) | beam.Reshuffle()
        _ = names | "Encode" >> RunInference(EncoderHandler(settings))
    vectors = np.empty((len(texts), checkpoint.dim), np.float32)
    for path, rows in shards.items():
        vectors[rows] = np.load(io.BytesIO(_read(f"{path}.npy")))
    tf.io.gfile.rmtree(scratch)
    return vectors


@contextmanager
def _watched(shards: dict[str, np.ndarray], tokens: Tokens, report: Reporter) -> Iterator[None]:
    """Reports which shards are done, by looking at the files, as workers may be anywhere."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            report(*_done(shards, tokens))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    report(*_done(shards, tokens))


def _done(shards: dict[str, np.ndarray], tokens: Tokens) -> tuple[int, int]:
    rows = [rows for path, rows in shards.items() if tf.io.gfile.exists(f"{path}.npy")]
    return sum(map(len, rows)), sum(int(tokens.lengths[part].sum()) for part in rows)


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        content: bytes = file.read()
    return content


def _write(path: str, buffer: io.BytesIO) -> None:
    """Under another name first: a file that is there is whole, also when a worker is retried."""
    unfinished = f"{path}.{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(unfinished, "wb") as file:
        file.write(buffer.getvalue())
    tf.io.gfile.rename(unfinished, path, overwrite=True)
