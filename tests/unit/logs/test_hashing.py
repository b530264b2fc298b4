"""Hashes of ids, against pandas'."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.logs.hashing import hash_ids

_texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=40), max_size=30)


@settings(max_examples=100, deadline=None)
@given(_texts, st.integers(0, 5))
def test_hashes_are_those_of_pandas(texts: list[str], skipped: int) -> None:
    hashes = hash_ids(pa.array(texts, pa.string()).slice(skipped))
    expected = pd.util.hash_array(np.array(texts[skipped:], object), categorize=False)
    assert hashes.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_null_is_hashed_as_nothing(kind: pa.DataType) -> None:
    hashes = hash_ids(pa.array(["a", None, "", "b" * 9], kind))
    assert hashes[1] == hashes[2] != hashes[0]
