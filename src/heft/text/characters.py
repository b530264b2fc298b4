"""What the Hugging Face BERT normaliser does to each character, as a table for a graph.

The normaliser (drop control characters, set CJK apart, strip accents, lower-case)
and the pre-tokeniser (split at white space, set punctuation apart) act on one
character at a time. So their whole behaviour is a map from code points to short
strings. It is read off the installed `tokenizers` library rather than written
down again: its Unicode tables differ from those of Python, ICU and RE2, and
only its own answers give the same ids.

One thing is not a map of single characters: canonical reordering of combining
marks. It could show only for marks that accent stripping leaves (category Mc),
which no BERT vocabulary composes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tokenizers import normalizers, pre_tokenizers

__all__ = ["PLACEHOLDERS", "SELF", "CharacterTable", "character_table"]

SELF = -1  # in a replacement: the character itself
# Private-use characters, which the normaliser drops, stand for special tokens in the text.
PLACEHOLDERS = range(0xF0000, 0xF0010)

_PAGE = 256
_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)
_SEPARATOR = "\U0010fffe"  # a noncharacter that the normaliser passes through
# Everything assigned lies here; beyond are unassigned characters (kept) and private use (dropped).
_EXAMINED = (range(0x40000), range(0xE0000, 0xE1000))
_PRIVATE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


@dataclass(frozen=True)
class CharacterTable:
    """A two-level table: a code point's page, the page's codes, a code's replacement.

    Attributes:
        pages: (4352,) int32, the number of the page that holds 256 code points.
        codes: (pages · 256,) int32, the row of the replacement.
        values: (v,) int32, code points of all replacements, or `SELF`.
        row_lengths: (replacements,) int64, how many of `values` each has.
    """

    pages: np.ndarray
    codes: np.ndarray
    values: np.ndarray
    row_lengths: np.ndarray


@lru_cache(maxsize=4)
def character_table(
    lowercase: bool, strip_accents: bool, split_cjk: bool, special: tuple[str, ...]
) -> CharacterTable:
    """The table of one tokeniser configuration.

    `special[i]` replaces the character `PLACEHOLDERS[i]`, set apart by spaces.
    """
    rows: dict[tuple[int, ...], int] = {(SELF,): 0, (): 1}
    codes = np.zeros(_CODE_POINTS, np.int32)
    for private in _PRIVATE:
        codes[private.start : private.stop] = 1
    for point, text in _replacements(lowercase, strip_accents, split_cjk).items():
        row = tuple(SELF if ord(c) == point else ord(c) for c in text)
        codes[point] = rows.setdefault(row, len(rows))
    for point, token in zip(PLACEHOLDERS, special, strict=False):
        codes[point] = rows.setdefault(tuple(map(ord, f" {token} ")), len(rows))
    unique, pages = np.unique(codes.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return CharacterTable(
        pages=pages.reshape(-1).astype(np.int32),
        codes=unique.reshape(-1),
        values=np.array([value for row in rows for value in row], np.int32),
        row_lengths=np.array([len(row) for row in rows], np.int64),
    )


def _replacements(lowercase: bool, strip_accents: bool, split_cjk: bool) -> dict[int, str]:
    """What each examined character becomes, punctuation set apart by spaces."""
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=split_cjk,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    points = [p for examined in _EXAMINED for p in examined if p not in _SURROGATES]
    # One call for all: a call for each character would take seconds.
    normalised = normalizer.normalize_str(_SEPARATOR.join(map(chr, points)))
    apart = str.maketrans({c: f" {c} " for c in _punctuation(sorted(set(normalised)))})
    return dict(zip(points, normalised.translate(apart).split(_SEPARATOR), strict=True))


def _punctuation(characters: Sequence[str]) -> set[str]:
    """Those characters that the pre-tokeniser makes a word of their own."""
    text = "a" + "a".join(characters) + "a"
    pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)
    return {piece for piece, _ in pieces if len(piece) == 1} - {"a"}
