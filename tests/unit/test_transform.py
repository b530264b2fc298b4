"""What the model sees of a text, a price and a category."""

import math
import random
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from heft import features as f
from heft.lexical import lexical_features
from tests.unit.model.rows import (
    PRICES,
    QUERIES,
    SETTINGS,
    TITLES,
    analysed,
    impression,
    schema,
    shop_graph,
    shop_rows,
    transformed,
)

words = st.sampled_from(
    ["drill", "Drill", "DRILLS", "café", "CAFÉ", "電動", "🔧", "18v", "½", "naïve", "x-1", "ß", "Ǆ"]
)
texts = st.one_of(
    st.lists(words, max_size=5).map(" ".join),
    st.text(
        st.characters(
            codec="utf-8", exclude_categories=["Cs", "Cn", "Co"], exclude_characters="\0"
        ),
        max_size=12,
    ),
    st.sampled_from(["", " ", "\t\n ", "--", "é", "e\u0301"]),
)


def _words(text: str) -> list[str]:
    kept = (c if unicodedata.category(c)[0] in "LN" else " " for c in text.lower())
    return "".join(kept).split()


def _trigrams(text: str) -> set[str]:
    padded = f" {' '.join(_words(text))} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def reference(query: str, title: str) -> list[float]:
    """The six lexical features, slowly."""
    asked, told = _words(query), _words(title)
    left, right = _trigrams(query), _trigrams(title)
    shared = len(left & right)
    return [
        len(set(asked) & set(told)) / len(set(asked)) if asked else 0.0,
        shared / len(left) if left else 0.0,
        shared / len(left | right) if left | right else 0.0,
        float(bool(asked) and asked[-1] in told),
        math.log1p(len(asked)),
        math.log1p(len(told)),
    ]


# A graph, as in Transform and in the served model; and faster than op by op.
in_graph = tf.function(lexical_features, input_signature=[tf.TensorSpec([None], tf.string)] * 2)


@settings(deadline=None, max_examples=100)
@example([("drill", "cordless drill"), ("café", "CAFÉ noir"), ("電動", "電動 drill"), ("", "")])
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=12))
def test_lexical_features_are_those_of_the_reference(pairs: list[tuple[str, str]]) -> None:
    queries, titles = zip(*pairs, strict=True)
    found = in_graph(tf.constant(queries), tf.constant(titles))
    got = np.stack([found[name].numpy() for name in f.LEXICAL], axis=1)
    assert got.shape == (len(pairs), 6)
    np.testing.assert_allclose(got, [reference(q, t) for q, t in pairs], atol=1e-6)


def test_texts_that_come_again_have_what_they_had_alone() -> None:
    """Rows of a page share a query, and a log shows a title often: all pairs in one batch."""
    some = ["", "drill", "Drill drill 18v", "café noir", "x-1 x 1", "電動 drill"]
    pairs = [(query, title) for query in some for title in some] * 3
    random.Random(0).shuffle(pairs)
    queries, titles = zip(*pairs, strict=True)
    found = in_graph(tf.constant(queries), tf.constant(titles))
    got = np.stack([found[name].numpy() for name in f.LEXICAL], axis=1)
    np.testing.assert_allclose(got, [reference(q, t) for q, t in pairs], atol=1e-6)


def test_a_batch_of_nothing_has_no_rows() -> None:
    found = in_graph(tf.constant([], tf.string), tf.constant([], tf.string))
    assert {values.shape for values in found.values()} == {(0,)}


def test_a_price_is_the_z_score_of_its_logarithm_and_zero_where_there_is_none() -> None:
    rows = [impression(i, QUERIES[0], TITLES[0], price=price) for i, price in enumerate(PRICES)]
    rows.append(impression(9, QUERIES[0], TITLES[0], price=float("nan")))
    found = transformed(rows)["price_z"]
    logs = np.log([price for price in PRICES if price is not None and price > 0])
    # Each price occurs equally often in the shop.
    want = (logs - logs.mean()) / logs.std()
    assert found[:4] == pytest.approx(want, abs=1e-5)
    assert found[4:].tolist() == [0.0] * 4


def test_texts_have_the_id_of_their_vocabulary_row_or_none() -> None:
    rows = [*shop_rows(), impression(0, "never asked", "never sold"), impression(1, "", "Hammer ")]
    found = transformed(rows)
    for column, vocabulary, key in (
        (f.QUERY_ID, "query_text", f.QUERY),
        (f.TITLE_ID, "title_text", f.TITLE),
    ):
        known = shop_graph().vocabulary_by_name(vocabulary)
        assert sorted(known) == sorted({str(row[key]).encode() for row in shop_rows()})
        ids = {text: row for row, text in enumerate(known)}
        want = [ids.get(row[key].encode(), f.OOV) for row in rows]
        assert found[column].tolist() == want
        assert found[column][-2:].tolist() == [f.OOV, f.OOV]


def test_empty_texts_and_texts_of_several_lines_have_a_row_of_the_table() -> None:
    lines = [("", "Hammer\nwith handle"), ("two\r\nlines", ""), (" ", "Hammer with handle")]
    rows = [impression(i, *texts, history=["", texts[1]]) for i, texts in enumerate(lines * 2)]
    of = schema()
    of.feature.append(schema_pb2.Feature(name=f.HISTORY, type=schema_pb2.BYTES))
    graph = analysed(rows, of, SETTINGS, **{f.HISTORY: 2})
    assert sorted(graph.vocabulary_by_name("query_text")) == [b" ", b"two lines"]
    assert sorted(graph.vocabulary_by_name("title_text")) == [b" ", b"Hammer with handle"]
    found = transformed(rows, graph)
    assert (found[f.QUERY_ID] >= 0).all() and (found[f.TITLE_ID] >= 0).all()
    assert found[f.QUERY_ID][0] == found[f.QUERY_ID][2]
    assert found[f.TITLE_ID][0] == found[f.TITLE_ID][2]
    # An empty title in a history is padding.
    assert found[f.HISTORY_IDS][:3].tolist() == [
        [f.OOV, title] if text else [f.OOV, f.OOV]
        for title, (_, text) in zip(found[f.TITLE_ID].tolist(), lines, strict=False)
    ]


def test_a_price_that_no_row_has_is_nowhere_missed() -> None:
    rows = [impression(i, "q", "t", price=None) for i in range(6)]
    of = schema()
    kept = [feature for feature in of.feature if feature.name != f.PRICE]
    del of.feature[:]
    of.feature.extend(kept)
    assert transformed(rows, analysed(rows, of, SETTINGS))["price_z"].tolist() == [0.0] * 6


def test_rare_and_unknown_categories_share_the_last_id() -> None:
    brands = ["acme", "zeta", "", "seen once", "never seen", None]
    rows = [impression(i, "q", "t", brand=brand) for i, brand in enumerate(brands)]
    found = transformed(rows)[f.categorical_id(f.BRAND)]
    size = shop_graph().vocabulary_size_by_name(f.BRAND)
    assert found[3:5].tolist() == [size, size]
    assert len(set(found[:2].tolist())) == 2
    assert (found >= 0).all() and (found <= size).all()
    assert found[5] == found[2]  # an absent brand is an empty one


def test_labels_and_keys_pass_and_a_request_has_one_key() -> None:
    rows = [impression(i, "q", "t", conversion=i % 2) for i in range(6)]
    found = transformed(rows)
    for name in (f.CLICK, f.CONVERSION, f.POSITION, f.RANDOMISED):
        assert found[name].tolist() == [row[name] for row in rows]
    assert found[f.IMPRESSION_ID].tolist() == [f"i{i}".encode() for i in range(6)]
    keys = found[f.REQUEST_KEY]
    assert keys[::2].tolist() == keys[1::2].tolist()
    assert len(set(keys.tolist())) == 3
    assert found[f.TIMESTAMP].tolist() == list(range(6))
    assert found[f.CLICK_DELAY].tolist() == [row[f.CLICK_DELAY] for row in rows]
    seconds = (f.CLICK_DELAY, f.CONVERSION_DELAY, f.OBSERVATION)
    absent = transformed([impression(0, "q", "t", **dict.fromkeys(seconds))])
    assert [absent[name].tolist() for name in seconds] == [[-1.0]] * 3


def test_a_user_has_one_key_and_a_nameless_one_that_of_the_request() -> None:
    users = ["ann", "bob", "ann", "", None, ""]
    rows = [impression(i, "q", "t", user_id=user) for i, user in enumerate(users)]
    found = transformed(rows)
    keys, requests = found[f.USER_KEY], found[f.REQUEST_KEY]
    assert keys[0] == keys[2]
    assert keys[3:].tolist() == requests[3:].tolist()
    assert len({*keys[:3], *requests}) == 2 + len(set(requests))
