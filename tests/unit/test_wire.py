"""Examples' bytes, against protobuf's own."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.wire import encode_examples

_int64 = st.integers(-(2**63), 2**63 - 1)
_float32 = st.floats(width=32)
_rows = st.lists(
    st.tuples(st.binary(max_size=300) | st.none(), _int64 | st.none(), _float32 | st.none()),
    max_size=20,
)


def _example(text: bytes | None, whole: int | None, number: float | None, name: str) -> bytes:
    example = tf.train.Example()
    feature = example.features.feature
    if text is not None:
        feature[f"{name}_text"].bytes_list.value.append(text)
    if whole is not None:
        feature["whole"].int64_list.value.append(whole)
    if number is not None:
        feature["zahl\u00fc"].float_list.value.append(number)
    data: bytes = example.SerializeToString(deterministic=True)
    return data


@settings(max_examples=200, deadline=None)
@given(_rows, st.text(st.characters(codec="utf-8"), max_size=200))
def test_bytes_are_protobufs_own(
    rows: list[tuple[bytes | None, int | None, float | None]], name: str
) -> None:
    text, whole, number = zip(*rows, strict=True) if rows else ((), (), ())
    encoded = encode_examples({
        "whole": pa.array(whole, pa.int64()), f"{name}_text": pa.array(text, pa.binary()),
        "zahl\u00fc": pa.array(np.array(number, object), pa.float32(), from_pandas=False),
    })  # fmt: skip
    expected = [_example(*row, name) for row in rows]
    # An Example without any feature has an empty Features here, none there.
    assert [b"" if data == b"\x0a\x00" else data for data in encoded.to_pylist()] == expected


_lists = st.lists(
    st.tuples(
        st.lists(st.binary(max_size=200), max_size=4) | st.none(),
        st.lists(_int64, max_size=4) | st.none(),
        st.lists(_float32, max_size=4) | st.none(),
        st.lists(_float32, min_size=3, max_size=3) | st.none(),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(_lists)
def test_bytes_of_lists_are_protobufs_own(rows: list[tuple[list | None, ...]]) -> None:
    names = ("texts", "wholes", "numbers", "fixed")
    types = (pa.binary(), pa.int64(), pa.float32(), pa.float32())
    columns = {}
    for k, (name, kind) in enumerate(zip(names, types, strict=True)):
        listed = pa.list_(kind, 3) if name == "fixed" else pa.list_(kind)
        values = [row[k] for row in rows]
        columns[name] = pa.array([None, *values], listed).slice(1)
    expected = []
    for row in rows:
        example = tf.train.Example()
        feature = example.features.feature
        for name, values in zip(names, row, strict=True):
            if values:
                kind = {"texts": "bytes_list", "wholes": "int64_list"}.get(name, "float_list")
                getattr(feature[name], kind).value.extend(values)
        expected.append(example.SerializeToString(deterministic=True))
    encoded = encode_examples(columns).to_pylist()
    assert [b"" if data == b"\x0a\x00" else data for data in encoded] == expected


def test_slices_and_other_types() -> None:
    column = pa.array([1, None, 300, -1]).slice(1)
    encoded = encode_examples({"a": column}).to_pylist()
    values = [tf.train.Example.FromString(data).features.feature for data in encoded]
    assert [list(v["a"].int64_list.value) for v in values] == [[], [300], [-1]]
    with pytest.raises(TypeError, match="column 'a' is double"):
        encode_examples({"a": pa.array([1.0])})
