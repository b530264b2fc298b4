"""Expressions that items are ordered by."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heft.ranking_expression import RankingExpression

A, B = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.0, -1.0])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a", A),
        ("a * b", A * B),
        (" a + b * 2 - 1", A + 2 * B - 1),
        ("(a + b) ** 2 / 4", (A + B) ** 2 / 4),
        ("-a", -A),
        ("log1p(a) * max(b, 0)", np.log1p(A) * np.maximum(B, 0)),
        ("min(a, 3) + abs(b) + sqrt(a) + exp(b) + log(a)",
         np.minimum(A, 3) + np.abs(B) + np.sqrt(A) + np.exp(B) + np.log(A)),
    ],
)  # fmt: skip
def test_an_expression_is_what_numpy_makes_of_it(text: str, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(RankingExpression(text)({"a": A, "b": B, "unused": ["x"]}), wanted)


def test_names_are_those_it_reads() -> None:
    assert RankingExpression("ctcvr * max(price - cost, 0)").names == {"ctcvr", "price", "cost"}


def test_what_cannot_be_computed_comes_last() -> None:
    values = RankingExpression("a / b + 0 * log(b)")({"a": A, "b": np.array([1.0, 0.0, -1.0])})
    assert values[0] == 1.0
    assert values[1] == values[2] == -math.inf


@pytest.mark.parametrize("text", ["a / b", "-log(b)", "a * exp(1000 * (1 - b))", "a * 9 ** 999"])
def test_a_division_by_zero_is_no_first_place(text: str) -> None:
    """Nor what is too large to be a number."""
    assert RankingExpression(text)({"a": A, "b": np.zeros(3)}).tolist() == [-math.inf] * 3


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a; b", "import os", "__import__('os')", "a.b", "a[0]", "'text'", "True",
     "a if b else 1", "lambda: 1", "a @ b", "a // b", "max(a)", "sum(a)", "max(a, b, key=1)",
     "a == b", "[a for a in b]", "(" * 500 + "a" + ")" * 500, "a" * 2_000,
     "a * 1" + "0" * 400, "a * 1e999"],
)  # fmt: skip
def test_nothing_else_is_an_expression(text: str) -> None:
    with pytest.raises(ValueError, match="such as 'ctcvr \\* price'"):
        RankingExpression(text)


@given(st.text(max_size=40))
def test_no_text_does_anything_but_be_refused_or_parsed(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert RankingExpression(text).names is not None


def test_a_column_that_is_missing_or_no_number_is_named() -> None:
    with pytest.raises(ValueError, match=r"names \['b'\]: expected some of \['a'\]"):
        RankingExpression("a * b")({"a": A})
    with pytest.raises(ValueError, match="'b' is not a number"):
        RankingExpression("a * b")({"a": A, "b": ["cheap", "dear", "free"]})
