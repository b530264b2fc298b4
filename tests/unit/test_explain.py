"""Words and what they move, against a model whose answers are known."""

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from heft.explain import Explanation, Word, in_words, words_table
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.settings import TextSettings
from heft.text.token_gradients import TokenGradients

TEXTS = ["cordless drill", "Oak Handle Cordless Yellow Drill 18 V", "電動 drill 🔧", ""]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_encoder(TextSettings(max_tokens=12))


@pytest.fixture(scope="module")
def gradients() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(len(TEXTS), 384)).astype(np.float32)


def test_going_through_the_layers_gives_the_encoders_vectors(encoder: TextEncoder) -> None:
    found = TokenGradients(encoder)
    tokens = encoder.tokenize_batch(tf.constant(TEXTS))
    padded, mask = tokens.to_tensor(), tf.ones_like(tokens).to_tensor()
    vectors = found.vectors(encoder.backbone.token_embedding(padded), mask)
    np.testing.assert_allclose(vectors, encoder(tf.constant(TEXTS)), atol=1e-5)


def test_scores_are_what_scaling_a_token_changes(
    encoder: TextEncoder, gradients: np.ndarray
) -> None:
    """Finite differences: y where one token's embedding is scaled by 1 ± ε."""
    found = TokenGradients(encoder)
    scored = found.of(TEXTS, gradients)
    for row in (0, 1, 3):
        ids, scores, _ = scored[row]
        mask = tf.ones((1, len(ids)), tf.int32)
        embedded = encoder.backbone.token_embedding(tf.constant(ids[None]))
        slopes = []
        for token in range(len(ids)):
            scale = np.ones((1, len(ids), 1), np.float32)
            ends = []
            for step in (0.02, -0.02):
                scale[0, token] = 1 + step
                vector = found.vectors(embedded * scale, mask).numpy()[0].astype(np.float64)
                ends.append(float(vector @ gradients[row]))
            slopes.append((ends[0] - ends[1]) / 0.04)
        np.testing.assert_allclose(scores, slopes, atol=2e-3 + 0.02 * np.abs(slopes).max())
        assert np.abs(slopes).max() > 0.02  # or the test says nothing


def test_a_text_has_the_same_scores_in_any_company(
    encoder: TextEncoder, gradients: np.ndarray
) -> None:
    found = TokenGradients(encoder)
    together = found.of(TEXTS, gradients)
    for row, text in enumerate(TEXTS):
        (alone,) = found.of([text], gradients[row : row + 1])
        np.testing.assert_array_equal(alone.ids, together[row].ids)
        np.testing.assert_allclose(alone.gradient, together[row].gradient, atol=1e-4)
        np.testing.assert_allclose(alone.integrated, together[row].integrated, atol=1e-4)
    assert len(together[1].ids) <= 12


def test_integrated_gradients_add_up(encoder: TextEncoder, gradients: np.ndarray) -> None:
    """Completeness: all that lies between the text and padding is dealt out to its tokens."""
    found = TokenGradients(encoder, steps=64)
    for row, scores in enumerate(found.of(TEXTS, gradients)):
        tokens, mask = tf.constant(scores.ids[None]), tf.ones((1, len(scores.ids)), tf.int32)
        ends = (
            found.vectors(embedded, mask).numpy()[0] @ gradients[row]
            for embedded in (
                encoder.backbone.token_embedding(tokens), found.baseline(tokens, mask)
            )
        )  # fmt: skip
        text, padding = ends
        np.testing.assert_allclose(scores.integrated.sum(), text - padding, atol=0.02)
        assert scores.integrated[0] == scores.integrated[-1] == 0


def test_words_are_worth_what_is_lost_without_them(encoder: TextEncoder) -> None:
    """Leaving a word out is the slow, obvious way; y is the cosine to a query."""
    query, title = "cordless drill", "oak handle cordless yellow drill"
    g = encoder(tf.constant([query])).numpy()
    (scores,) = TokenGradients(encoder).of([title], g)
    words = title.split()
    whole = encoder(tf.constant([title])).numpy()[0] @ g[0]
    lost = []
    for k in range(len(words)):
        rest = " ".join(words[:k] + words[k + 1 :])
        lost.append(whole - encoder(tf.constant([rest])).numpy()[0] @ g[0])
    # "cordless" is two pieces.
    pieces = scores.integrated[1:-1]
    ours = [pieces[0], pieces[1], pieces[2] + pieces[3], pieces[4], pieces[5]]
    assert np.corrcoef(ours, lost)[0, 1] > 0.7
    assert {words[k] for k in np.argsort(ours)[-2:]} == {"cordless", "drill"}


def test_pieces_become_words() -> None:
    values = np.array([1.0, 2.0, -4.0, 0.5])
    pieces = ["##x", "cord", "##less", "drill"]
    words = in_words(pieces, 2 * values, values, values / 2, np.abs(values))
    assert [w.text for w in words] == ["##x", "cordless", "drill"]
    assert words[1].integrated == -4.0
    assert words[1].gradient == -2.0
    assert words[1].rollout == -1.0
    assert words[1].link == 4.0
    assert in_words([], *[values[:0]] * 4) == []


def test_a_terminal_shows_words_as_they_are_and_what_speaks_for_them() -> None:
    query = [Word("[/b]", -0.25, 0.5, 0.125, 0.75)]
    pair = Explanation(
        "[/b]", "a [red] lamp", 1.5, query, [Word("lamp", 0.5, 0.25, 0.5, 1.0)], 1.0, 0.5
    )
    screen = Console(width=120)
    with screen.capture() as shown:
        screen.print(words_table(pair))
    printed = shown.get()
    assert "[/b] → a [red] lamp" in printed
    assert "logit of a click 1.500" in printed
    lines = [line.replace("│", " ").split() for line in printed.splitlines()]
    assert ["query", "[/b]", "-0.2500", "█" * 5, "+0.5000", "0.125", "0.750"] in lines
    assert ["title", "lamp", "+0.5000", "█" * 10, "+0.2500", "0.500", "1.000"] in lines
