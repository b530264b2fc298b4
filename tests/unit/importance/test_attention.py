"""Attention between query and title: against BERT written out, and what it is good for."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import softmax

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import Estimator, ImportanceData
from heft.importance.attention_score import AttentionScore
from heft.text.attention import PairAttention
from heft.text.checkpoint import find_checkpoint
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.settings import TextSettings
from heft.text.tokenizer import GraphTokenizer

PAIRS = [
    ("cordless drill", "18-Volt Cordless Drill/Driver Kit"),
    ("garden hose", "50 ft. Water Hose for the Yard"),
    ("led bulb", "Oak Dining Table"),
    ("x", "A very long title " * 12),
    ("", "Hammer"),
    ("hammer", ""),
]


@pytest.fixture(scope="module")
def reader() -> PairAttention:
    return PairAttention(load_encoder(TextSettings()))


def _attention(folder: Path, tokens: list[int], segments: list[int]) -> np.ndarray:
    """(layers, heads, length, length) float64: Devlin et al. 2019 in NumPy, one pair."""
    weights = {k: v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    words, places, kinds = (
        weights[f"embeddings.{x}_embeddings.weight"] for x in ("word", "position", "token_type")
    )
    x = norm(words[tokens] + places[: len(tokens)] + kinds[segments], "embeddings.LayerNorm")
    found = []
    for at in (f"encoder.layer.{layer}" for layer in range(6)):
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(x), 12, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        found.append(softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), axis=-1))
        mixed = (found[-1] @ v).swapaxes(0, 1).reshape(x.shape)
        mixed = linear(mixed, f"{at}.attention.output.dense")
        x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
        hidden = linear(x, f"{at}.intermediate.dense")
        # KerasHub's BERT has the tanh form of GELU.
        inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
        hidden = linear(0.5 * hidden * (1 + np.tanh(inner)), f"{at}.output.dense")
        x = norm(x + hidden, f"{at}.output.LayerNorm")
    return np.stack(found)


@pytest.mark.parametrize("pair", PAIRS[:3])
def test_links_and_rollout_equal_bert_written_out(
    reader: PairAttention, pair: tuple[str, str]
) -> None:
    checkpoint = find_checkpoint("minilm")
    query, title = (x.tolist() for x in reader.encoder.tokenize_batch(list(pair)).numpy())
    tokens = query + title[1:]
    segments = [0] * len(query) + [1] * (len(title) - 1)
    attention = _attention(checkpoint.folder, tokens, segments)
    q, t = range(1, len(query) - 1), range(len(query), len(tokens) - 1)
    links = np.zeros((len(q), len(t)))
    for row, i in enumerate(q):
        for column, j in enumerate(t):
            ways = [
                attention[layer, :, a, b].max() for layer in range(6) for a, b in ((i, j), (j, i))
            ]
            links[row, column] = np.mean(ways)
    rollout = np.eye(len(tokens))
    for layer in attention:
        rollout = (0.5 * layer.mean(0) + 0.5 * np.eye(len(tokens))) @ rollout
    got = reader.explain(*pair, checkpoint.vocabulary())
    assert got.links == pytest.approx(links, abs=1e-4)
    assert got.link == pytest.approx(links.max(axis=1).mean(), abs=1e-4)
    to_query, to_title = rollout[q][:, t].sum(1).mean(), rollout[t][:, q].sum(1).mean()
    assert got.flow == pytest.approx((to_query + to_title) / 2, abs=1e-4)
    shares = rollout.mean(axis=0)
    assert got.query_rollout == pytest.approx(shares[q], abs=1e-4)
    assert got.title_rollout == pytest.approx(shares[t], abs=1e-4)
    assert got.query_importance == pytest.approx(links.max(axis=1), abs=1e-4)
    assert got.title_importance == pytest.approx(links.max(axis=0), abs=1e-4)


def test_a_pair_says_the_same_in_any_company(reader: PairAttention) -> None:
    queries, titles = zip(*PAIRS, strict=True)
    together = reader.attended(queries, titles)
    small = PairAttention(reader.encoder, batch_tokens=40)
    encoded = [x.encode() for x in queries]
    again = small.attended([*encoded, *queries[::-1]], [*titles, *titles[::-1]])
    for got, want in zip(again, together, strict=True):
        assert got == pytest.approx(np.concatenate([want, want[::-1]]), abs=1e-5)
        assert got.dtype == np.float32
        assert ((got >= 0) & (got <= 1)).all()
        assert (got[4:6] == 0).all()
        assert (got[:4] > 0).all()
    assert reader.attended([], []).link.shape == (0,)


def test_the_pieces_that_answer_the_query_are_named(reader: PairAttention) -> None:
    vocabulary = find_checkpoint("minilm").vocabulary()
    found = reader.explain("cordless drill", "Oak Handle Cordless Yellow Drill", vocabulary)
    assert found.query == ["cord", "##less", "drill"]
    assert found.title == ["oak", "handle", "cord", "##less", "yellow", "drill"]
    asked = np.isin(found.title, found.query)
    assert found.title_importance[asked].min() > found.title_importance[~asked].max()
    strange = reader.explain("purple drill", "Cordless Drill", vocabulary)
    assert strange.query_importance[0] < 0.85 * strange.query_importance[1]


def test_a_title_of_any_length_fits(reader: PairAttention) -> None:
    checkpoint = find_checkpoint("minilm")
    tokenizer = GraphTokenizer(checkpoint, 512)
    whole = PairAttention(TextEncoder(reader.encoder.backbone, tokenizer, checkpoint, "long"))
    found = whole.explain("drill " * 40, "hammer " * 600, checkpoint.vocabulary())
    assert len(found.query) == 40
    assert len(found.query) + len(found.title) + 3 == 512


def test_matching_titles_are_above_others(reader: PairAttention) -> None:
    matching = [
        ("cordless drill", "Battery Powered Cordless Driver"),
        ("garden hose", "50 ft. Water Hose for the Yard"),
        ("dining table", "Oak Table, Seats Six"),
        ("led light bulb", "Energy Saving LED Lamp, 60 W"),
    ]
    titles = [title for _, title in matching]
    links = np.stack([reader.attended([q] * 4, titles).link for q, _ in matching])
    assert (links.argmax(axis=1) == np.arange(4)).all()


def test_the_estimator_reads_the_column() -> None:
    spoken = np.array([0.1, 0.4, 0.2])
    data = ImportanceData.of(np.zeros((3, 1)), [0, 1, 1], spoken=spoken)
    assert isinstance(AttentionScore(), Estimator)
    score = AttentionScore().fit(data).score(data)
    assert score.dtype == np.float32
    assert score == pytest.approx(spoken)
    some = data.take(np.array([2, 0]))
    assert AttentionScore().fit(data).score(some) == pytest.approx(spoken[[2, 0]])


def test_bad_input(reader: PairAttention) -> None:
    bare = ImportanceData.of(np.zeros((2, 1)), [0, 1])
    with pytest.raises(DataError, match="attention needs the column 'spoken'"):
        AttentionScore().fit(bare)
    with pytest.raises(NotFittedError, match="AttentionScore is not fitted"):
        AttentionScore().score(bare)
    holed = ImportanceData.of(np.zeros((2, 1)), [0, 1], spoken=np.array([0.5, np.nan]))
    with pytest.raises(DataError, match="spoken=nan in row 1: expected a finite number"):
        AttentionScore().fit(holed)
    with pytest.raises(DataError, match="received 2 queries and 1 titles"):
        reader.attended(["a", "b"], ["c"])
    with pytest.raises(ConfigError, match="batch_tokens=0: expected at least 1"):
        PairAttention(reader.encoder, batch_tokens=0)
