"""Many texts to vectors: each distinct text once, little padding, progress on the way."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from heft.text.encoder import TextEncoder
from heft.text.precision import batch_encoder
from heft.text.settings import Precision

__all__ = ["Progress", "embed"]

_TOKENISED_AT_ONCE = 8192


@dataclass(frozen=True)
class Progress:
    """How far `embed` has come.

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
class _Tokens:
    """Token ids of many texts, one after the other."""

    ids: np.ndarray  # (tokens,) int32
    starts: np.ndarray  # (texts,) int64
    lengths: np.ndarray  # (texts,) int64

    def padded(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of `rows`, both (rows, longest) int32."""
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max())
        mask = columns < lengths[:, np.newaxis]
        places = np.where(mask, self.starts[rows][:, np.newaxis] + columns, 0)
        return np.where(mask, self.ids[places], 0).astype(np.int32), mask.astype(np.int32)


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
    vectors = np.empty((len(rows), encoder.dim), np.float32)
    if rows:
        tokens = _tokenise(list(rows), encoder)
        report = _Reporter(tokens, progress)
        encode = batch_encoder(encoder, precision)
        batches = _batches(tokens, batch_size, batch_tokens)
        while group := list(itertools.islice(batches, encode.width)):
            found = encode.encode([tokens.padded(batch) for batch in group])
            for batch, values in zip(group, found, strict=True):
                vectors[batch] = values
            report(np.concatenate(group))
    return vectors[inverse]


class _Reporter:
    def __init__(self, tokens: _Tokens, callback: Callable[[Progress], None] | None) -> None:
        self._tokens, self._callback = tokens, callback
        self._texts_done, self._tokens_done = 0, 0
        self._began = time.monotonic()

    def __call__(self, batch: np.ndarray) -> None:
        self._texts_done += len(batch)
        self._tokens_done += int(self._tokens.lengths[batch].sum())
        if self._callback is None:
            return
        seconds = max(time.monotonic() - self._began, 1e-9)
        left = len(self._tokens.ids) - self._tokens_done
        rate = self._texts_done / seconds
        eta = left * seconds / self._tokens_done
        self._callback(Progress(self._texts_done, len(self._tokens.lengths), rate, eta))


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", errors="replace")


def _tokenise(texts: list[bytes], encoder: TextEncoder) -> _Tokens:
    ids, lengths = [], []
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        ragged = encoder.tokenize_batch(tf.constant(texts[start : start + _TOKENISED_AT_ONCE]))
        ids.append(ragged.flat_values.numpy())
        lengths.append(ragged.row_lengths().numpy())
    all_lengths = np.concatenate(lengths)
    return _Tokens(np.concatenate(ids), np.cumsum(all_lengths) - all_lengths, all_lengths)


def _batches(tokens: _Tokens, batch_size: int, batch_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers, longest texts first: if memory is short, it shows at once."""
    order = np.argsort(-tokens.lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(tokens.lengths[order[start]])
        size = min(batch_size, max(1, batch_tokens // longest))
        yield order[start : start + size]
        start += size
