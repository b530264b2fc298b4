"""Record files, read back by TensorFlow."""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from heft.record_files import write_shards, write_stream
from heft.wire import encode_examples


def _block(first: int, rows: int) -> dict[str, pa.Array]:
    numbers = np.arange(first, first + rows)
    return {"id": pa.array([f"i{n}" for n in numbers]).cast(pa.binary()),
            "half": pa.array((numbers / 2).astype(np.float32))}  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_tensorflow_reads_every_record_in_order(tmp_path: Path, suffix: str) -> None:
    sizes = [5_000, 1, 0, 4_096]
    starts = np.cumsum([0, *sizes])[:-1].tolist()
    blocks = [lambda s=s, n=n: _block(s, n) for s, n in zip(starts, sizes, strict=True)]
    shards = [(str(tmp_path / f"{k}{suffix}"), blocks[k:]) for k in range(5)]
    write_shards(shards)
    for k, (path, _) in enumerate(shards):
        read = list(tf.data.TFRecordDataset(path, "GZIP" if suffix else "").as_numpy_iterator())
        expected = [data for s, n in list(zip(starts, sizes, strict=True))[k:]
                    for data in encode_examples(_block(s, n)).to_pylist()]  # fmt: skip
        assert read == expected


def test_bytes_do_not_depend_on_how_many_threads_there_are(tmp_path: Path) -> None:
    blocks = [lambda k=k: _block(k * 9_000, 9_000) for k in range(6)]
    write_shards([(str(tmp_path / "many.gz"), blocks)])
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        write_shards([(str(tmp_path / "one.gz"), blocks)])
    finally:
        os.sched_setaffinity(0, cores)
    assert (tmp_path / "many.gz").read_bytes() == (tmp_path / "one.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.gz").read_bytes())


def test_a_block_that_fails_says_why(tmp_path: Path) -> None:
    def broken() -> dict[str, pa.Array]:
        raise TypeError("no such column")

    with pytest.raises(TypeError, match="no such column"):
        write_shards([(str(tmp_path / "a.gz"), [broken])])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_stream_of_blocks_is_the_file_that_a_list_of_them_is(tmp_path: Path, suffix: str) -> None:
    for count in (0, 1, 7):
        blocks = [lambda k=k: _block(k * 500, 500 * (k != 3)) for k in range(count)]
        write_shards([(str(tmp_path / f"list{suffix}"), blocks)])
        write_stream(str(tmp_path / f"stream{suffix}"), iter(blocks))
        left, right = (tmp_path / f"{name}{suffix}" for name in ("list", "stream"))
        assert left.read_bytes() == right.read_bytes()


def test_a_stream_is_drawn_no_further_than_a_few_blocks_ahead(tmp_path: Path) -> None:
    drawn = made = most = 0

    def block() -> dict[str, pa.Array]:
        nonlocal made
        made += 1
        return _block(0, 10)

    def blocks() -> Iterator[Callable[[], dict[str, pa.Array]]]:
        nonlocal drawn, most
        for _ in range(200):
            drawn += 1
            most = max(most, drawn - made)
            yield block

    write_stream(str(tmp_path / "a.gz"), blocks())
    assert drawn == made == 200
    assert most <= 2 * len(os.sched_getaffinity(0)) + 1


def test_a_stream_that_fails_says_why(tmp_path: Path) -> None:
    def broken() -> dict[str, pa.Array]:
        raise TypeError("no such column")

    with pytest.raises(TypeError, match="no such column"):
        write_stream(str(tmp_path / "a.gz"), iter([broken]))
