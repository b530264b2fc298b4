"""Rows written as Transform's graph sees them, against the graph applied in memory."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from heft import features as f
from heft.errors import DataError
from heft.examples import read_columns, shard_paths
from heft.passes import local_pipeline
from heft.transform import transformed_features
from heft.transforming import transform_splits
from tests.unit.model.rows import Row, example, shop_graph, shop_rows, transformed


def _write(folder: Path, shards: list[list[Row]]) -> str:
    folder.mkdir(parents=True)
    for number, rows in enumerate(shards):
        path = str(folder / f"data_tfrecord-{number:05d}-of-{len(shards):05d}.gz")
        with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions("GZIP")) as writer:
            for row in rows:
                writer.write(example(row))
    return str(folder)


def test_every_row_of_every_split_comes_out_in_its_order(tmp_path: Path) -> None:
    rows = shop_rows()
    many = rows * 40  # more than a batch
    train = _write(tmp_path / "in/Split-train", [many, rows[:7], [], rows[7:]])
    tune = _write(tmp_path / "in/Split-tune", [rows[:3]])
    targets = {train: str(tmp_path / "out/Split-train"), tune: str(tmp_path / "out/Split-tune")}
    transform_splits(shop_graph().transform_savedmodel_dir + "/..", targets, local_pipeline)

    features = transformed_features(shop_graph())
    for source, own in ((train, [*many, *rows]), (tune, rows[:3])):
        paths = shard_paths(targets[source])
        assert len(paths) == len(shard_paths(source))
        found, want = read_columns(paths, features), transformed(own)
        assert found.keys() == want.keys()
        for name, values in want.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert {path.name for path in Path(targets[tune]).iterdir()} == {
        "transformed_examples-00000-of-00001.gz"
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"Split-train", "Split-tune"}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    source = _write(tmp_path / "in/Split-train", [shop_rows() * 40])
    contents = []
    for name in ("one", "two"):
        target = tmp_path / name
        graph = shop_graph().transform_savedmodel_dir + "/.."
        transform_splits(graph, {source: str(target)}, local_pipeline)
        [path] = target.iterdir()
        contents.append(gzip.decompress(path.read_bytes()))
    assert contents[0] == contents[1]
    assert f.QUERY_ID.encode() in contents[0]


def test_a_damaged_shard_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    source = _write(tmp_path / "in/Split-train", [shop_rows() * 40])
    [path] = Path(source).iterdir()
    path.write_bytes(path.read_bytes()[:2_000])
    graph = shop_graph().transform_savedmodel_dir + "/.."
    with pytest.raises(RuntimeError, match="truncated record"):
        transform_splits(graph, {source: str(tmp_path / "out")}, local_pipeline)
    assert not list((tmp_path / "out").iterdir()), "what was begun is not a shard"


def test_a_split_without_shards_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no examples under .*empty"):
        transform_splits("graph", {str(tmp_path / "empty"): "out"}, local_pipeline)
