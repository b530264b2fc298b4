"""Which words of a query and a title speak for a click, and against it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from heft.errors import EncoderError, InputError
from heft.model.export import EXPLAIN
from heft.model.predict import ask
from heft.model.run import ENCODER_FILE
from heft.model.warm_start import EXTRAS_DIR
from heft.text.attention import PairAttention
from heft.text.checkpoint import find_checkpoint
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.settings import TextSettings
from heft.text.token_gradients import TokenGradients, TokenScores

__all__ = ["Explanation", "Word", "explain_pairs", "in_words", "words_table"]

Array = np.ndarray
_CONTINUED = "##"
_PAD = 2  # its place in `Checkpoint.special`


@dataclass(frozen=True)
class Word:
    """A word, its pieces joined again.

    Attributes:
        text: as the encoder reads it, in lower case for most.
        integrated: what the click's logit owes to the word, by integrated gradients: positive
            where it speaks for a click.
        gradient: gradient × input of the logit.
        rollout: share of what BERT makes of the pair, by attention rollout.
        link: the strongest attention between it and a word of the other text, in [0, 1].
    """

    text: str
    integrated: float
    gradient: float
    rollout: float
    link: float


@dataclass(frozen=True)
class Explanation:
    """One pair.

    Attributes:
        query, title: as asked.
        logit: of a click, if looked at, before calibration.
        query_words, title_words: those that fit in `max_tokens`.
        link, flow: of the pair; see `heft.text.attention.Attended`.
    """

    query: str
    title: str
    logit: float
    query_words: list[Word]
    title_words: list[Word]
    link: float
    flow: float

    def to_json(self) -> dict[str, Any]:
        """Nothing but JSON values."""
        return asdict(self)


def explain_pairs(
    model: Path, queries: Sequence[str], titles: Sequence[str], others: dict[str, Any]
) -> list[Explanation]:
    """Explains what a model says of n pairs.

    The gradient goes from the logit of the click head through the network and the reduction to
    the vectors of query and title, and on through the encoder to the embeddings of their
    tokens; what the network makes of the letters (the lexical columns) is not in it. Attention
    is that of BERT reading both texts together, which the model itself does not.

    Args:
        model: a SavedModel that Heft exported.
        queries, titles: n of each.
        others: further columns, one value for all pairs; what is left out is unknown.

    Raises:
        InputError: no such model, or one of an older Heft, or a column it does not have.
        EncoderError: its encoder is not where it was, or is another one.
    """
    answers = ask(model, EXPLAIN, queries, titles, others)
    encoder, vocabulary, padding = _encoder(model)
    gradients = TokenGradients(encoder, padding)
    reader = PairAttention(encoder)
    of_query = gradients.of(queries, answers["query_gradient"])
    of_title = gradients.of(titles, answers["title_gradient"])
    found = []
    for row, (query, title) in enumerate(zip(queries, titles, strict=True)):
        read = reader.explain(query, title, vocabulary)
        found.append(
            Explanation(
                query, title, float(answers["logit"][row]),
                _words(read.query, of_query[row], read.query_rollout, read.query_importance),
                _words(read.title, of_title[row], read.title_rollout, read.title_importance),
                read.link, read.flow,
            )
        )  # fmt: skip
    return found


def in_words(pieces: Sequence[str], *measures: Array) -> list[Word]:
    """Word pieces joined: gradients and shares add up, of links the strongest counts.

    Args:
        pieces: of the vocabulary.
        measures: (pieces,) each, in the order of `Word`.
    """
    words: list[Word] = []
    for piece, *values in zip(pieces, *measures, strict=True):
        integrated, gradient, rollout, link = map(float, values)
        if piece.startswith(_CONTINUED) and words:
            last = words.pop()
            piece = last.text + piece.removeprefix(_CONTINUED)
            integrated, gradient = last.integrated + integrated, last.gradient + gradient
            rollout, link = last.rollout + rollout, max(last.link, link)
        words.append(Word(piece, integrated, gradient, rollout, link))
    return words


def words_table(pair: Explanation) -> Table:
    """An explanation for a terminal: a line for each word, and a bar of what counts for it."""
    pair_figures = f"click {pair.logit:.3f}, link {pair.link:.3f}, flow {pair.flow:.3f}"
    table = Table(
        "text", "word", "integrated", "", "gradient × input", "rollout", "link",
        title=f"{escape(pair.query)} → {escape(pair.title)}\nlogit of a {pair_figures}",
        title_justify="left",
    )  # fmt: skip
    words = [("query", w) for w in pair.query_words] + [("title", w) for w in pair.title_words]
    most = max((abs(word.integrated) for _, word in words), default=0.0) or 1.0
    for side, word in words:
        bar = "█" * round(10 * abs(word.integrated) / most)
        colour = "green" if word.integrated > 0 else "red"
        figures = (f"{word.gradient:+.4f}", f"{word.rollout:.3f}", f"{word.link:.3f}")
        signed = f"{word.integrated:+.4f}"
        table.add_row(side, escape(word.text), signed, f"[{colour}]{bar}[/]", *figures)
    return table


def _words(pieces: list[str], scores: TokenScores, rollout: Array, link: Array) -> list[Word]:
    # A long title is read to the last position beside its query, and alone to `max_tokens`.
    count = min(len(pieces), len(scores.ids) - 2)
    own = (scores.integrated[1 : count + 1], scores.gradient[1 : count + 1])
    return in_words(pieces[:count], *own, rollout[:count], link[:count])


def _encoder(model: Path) -> tuple[TextEncoder, list[str], int]:
    """The encoder of a model, its vocabulary and its padding."""
    path = model / EXTRAS_DIR / ENCODER_FILE
    if not path.is_file():
        raise InputError(
            f"no {path}: the model was exported by an older Heft; run the street again"
        )
    facts = json.loads(path.read_text(encoding="utf-8"))
    settings = TextSettings.model_validate(facts["text"])
    encoder = load_encoder(settings)
    if encoder.fingerprint != facts["fingerprint"]:
        raise EncoderError(
            f"encoder={settings.encoder!r} has the fingerprint {encoder.fingerprint[:12]}, and the "
            f"model was trained with {facts['fingerprint'][:12]}: put that encoder back, or run "
            "the street again"
        )
    checkpoint = find_checkpoint(settings.encoder)
    vocabulary = checkpoint.vocabulary()
    return encoder, vocabulary, vocabulary.index(checkpoint.special[_PAD])
