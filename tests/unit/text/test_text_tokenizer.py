import sys
import unicodedata
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import AutoTokenizer, BertTokenizer

from heft.simulate.chorus import read_chorus
from heft.simulate.home_depot import read_home_depot
from heft.text.characters import character_table
from heft.text.checkpoint import Checkpoint, read_checkpoint
from heft.text.tokenizer import GraphTokenizer

MAX_TOKENS = 32

Tokenizers = tuple[GraphTokenizer, BertTokenizer]


@pytest.fixture(scope="module")
def uncased(checkpoint: Checkpoint) -> Tokenizers:
    reference = BertTokenizer.from_pretrained(checkpoint.folder)
    return GraphTokenizer(checkpoint, MAX_TOKENS), reference


def ids(tokenizer: GraphTokenizer, texts: list[bytes]) -> list[list[int]]:
    return tokenizer(tf.constant(texts, tf.string)).to_list()


def assert_equal(tokenizers: Tokenizers, texts: list[str]) -> None:
    tokenizer, reference = tokenizers
    expected = reference(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    for text, got, want in zip(
        texts, ids(tokenizer, [t.encode() for t in texts]), expected, strict=True
    ):
        assert got == want, ascii(text)


EXAMPLES = {
    "accents": ["Café naïve", "cafe\u0301", "Ångström über façade", "ŉ ǰ ΐ"],
    "empty": ["", " ", "\t\n", "\u200b\u00ad"],
    "cjk": ["中文 mixed 文字abc", "\uf900\U0002f800", "カタカナ ひらがな", "한국어 텍스트"],
    "emoji": ["😀🥰 drill 🫨", "👩\u200d🔧", "❤\ufe0f"],
    "control": ["a\x00b\x07c\td\u200de\u00a0f\x85g\u2028h", "\ufffd", "\ue000x\U000f0000"],
    "case": ["ß ẞ Σίσυφος ΣΑΣ", "İstanbul I ı", "ﬁ ﬀ Ǆ"],
    "punctuation": ["don't-stop!!! $5.00 ½\" 3/4 ~`^", "\u037e\u1fef\u2019¿¡。、「」"],
    "long words": ["x" * 99, "x" * 100, "x" * 101, "ก" * 80, "ก" * 101],
    "long text": ["hello world " * 60, "," * 300],
    "special tokens": ["[SEP] hi[MASK]x [cls] [ CLS]", "[CL\x00S]", "\U000f0000[CLS]\U000f000f"],
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_ids_equal_transformers(uncased: Tokenizers, kind: str) -> None:
    assert_equal(uncased, EXAMPLES[kind])


def test_every_sign_and_punctuation_mark_splits_as_in_transformers(uncased: Tokenizers) -> None:
    signs = [c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] in "PS"]
    assert_equal(uncased, [f"a{sign}b" for sign in signs])


def test_accents_do_not_become_unknown(uncased: Tokenizers) -> None:
    assert ids(uncased[0], ["Café naïve".encode()]) == ids(uncased[0], [b"cafe naive"])


# Mixed so that letters, marks, marks of many scripts, CJK, emoji and controls meet in one word.
ALPHABETS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text("abcdeÁÇñöß Σς.,-'\"$[]#/12中あ한😀\u0301\u200d\x00\t", max_size=80),
    st.lists(st.sampled_from(["[SEP]", "[UNK]", "un", "##aff", " ", "Drill", "é", "x" * 50])).map(
        "".join
    ),
)


def test_every_query_and_title_of_the_shops_has_the_ids_of_transformers(
    uncased: Tokenizers, shop_data: Path
) -> None:
    texts: dict[str, None] = {}
    for name, read in (("home_depot", read_home_depot), ("chorus", read_chorus)):
        judged = read(shop_data / name)
        texts |= dict.fromkeys(judged.pairs["query"]) | dict.fromkeys(judged.catalogue["title"])
    assert len(texts) > 80_000
    assert_equal(uncased, list(texts))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(ALPHABETS, min_size=1, max_size=20))
def test_any_text_has_the_ids_of_transformers(uncased: Tokenizers, texts: list[str]) -> None:
    assert_equal(uncased, texts)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=10))
def test_any_bytes_are_read_as_python_reads_them(uncased: Tokenizers, texts: list[bytes]) -> None:
    decoded = [text.decode(errors="replace").encode() for text in texts]
    assert ids(uncased[0], texts) == ids(uncased[0], decoded)


@pytest.mark.parametrize("strip_accents", [True, None])
@pytest.mark.parametrize("split_cjk", [True, False])
def test_cased_checkpoints_with_other_flags(
    folder: Path, strip_accents: bool | None, split_cjk: bool
) -> None:
    flags = {"strip_accents": strip_accents, "tokenize_chinese_chars": split_cjk}
    reference = BertTokenizer.from_pretrained(folder, do_lower_case=False, **flags)
    reference.save_pretrained(folder)
    tokenizer = GraphTokenizer(read_checkpoint(folder), MAX_TOKENS)
    for texts in EXAMPLES.values():
        assert_equal((tokenizer, reference), texts)


def test_a_checkpoint_that_transformers_saved_has_its_ids(folder: Path, checkpoint: Checkpoint):
    reference = BertTokenizer.from_pretrained(checkpoint.folder, do_lower_case=False)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    reference.save_pretrained(folder)
    saved = AutoTokenizer.from_pretrained(folder)
    tokenizer = GraphTokenizer(read_checkpoint(folder), MAX_TOKENS)
    for texts in EXAMPLES.values():
        assert_equal((tokenizer, saved), texts)
    assert not (folder / "vocab.txt").exists()


def test_the_table_holds_every_code_point() -> None:
    """One normaliser call over all of Unicode is the oracle; spaces are judged elsewhere."""
    table = character_table(True, True, True, ())
    ends = table.row_lengths.cumsum()
    rows = [table.values[e - n : e] for e, n in zip(ends, table.row_lengths, strict=True)]
    points = [p for p in range(sys.maxunicode + 1) if not 0xD800 <= p < 0xE000]
    codes = table.codes[table.pages.repeat(256)[points] * 256 + [p % 256 for p in points]]
    got = "\n".join(
        "".join(chr(p if value < 0 else value) for value in rows[code])
        for p, code in zip(points, codes, strict=True)
    )
    normalizer = normalizers.BertNormalizer(True, True, True, True)
    want = normalizer.normalize_str("\U0010fffe".join(map(chr, points)))
    # The separator itself is among the points: take its two extra pieces out again.
    want = want.replace("\U0010fffe", "\n")
    assert got.replace(" ", "").replace("\U0010fffe", "\n") == want.replace(" ", "")


def test_a_served_graph_holds_only_ops_that_stock_servers_link(uncased: Tokenizers) -> None:
    function = tf.function(
        uncased[0], input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    graph = function.get_concrete_function().graph.as_graph_def()
    ops = {node.op for node in graph.node}
    ops |= {node.op for inner in graph.library.function for node in inner.node_def}
    foreign = {op for op in ops if ">" in op or op.startswith("TFText")}
    allowed = {"CaseFoldUTF8", "FastWordpieceTokenizeWithOffsets", "RegexSplitWithOffsets"}
    assert {op.removeprefix("TFText>") for op in foreign} <= allowed
    assert "FastWordpieceTokenizeWithOffsets" in {op.removeprefix("TFText>") for op in ops}
