"""An id is the same in every format, and by every way a line is read."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.logs.logbook import put
from tests.unit.logs.test_reading import _read, _reasons, _values

BAD = b'{"impression_id": \n'


def _ids(path: Path, **settings: Any) -> list[Any]:
    return _values(_read(path, **settings), "impression_id")


@pytest.mark.parametrize("bad", [b"", BAD], ids=["clean", "one bad line"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["123.0", "7.0"], ["123", "7"]),
        (["123", "7.0"], ["123", "7"]),
        (["100000000000000001", "2.0"], ["100000000000000001", "2"]),
        (["100000000000000001", "1.5"], ["100000000000000001", "1.5"]),
        (["123456789012345.0", "18446744073709551615"],
         ["123456789012345", "18446744073709551615"]),
        (['"00123"', '"12e45"', '"1.2.0"', '"x.0"', '"1.50"', '"00.0"'],
         ["00123", "12e45", "1.2.0", "x.0", "1.50", "00.0"]),
        (['"123.0"', '"-4.000"', '"1.5e+17"'], ["123", "-4", "150000000000000000"]),
    ],
)  # fmt: skip
def test_a_whole_number_has_one_form_in_json(
    tmp_path: Path, written: list[str], expected: list[str], bad: bytes
) -> None:
    rows = b"".join(b'{"impression_id": %s, "timestamp": 1}\n' % w.encode() for w in written)
    assert _ids(put(tmp_path, "x.jsonl", rows + bad)) == expected


def test_a_fraction_far_down_the_file_rounds_no_id(tmp_path: Path) -> None:
    ids = [10**17 + n for n in range(300)]
    written: list[Any] = [*ids[:250], 1.5, *ids[250:]]
    rows = [{"impression_id": value, "timestamp": 1} for value in written]
    assert _ids(put(tmp_path, "x.jsonl", rows)) == [str(value) for value in written]


def test_parquet_csv_and_json_name_the_same_rows(tmp_path: Path) -> None:
    ids = [123.0, 123456789012345.0, 0.5, 3e16]
    expected = ["123", "123456789012345", "0.5", "30000000000000000"]
    rows = [{"impression_id": value, "timestamp": 1} for value in ids]
    for suffix in (".csv", ".jsonl", ".parquet"):
        assert _ids(put(tmp_path, f"x{suffix}", rows)) == expected, suffix
    table = pa.table({"impression_id": pa.array([123, None], pa.decimal128(20, 2)),
                      "timestamp": [1, 1]})  # fmt: skip
    pq.write_table(table, tmp_path / "decimal.parquet")
    assert _ids(tmp_path / "decimal.parquet") == ["123"]


def test_users_have_one_form_and_queries_stay_as_they_were_typed(tmp_path: Path) -> None:
    row = {"impression_id": 1, "request_id": 2.0, "item_id": "3.0", "user_id": 4.0, "position": 1,
           "query": "5.0", "timestamp": 6}  # fmt: skip
    for suffix in (".csv", ".jsonl", ".parquet"):
        batches = _read(put(tmp_path, f"x{suffix}", [row]), "impressions")
        found = {name: _values(batches, name)[0] for name in row}
        assert found | {"query": "5.0"} == {
            "impression_id": "1", "request_id": "2", "item_id": "3", "user_id": "4",
            "position": 1, "query": "5.0", "timestamp": 6,
        }, suffix  # fmt: skip
        assert found["query"] == "5.0", suffix
    graded = put(tmp_path, "grades.csv", [{"query": "5.0", "item_id": "3.0", "grade": 1}])
    batches = _read(graded, "grades")
    assert (_values(batches, "query"), _values(batches, "item_id")) == (["5.0"], ["3"])


@pytest.mark.parametrize("bad", [b"", BAD], ids=["clean", "one bad line"])
def test_a_key_with_a_dot_is_read_as_it_stands(tmp_path: Path, bad: bytes) -> None:
    records: list[dict[str, Any]] = [
        {"event.id": "a", "event.at": 1},
        {"event": {"id": "b", "at": 2}},
        {"event.id": "c", "event": {"id": "decoy", "at": 3}},
        {"event.id": None, "event": {"id": "d", "at": 4}},
    ]
    columns = {"impression_id": "event.id", "timestamp": "event.at"}
    for number, some in enumerate((records, records[:1], records[1:2])):
        data = "".join(json.dumps(record) + "\n" for record in some).encode()
        batches = _read(put(tmp_path, f"{number}.jsonl", data + bad), columns=columns)
        expected = [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
        expected = [expected[records.index(record)] for record in some]
        found = zip(_values(batches, "impression_id"), _values(batches, "timestamp"), strict=True)
        assert list(found) == expected
        assert len(_reasons(batches)) == bool(bad)
