"""From vocabularies and traffic to the embedding table."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from heft.errors import DataError
from heft.text.checkpoint import find_checkpoint, fingerprint
from heft.text.embed import Progress, embed
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.reduction import reduce_vectors
from heft.text.settings import TextSettings
from heft.text.table import TextTable

__all__ = ["build_table"]


def build_table(
    query_vocabulary: Sequence[bytes],
    title_vocabulary: Sequence[bytes],
    pairs: np.ndarray,
    counts: np.ndarray,
    settings: TextSettings,
    previous: TextTable | None = None,
    encoder: TextEncoder | None = None,
    progress: Callable[[Progress], None] | None = None,
    embed_new: Callable[[list[bytes]], np.ndarray] | None = None,
) -> TextTable:
    """Embeds each distinct text once and fits the reduction.

    Args:
        query_vocabulary, title_vocabulary: distinct texts in id order.
        pairs: (m, 2) query and title ids that met, each once.
        counts: (m,) impressions of each pair, positive.
        settings: encoder and dimensions.
        previous: its vectors are taken over if encoder, `max_tokens` and
            `precision` are the same.
        encoder: the one `settings` name, if loaded already; else it is loaded
            here, and only if some text is new.
        progress: called after every few batches of new texts.
        embed_new: gives the vectors of new texts, at least one, another way than here and
            now; `encoder` and `progress` are not asked for then.

    Raises:
        DataError: a vocabulary or the traffic is empty, or an id is out of range.
        EncoderError: the encoder cannot be used.
    """
    _check(query_vocabulary, title_vocabulary, pairs, counts)
    current = (
        fingerprint(find_checkpoint(settings.encoder).folder)
        if encoder is None
        else encoder.fingerprint
    )
    known = _known_rows(previous, current, settings)
    texts = dict.fromkeys(itertools.chain(query_vocabulary, title_vocabulary))
    rows = {text: row for row, text in enumerate(texts)}
    new = [text for text in texts if text not in known]
    if not new and previous is not None:
        vectors = np.empty((len(rows), previous.titles.shape[1]), np.float32)
    else:
        if embed_new is not None:
            fresh = embed_new(new)
        else:
            encoder = encoder or load_encoder(settings)
            size, tokens = settings.batch_size, settings.batch_tokens
            fresh = embed(new, encoder, size, tokens, progress, settings.precision)
        vectors = np.empty((len(rows), fresh.shape[1]), np.float32)
        vectors[[rows[text] for text in new]] = fresh
    if previous is not None:
        _take_over(previous, known, rows, vectors)
    queries = vectors[[rows[text] for text in query_vocabulary]]
    titles = vectors[[rows[text] for text in title_vocabulary]]
    return TextTable(
        queries=queries,
        titles=titles,
        query_texts=list(query_vocabulary),
        title_texts=list(title_vocabulary),
        reduction=reduce_vectors(queries, titles, pairs, counts, settings),
        fingerprint=current,
        settings=settings,
        embedded=len(new),
        reused=len(rows) - len(new),
    )


def _check(
    queries: Sequence[bytes], titles: Sequence[bytes], pairs: np.ndarray, counts: np.ndarray
) -> None:
    for name, vocabulary in (("query", queries), ("title", titles)):
        if not vocabulary:
            raise DataError(
                f"the {name} vocabulary is empty; expected at least one text: check that the "
                f"logs have a non-empty {name} column"
            )
    if not len(pairs):
        raise DataError(
            "no impression has both a query and a title of the vocabularies; check that the "
            "train split was transformed with these vocabularies"
        )
    low, high = pairs.min(axis=0), pairs.max(axis=0)
    if (low < 0).any() or high[0] >= len(queries) or high[1] >= len(titles):
        raise DataError(
            f"pairs hold ids from {low.tolist()} to {high.tolist()}, expected 0 to "
            f"{[len(queries) - 1, len(titles) - 1]}; transform the examples with these vocabularies"
        )
    if counts.shape != (len(pairs),) or (counts <= 0).any():
        raise DataError(
            f"counts have shape {counts.shape} and minimum {counts.min(initial=0)}, expected "
            f"({len(pairs)},) positive numbers, one for each pair"
        )


def _known_rows(
    previous: TextTable | None, current: str, settings: TextSettings
) -> dict[bytes, tuple[bool, int]]:
    """Where `previous` holds a text: whether among its titles, and the row."""
    if previous is None or previous.fingerprint != current:
        return {}
    for name in ("max_tokens", "precision"):
        if getattr(previous.settings, name) != getattr(settings, name):
            return {}
    known = {text: (False, row) for row, text in enumerate(previous.query_texts)}
    known.update({text: (True, row) for row, text in enumerate(previous.title_texts)})
    return known


def _take_over(
    previous: TextTable,
    known: dict[bytes, tuple[bool, int]],
    rows: dict[bytes, int],
    vectors: np.ndarray,
) -> None:
    for titles, source in ((False, previous.queries), (True, previous.titles)):
        moves = [
            (row, known[text][1])
            for text, row in rows.items()
            if text in known and known[text][0] == titles
        ]
        if moves:
            to, origin = np.array(moves).T
            vectors[to] = source[origin]
