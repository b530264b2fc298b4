import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from heft.errors import DataError
from heft.text.build import build_table
from heft.text.encoder import TextEncoder
from heft.text.settings import TextSettings
from heft.text.similarity import cosine_similarity
from heft.text.table import TextTable

QUERIES = [b"drill", b"garden hose", b"led bulb", "caf\u00e9".encode(), b"broken \xff\xfe bytes"]
TITLES = [
    b"Cordless Drill, 18 V", b"50 ft. Hose", b"LED Light Bulb", b"two\nlines", b"", b"drill",
]  # fmt: skip
PAIRS = np.array([(q, t) for q in range(5) for t in range(6)])
COUNTS = np.arange(1, 31)
SETTINGS = TextSettings(title_dimensions=3, query_dimensions=2, product_dimensions=40)


@pytest.fixture(scope="module")
def table(encoder: TextEncoder) -> TextTable:
    return build_table(QUERIES, TITLES, PAIRS, COUNTS, SETTINGS, encoder=encoder)


def test_rows_are_in_vocabulary_order(table: TextTable, encoder: TextEncoder) -> None:
    for texts, got in ((QUERIES, table.queries), (TITLES, table.titles)):
        want = encoder(tf.constant(texts)).numpy()
        assert got.shape == (len(texts), 384)
        assert (got * want).sum(axis=1).min() >= 0.9999


def test_a_text_that_is_query_and_title_is_embedded_once(table: TextTable) -> None:
    assert (table.embedded, table.reused) == (10, 0)
    assert np.array_equal(table.queries[0], table.titles[5])


def test_a_saved_table_comes_back_whole(table: TextTable, tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    table.save(uri)
    back = TextTable.load(uri)
    assert isinstance(back.titles, np.memmap)
    assert (back.query_texts, back.title_texts) == (QUERIES, TITLES)
    assert (back.fingerprint, back.settings) == (table.fingerprint, SETTINGS)
    for name in ("queries", "titles"):
        assert np.array_equal(getattr(back, name), getattr(table, name))
    for name in ("title", "query", "product"):
        got, want = getattr(back.reduction, name), getattr(table.reduction, name)
        assert np.array_equal(got.components, want.components)
        assert np.array_equal(got.mean, want.mean)
        np.testing.assert_allclose(got.explained, want.explained)


def test_the_manifest_says_how_many_components_were_kept(table: TextTable, tmp_path: Path) -> None:
    table.save(str(tmp_path))
    reduction = json.loads((tmp_path / "table.json").read_text())["reduction"]
    assert reduction["title"]["kept"] == reduction["title"]["wanted"] == 3
    assert (reduction["product"]["wanted"], reduction["product"]["kept"]) == (40, 29)
    assert 0.99 < sum(reduction["product"]["explained"]) < 1.01


def test_half_a_table_is_none(table: TextTable, tmp_path: Path) -> None:
    table.save(str(tmp_path))
    (tmp_path / "table.json").unlink()
    with pytest.raises(DataError, match="no whole embedding table"):
        TextTable.load(str(tmp_path))


def test_only_new_texts_are_embedded(
    table: TextTable, encoder: TextEncoder, tmp_path: Path
) -> None:
    table.save(str(tmp_path))
    previous = TextTable.load(str(tmp_path))
    queries, titles = [*QUERIES[::-1], b"saw"], [TITLES[2], b"a new title", *QUERIES[1:2]]
    pairs, counts = np.array([(0, 0), (5, 1), (1, 2)]), np.array([3, 1, 2])
    got = build_table(queries, titles, pairs, counts, SETTINGS, previous, encoder)
    assert (got.embedded, got.reused) == (2, 6)
    fresh = build_table(queries, titles, pairs, counts, SETTINGS, None, encoder)
    np.testing.assert_allclose(got.queries, fresh.queries, atol=2e-6)
    np.testing.assert_allclose(got.titles, fresh.titles, atol=2e-6)
    assert np.array_equal(got.queries[:5], table.queries[::-1])


def test_nothing_new_needs_no_encoder(table: TextTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: TextSettings) -> TextEncoder:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("heft.text.build.load_encoder", refuse)
    got = build_table(QUERIES, TITLES, PAIRS, COUNTS, SETTINGS, previous=table)
    assert (got.embedded, got.reused) == (0, 10)
    assert np.array_equal(got.titles, table.titles)


def test_vectors_of_another_length_limit_are_not_taken_over(
    table: TextTable, encoder: TextEncoder
) -> None:
    other = SETTINGS.model_copy(update={"max_tokens": 32})
    got = build_table(QUERIES, TITLES, PAIRS, COUNTS, other, table, encoder)
    assert (got.embedded, got.reused) == (10, 0)


@pytest.mark.parametrize(
    ("queries", "titles", "pairs", "counts", "message"),
    [
        ([], TITLES, PAIRS, COUNTS, "the query vocabulary is empty"),
        (QUERIES, [], PAIRS, COUNTS, "the title vocabulary is empty"),
        (QUERIES, TITLES, PAIRS[:0], COUNTS[:0], "no impression has both"),
        (QUERIES[:2], TITLES, PAIRS, COUNTS, r"expected 0 to \[1, 5\]"),
        (QUERIES, TITLES, PAIRS, COUNTS - 1, "minimum 0, expected"),
    ],
)
def test_input_that_cannot_be_meant(
    queries: list[bytes],
    titles: list[bytes],
    pairs: np.ndarray,
    counts: np.ndarray,
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        build_table(queries, titles, pairs, counts, SETTINGS)


def test_cosine_is_that_of_the_rows(table: TextTable) -> None:
    queries, titles = np.array([0, 2, -1, 1, 0]), np.array([0, 2, 3, -1, 5])
    got = cosine_similarity(table, queries, titles, chunk=2)
    want = (table.queries[[0, 2, 0]] * table.titles[[0, 2, 5]]).sum(axis=1)
    np.testing.assert_allclose(got[[0, 1, 4]], want, atol=1e-6)
    assert np.isnan(got[[2, 3]]).all()
    assert got[4] == pytest.approx(1, abs=1e-6)
