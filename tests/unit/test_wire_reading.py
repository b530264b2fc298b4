"""Reading shards, held against `tf.io.parse_example`, and against damage."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError
from heft.examples import Feature, read_columns
from heft.wire_reading import read_shard

FEATURES = [
    Feature("price", float, -1.0),
    Feature("id", int, 7),
    Feature("query", bytes, b"none"),
    Feature("café", int),
    Feature("nan", float),
    Feature("image", float, width=3),
    Feature("known", float, 0.5, width=1),
    Feature("ids", int, -1, width=4),
]
_TF = {bytes: tf.string, int: tf.int64, float: tf.float32}


def _by_parse_example(records: list[bytes]) -> dict[str, np.ndarray]:
    spec = {
        f.name: tf.io.FixedLenFeature(
            [f.width] if f.width else [],
            _TF[f.dtype],
            [f.fallback] * f.width if f.width else f.fallback,
        )
        for f in FEATURES
    }
    return {name: x.numpy() for name, x in tf.io.parse_example(records, spec).items()}


def _write(records: list[bytes], path: Path) -> str:
    options = "GZIP" if path.suffix == ".gz" else ""
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def _read(path: str, batch_rows: int = 3, chunk: int = 1 << 20) -> dict[str, np.ndarray]:
    batches = list(read_shard(path, FEATURES, batch_rows, chunk))
    assert all(len(batch["id"]) == batch_rows for batch in batches[:-1])
    if not batches:
        return {}
    return {f.name: np.concatenate([b[f.name] for b in batches]) for f in FEATURES}


numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32, allow_nan=True)
rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "price": floats,
            "id": numbers,
            "query": st.binary(max_size=300),
            "café": numbers,
            "nan": floats,
            "unwanted": st.binary(max_size=40),
            "Price": floats,
            "empty": st.none(),
            "image": st.lists(floats, min_size=3, max_size=3),
            "known": floats,
            "ids": st.lists(numbers, min_size=4, max_size=4),
            "many": st.lists(floats, max_size=5),
        },
    ),
    max_size=12,
)


def _example(row: dict, empty: bool = False) -> bytes:
    proto = tf.train.Example()
    for name, x in row.items():
        feature = proto.features.feature[name]
        if isinstance(x, list):
            floating = not x or isinstance(x[0], float)
            (feature.float_list if floating else feature.int64_list).value.extend(x)
        elif isinstance(x, bytes):
            feature.bytes_list.value.append(x)
        elif isinstance(x, float):
            feature.float_list.value.append(x)
        elif isinstance(x, int):
            feature.int64_list.value.append(x)
    if empty:  # a feature without a list
        proto.features.feature["query"].Clear()
    return proto.SerializeToString()


@settings(deadline=None, max_examples=150)
@given(rows, st.booleans(), st.sampled_from([1, 7, 64, 1 << 20]), st.sampled_from(["", ".gz"]))
def test_any_rows_come_out_as_tensorflow_reads_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], empty: bool, chunk: int, end: str
) -> None:
    records = [_example(row, empty and k % 2 == 0) for k, row in enumerate(rows)]
    path = _write(records, tmp_path_factory.mktemp("shard") / f"a{end}")
    got = _read(path, chunk=chunk)
    if not records:
        assert got == {}
        return
    for name, want in _by_parse_example(records).items():
        assert got[name].dtype == want.dtype
        np.testing.assert_array_equal(got[name], want)


def _field(tag: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    return bytes([tag, len(payload)]) + payload


def test_lists_that_are_not_packed_and_fields_nobody_knows(tmp_path: Path) -> None:
    price = _field(0x0A, b"price") + _field(0x12, _field(0x12, b"\x0d" + np.float32(2.5).tobytes()))
    number = _field(0x0A, b"id") + _field(0x12, _field(0x1A, b"\x08\x96\x01"))
    strange = b"\x18\x05" + b"\x25" + bytes(4) + b"\x29" + bytes(8) + _field(0x3A, b"later")
    features = strange + _field(0x0A, price + strange) + _field(0x0A, number)
    record = strange + _field(0x0A, features)
    got = _read(_write([record, record], tmp_path / "a"))
    assert got["price"].tolist() == [2.5, 2.5]
    assert got["id"].tolist() == [150, 150]


def test_numbers_of_a_list_may_come_in_parts_and_not_packed(tmp_path: Path) -> None:
    one, two, three = (np.float32(x).tobytes() for x in (1, 2, 3))
    parts = _field(0x0A, one) + b"\x0d" + two + _field(0x0A, three)
    image = _field(0x0A, b"image") + _field(0x12, _field(0x12, parts))
    whole = b"\x08\x96\x01" + _field(0x0A, b"\x01\x02\x03")
    ids = _field(0x0A, b"ids") + _field(0x12, _field(0x1A, whole))
    record = _field(0x0A, _field(0x0A, image) + _field(0x0A, ids))
    got = _read(_write([record, record], tmp_path / "a"))
    assert got["image"].tolist() == [[1, 2, 3]] * 2
    assert got["ids"].tolist() == [[150, 1, 2, 3]] * 2


@pytest.mark.parametrize("count", [1, 2, 4, 200])
def test_a_list_of_another_length_is_named(tmp_path: Path, count: int) -> None:
    rows = [{"image": [1.0] * 3, "price": 1.0}, {"image": [1.0] * count, "price": 1.0}]
    path = _write([_example(row) for row in rows], tmp_path / "short.gz")
    with pytest.raises(
        DataError,
        match=r"short.gz, record 2, feature 'image': a list of another length: expected 3 float",
    ):
        _read(path)
    path = _write([_example({"image": [1, 2, 3]})], tmp_path / "kind.gz")
    with pytest.raises(DataError, match=r"feature 'image': values of another kind"):
        _read(path)


def test_a_list_without_a_value_is_an_absent_one(tmp_path: Path) -> None:
    proto = tf.train.Example()
    proto.features.feature["id"].int64_list.value[:] = []
    assert _read(_write([proto.SerializeToString()], tmp_path / "a"))["id"].tolist() == [7]


def test_gzip_members_one_after_another_are_one_shard(tmp_path: Path) -> None:
    parts = [
        Path(_write([_example({"id": k})], tmp_path / f"{k}.gz")).read_bytes() for k in range(3)
    ]
    (tmp_path / "all.gz").write_bytes(b"".join(parts))
    for chunk in (1, 10, 1 << 20):
        assert _read(str(tmp_path / "all.gz"), chunk=chunk)["id"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_shard_that_is_cut_off_anywhere_is_noticed(tmp_path: Path, end: str) -> None:
    records = [_example({"id": k, "query": b"drill" * k, "price": 1.0 * k}) for k in range(4)]
    whole = Path(_write(records, tmp_path / f"whole{end}")).read_bytes()
    frames = {0}
    for record in records:
        frames.add(max(frames) + len(record) + 16)
    path = tmp_path / f"cut{end}"
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        if not end and size in frames:
            continue  # what follows a whole record is not missed by anyone
        with pytest.raises(DataError, match=r"cut.*(ends within record|cut off|damaged)"):
            _read(str(path))


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_changed_byte_is_noticed(tmp_path: Path, end: str) -> None:
    records = [_example({"id": k, "query": b"drill" * k, "price": 1.0 * k}) for k in range(4)]
    whole = Path(_write(records, tmp_path / f"whole{end}")).read_bytes()
    want = _read(str(tmp_path / f"whole{end}"))
    path = tmp_path / f"bad{end}"
    # The first ten bytes of gzip are a header, of which time and system say nothing.
    for place in range(10 if end else 0, len(whole)):
        bad = bytearray(whole)
        bad[place] ^= 1 << random.Random(place).randrange(8)
        path.write_bytes(bad)
        try:
            got = _read(str(path))
        except DataError:
            continue
        # Nothing but an empty gzip field may change without a word.
        for name, x in want.items():
            np.testing.assert_array_equal(got[name], x)


def test_more_than_one_value_and_another_kind_name_shard_record_and_feature(
    tmp_path: Path,
) -> None:
    proto = tf.train.Example()
    proto.features.feature["id"].int64_list.value[:] = [1, 2]
    good = _example({"id": 1})
    path = _write([good, good, proto.SerializeToString()], tmp_path / "many.gz")
    with pytest.raises(DataError, match=r"many.gz, record 3, feature 'id': more than one value"):
        _read(path)
    path = _write([_example({"id": 1.5})], tmp_path / "kind.gz")
    with pytest.raises(DataError, match=r"record 1, feature 'id': values of another kind.*one int"):
        _read(path)
    path = _write([good, b"no example at all"], tmp_path / "none.gz")
    with pytest.raises(DataError, match="none.gz, record 2: it is no tf.Example"):
        _read(path)


def test_a_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"impression_id,click\n" * 10))
    with pytest.raises(DataError, match="record 1: its checksum or length is wrong"):
        _read(str(tmp_path / "text.gz"))
    (tmp_path / "plain.gz").write_bytes(b"impression_id,click\n" * 10)
    with pytest.raises(DataError, match="damaged"):
        _read(str(tmp_path / "plain.gz"))


def test_many_shards_are_one_column(tmp_path: Path) -> None:
    paths = [_write([_example({"id": k})] * 2, tmp_path / f"{k}.gz") for k in range(3)]
    assert read_columns(paths, [Feature("id", int)])["id"].tolist() == [0, 0, 1, 1, 2, 2]
