"""Many texts to vectors: each distinct text once, little padding, progress on the way."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from heft.text.encoder import TextEncoder
from heft.text.precision import BatchEncoder, batch_encoder
from heft.text.settings import Precision

__all__ = ["Progress", "Reporter", "Tokens", "embed", "encode_tokens", "tokenise"]

_TOKENISED_AT_ONCE = 8192

Tokenise = Callable[[tf.Tensor], tf.RaggedTensor]


@dataclass(frozen=True)
class Progress:
    """How far embedding has come.

    Attributes:
        done, total: distinct texts.
        texts_per_second: so far.
        seconds_left: estimated from the tokens left, as long texts come first.
    """

    done: int
    total: int
    texts_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts, one after the other.

    Attributes:
        ids: (tokens,) int32.
        lengths: (texts,) int64.
    """

    ids: np.ndarray
    lengths: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """(texts,) int64, where each begins in `ids`."""
        return np.cumsum(self.lengths) - self.lengths

    def of(self, rows: np.ndarray) -> "Tokens":
        """Those of some texts, in the order of `rows`."""
        tokens, mask = self.padded(rows)
        return Tokens(tokens[mask > 0], self.lengths[rows])

    def padded(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of `rows`, both (rows, longest) int32."""
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max())
        mask = columns < lengths[:, np.newaxis]
        places = np.where(mask, self.starts[rows][:, np.newaxis] + columns, 0)
        return np.where(mask, self.ids[places], 0).astype(np.int32), mask.astype(np.int32)

    def batches(self, batch_size: int, batch_tokens: int) -> Iterator[np.ndarray]:
        """Row numbers, longest texts first: if memory is short, it shows at once."""
        order = np.argsort(-self.lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = int(self.lengths[order[start]])
            size = min(batch_size, max(1, batch_tokens // longest))
            yield order[start : start + size]
            start += size


class Reporter:
    """Turns texts and tokens done into `Progress`."""

    def __init__(self, tokens: Tokens, callback: Callable[[Progress], None] | None) -> None:
        self._tokens, self._texts = len(tokens.ids), len(tokens.lengths)
        self._callback, self._began = callback, time.monotonic()

    def __call__(self, texts: int, tokens: int) -> None:
        """Reports that so many of all are done; none yet says nothing."""
        if self._callback is None or not tokens:
            return
        seconds = max(time.monotonic() - self._began, 1e-9)
        left = (self._tokens - tokens) * seconds / tokens
        self._callback(Progress(texts, self._texts, texts / seconds, left))


def embed(
    texts: Sequence[bytes | str],
    encoder: TextEncoder,
    batch_size: int = 256,
    batch_tokens: int = 1024,
    progress: Callable[[Progress], None] | None = None,
    precision: Precision = "float32",
) -> np.ndarray:
    """The vectors of `texts` in their order, (n, dim) float32.

    Distinct texts are sorted by tokens and padded to the longest of their batch.

    Args:
        texts: UTF-8 bytes or strings; repeats cost a look-up.
        encoder: from `load_encoder`.
        batch_size: most texts encoded at once.
        batch_tokens: most tokens encoded at once, padding included.
        progress: called after every few batches.
        precision: see `TextSettings`.

    Raises:
        EncoderError: `precision` cannot be had here.
    """
    rows: dict[bytes, int] = {}
    inverse = np.array([rows.setdefault(_as_bytes(text), len(rows)) for text in texts], np.int64)
    if not rows:
        return np.empty((0, encoder.dim), np.float32)
    tokens = tokenise(list(rows), encoder.tokenize_batch)
    encode, report = batch_encoder(encoder, precision), Reporter(tokens, progress)
    return encode_tokens(tokens, encode, batch_size, batch_tokens, report)[inverse]


def tokenise(texts: Sequence[bytes], tokenizer: Tokenise) -> Tokens:
    """Ids of `texts`, at least one, in their order.

    Args:
        tokenizer: strings to ragged ids, such as `TextEncoder.tokenize_batch`.
    """
    ids, lengths = [], []
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        ragged = tokenizer(tf.constant(texts[start : start + _TOKENISED_AT_ONCE]))
        ids.append(ragged.flat_values.numpy())
        lengths.append(ragged.row_lengths().numpy())
    return Tokens(np.concatenate(ids), np.concatenate(lengths))


def encode_tokens(
    tokens: Tokens,
    encode: BatchEncoder,
    batch_size: int,
    batch_tokens: int,
    report: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The vectors, (n, dim) float32, of n ≥ 1 texts.

    Args:
        report: called with texts and tokens done so far.
    """
    vectors, done = None, np.zeros(2, np.int64)
    batches = tokens.batches(batch_size, batch_tokens)
    while group := list(itertools.islice(batches, encode.width)):
        found = encode.encode([tokens.padded(batch) for batch in group])
        if vectors is None:
            vectors = np.empty((len(tokens.lengths), found[0].shape[1]), np.float32)
        for batch, values in zip(group, found, strict=True):
            vectors[batch] = values
            done += len(batch), int(tokens.lengths[batch].sum())
        if report is not None:
            report(int(done[0]), int(done[1]))
    assert vectors is not None, "no texts"
    return vectors


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", errors="replace")
