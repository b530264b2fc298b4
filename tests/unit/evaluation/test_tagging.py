"""Slices that follow from training are on each row, and nothing else of a record changes."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from heft import features as f
from heft.evaluation.tagging import SliceSettings, _varint, _with_entries, query_bands, tag_examples
from heft.examples import Feature, read_columns, write_columns


def _bytes(values: list[str]) -> np.ndarray:
    return np.array([value.encode() for value in values], object)


def test_head_torso_and_tail_are_shares_of_impressions() -> None:
    queries = _bytes(["a"] * 30 + ["b"] * 5 + ["c"] * 30 + ["d"] * 15 + ["e"] * 10 + ["f"] * 10)
    bands = query_bands(queries, SliceSettings(head=0.3, torso=0.7))
    # a begins at 0 and c at .3, d at .6, e at .75.
    assert bands == {b"a": b"head", b"c": b"torso", b"d": b"torso", b"e": b"tail", b"f": b"tail",
                     b"b": b"tail"}  # fmt: skip
    with pytest.raises(ValueError, match="must be below torso"):
        SliceSettings(head=0.5, torso=0.4)


def test_the_order_of_rows_changes_no_band() -> None:
    rng = np.random.default_rng(0)
    queries = _bytes([f"q{k}" for k in rng.zipf(1.5, 2_000).clip(max=300)])
    assert query_bands(queries, SliceSettings()) == query_bands(
        rng.permutation(queries), SliceSettings()
    )


@pytest.mark.parametrize("suffix", [".gz"])
def test_rows_are_tagged_and_otherwise_as_they_were(tmp_path: Path, suffix: str) -> None:
    train = {
        f.QUERY: _bytes(["tv"] * 8 + ["hose", "lamp"]),
        f.ITEM_ID: _bytes([*"abababab", "c", "d"]),
    }
    write_columns(train, tmp_path / f"Split-train/a{suffix}")
    view = {
        f.QUERY: _bytes(["tv", "hose", "lamp", "\u202eküche", ""]),
        f.ITEM_ID: _bytes(["a", "z", "d", "b", ""]),
        f.CLICK: np.array([0, 1, 0, 1, 0]),
        f.PRICE: np.array([1.5, np.nan, 3.0, 4.0, np.nan]),
        f.TITLE: _bytes(["t" * 300, "", "x", "\0", "y"]),
    }
    write_columns(view, tmp_path / f"Split-natural/a{suffix}")
    write_columns({n: v[:0] for n, v in view.items()}, tmp_path / f"Split-shuffled/a{suffix}")
    paths = {s: [str(tmp_path / f"Split-{s}/a{suffix}")] for s in ("natural", "shuffled")}
    written = tag_examples([str(tmp_path / f"Split-train/a{suffix}")], paths, str(tmp_path / "out"))
    assert written == {"natural": 5, "shuffled": 0}
    tagged = tmp_path / f"out/Split-natural/a{suffix}"
    found = read_columns([str(tagged)], [Feature(n, bytes) for n in f.DERIVED_SLICES])
    # The one query of the head is more than two thirds of training.
    # In the order of their queries: "", hose, lamp, tv, and what is not English.
    assert found[f.QUERY_FREQUENCY].tolist() == [b"unseen", b"tail", b"tail", b"head", b"unseen"]
    assert found[f.ITEM_NOVELTY].tolist() == [b"new", b"new", b"known", b"known", b"known"]
    records = [
        [tf.train.Example.FromString(row.numpy()) for row in tf.data.TFRecordDataset(path, "GZIP")]
        for path in (paths["natural"][0], str(tagged))
    ]
    in_order = [records[0][row] for row in (4, 1, 2, 0, 3)]
    for before, after in zip(in_order, records[1], strict=True):
        for name in f.DERIVED_SLICES:
            del after.features.feature[name]
        assert before == after


def test_every_reader_of_a_tagged_record_sees_both(tmp_path: Path) -> None:
    """Protocol buffers, TensorFlow's own parser and the one that TFMA reads with."""
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2.0)
    more = tf.train.Features()
    more.feature["y"].bytes_list.value.append(b"new")
    record = _with_entries(example.SerializeToString(), more.SerializeToString())
    parsed = tf.io.parse_single_example(
        record,
        {"x": tf.io.FixedLenFeature([], tf.float32), "y": tf.io.FixedLenFeature([], tf.string)},
    )
    assert (float(parsed["x"]), parsed["y"].numpy()) == (2.0, b"new")
    batch = ExamplesToRecordBatchDecoder().DecodeBatch([record])
    assert batch.to_pydict() == {"x": [[2.0]], "y": [[b"new"]]}


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=400), max_size=8))
def test_features_are_added_to_any_example(values: dict[str, bytes]) -> None:
    example, more = tf.train.Example(), tf.train.Features()
    for name, value in values.items():
        example.features.feature[name].bytes_list.value.append(value)
    more.feature["added"].int64_list.value.append(7)
    tagged = _with_entries(example.SerializeToString(), more.SerializeToString())
    example.features.feature["added"].CopyFrom(more.feature["added"])
    assert tf.train.Example.FromString(tagged) == example


@given(st.integers(0, 2**40))
def test_a_length_is_written_as_protocol_buffers_do(value: int) -> None:
    from google.protobuf.internal.encoder import _VarintBytes

    assert _varint(value) == _VarintBytes(value)
