"""Record files, read back by TensorFlow."""

import gzip
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from heft.record_files import write_shards
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
