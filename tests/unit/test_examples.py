"""Columns written as examples come back as they were."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError
from heft.examples import Feature, iterate_columns, read_columns, shard_paths, write_columns

FEATURES = [Feature("text", bytes), Feature("number", int), Feature("value", float)]

rows = st.lists(
    st.tuples(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"", b"\0", b"a\0b\0", b"\xff\xfe"])),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=32),  # NaN and the infinities among them
    ),
    max_size=12,
)


def _columns(drawn: list[tuple[bytes, int, float]]) -> dict[str, np.ndarray]:
    text = np.empty(len(drawn), object)
    text[:] = [row[0] for row in drawn]
    return {
        "text": text,
        "number": np.array([row[1] for row in drawn], np.int64),
        "value": np.array([row[2] for row in drawn], np.float32),
    }


@settings(deadline=None, max_examples=40)
@given(rows, st.sampled_from(["part.gz", "part"]))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[bytes, int, float]], name: str
) -> None:
    columns = _columns(drawn)
    path = tmp_path_factory.mktemp("split") / name
    assert write_columns(columns, path) == len(drawn)
    found = read_columns([str(path)], FEATURES)
    assert found["text"].tolist() == columns["text"].tolist()
    assert found["number"].tolist() == columns["number"].tolist()
    assert found["number"].dtype == np.int64 and found["value"].dtype == np.float32
    np.testing.assert_array_equal(found["value"], columns["value"])  # NaN equals NaN here


def test_a_nan_is_left_out_of_its_example_and_reads_as_the_default(tmp_path: Path) -> None:
    path = tmp_path / "part.gz"
    write_columns({"price": np.array([1.5, np.nan, 0.0])}, path)
    examples = [
        tf.train.Example.FromString(record)
        for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()
    ]
    written = [list(example.features.feature["price"].float_list.value) for example in examples]
    assert written == [[1.5], [], [0.0]]
    free = read_columns([str(path)], [Feature("price", float, -1.0)])
    assert free["price"].tolist() == [1.5, -1.0, 0.0]
    assert np.isnan(read_columns([str(path)], [Feature("price", float)])["price"][1])


def test_lists_of_numbers_come_back_and_one_of_nan_alone_is_absent(tmp_path: Path) -> None:
    image = np.array([[1, 2], [np.nan, np.nan], [np.nan, 4]], np.float32)
    ids = np.array([[1, -1, 2**62]] * 3)
    write_columns({"image": image, "ids": ids}, tmp_path / "part")
    asked = [Feature("image", float, 0.5, width=2), Feature("ids", int, width=3)]
    found = read_columns([str(tmp_path / "part")], asked)
    np.testing.assert_array_equal(found["image"], [[1, 2], [0.5, 0.5], [np.nan, 4]])
    np.testing.assert_array_equal(found["ids"], ids)
    assert [x.shape for x in read_columns([], asked).values()] == [(0, 2), (0, 3)]
    with pytest.raises(TypeError, match="'texts' of width 2: expected numbers"):
        Feature("texts", bytes, width=2)


def test_a_feature_that_no_row_has_takes_its_default(tmp_path: Path) -> None:
    write_columns({"click": np.array([True, False])}, tmp_path / "part.gz")
    asked = [Feature("click", int), Feature("brand", bytes, b"none"), Feature("grade", int, -1)]
    found = read_columns([str(tmp_path / "part.gz")], asked)
    assert found["click"].tolist() == [1, 0]
    assert found["brand"].tolist() == [b"none"] * 2
    assert found["grade"].tolist() == [-1, -1]


def test_rows_come_in_the_order_of_shards_and_in_batches(tmp_path: Path) -> None:
    for shard in (2, 0, 1):
        numbers = np.arange(5) + 5 * shard
        write_columns({"number": numbers}, tmp_path / "split" / f"part-{shard}.gz")
    paths = shard_paths(f"{tmp_path}/split/")
    assert [Path(path).name for path in paths] == ["part-0.gz", "part-1.gz", "part-2.gz"]
    batches = list(iterate_columns(paths, [Feature("number", int)], batch_size=4))
    assert [len(batch["number"]) for batch in batches] == [4, 1] * 3
    assert read_columns(paths, [Feature("number", int)])["number"].tolist() == list(range(15))


def test_no_rows_are_empty_columns_of_the_right_type() -> None:
    found = read_columns([], FEATURES)
    assert [(len(values), values.dtype) for values in found.values()] == [
        (0, np.dtype(object)), (0, np.dtype(np.int64)), (0, np.dtype(np.float32)),
    ]  # fmt: skip


@pytest.mark.parametrize("make", [False, True])
def test_a_split_without_shards_is_named(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "Split-train"
    if make:
        folder.mkdir()
    with pytest.raises(DataError, match=f"no examples under {folder}: expected TFRecord shards"):
        shard_paths(str(folder))
