"""What counts as a row, and what becomes of a bad one, in every format."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError
from heft.logs import lines
from heft.logs.canonical import canonical_columns
from heft.logs.fields import stream_fields
from heft.logs.files import LogFile
from heft.logs.reading import Batch, read_batches
from heft.logs.settings import StreamSettings
from tests.unit.logs.logbook import encode, put

FORMATS = [
    f".{kind}{packed}" for kind in ("csv", "jsonl", "parquet") for packed in ("", ".gz", ".zst")
]


def _read(path: Path, stream: str = "clicks", **stream_settings: Any) -> list[Batch]:
    file = LogFile(stream, str(path), path.name, path.stat().st_size, 0)
    own = StreamSettings(path="unused", **stream_settings)
    return list(read_batches(file, own, stream_fields(stream, (), ())))


def _values(batches: list[Batch], name: str) -> list[Any]:
    return [value for batch in batches for value in batch.columns[name].to_pylist()]


def _reasons(batches: list[Batch]) -> dict[int, str]:
    return {row.line: row.reason for batch in batches for row in batch.rejected}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"impression_id": f"i,{n}\u00e9", "timestamp": 1_000 * n, "value": n / 4} for n in range(9)
    ]
    batches = _read(put(tmp_path, f"x{suffix}", rows), "conversions")
    assert _values(batches, "impression_id") == [row["impression_id"] for row in rows]
    assert _values(batches, "timestamp") == [row["timestamp"] for row in rows]
    assert _values(batches, "value") == [row["value"] for row in rows]
    assert not _reasons(batches)


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("s", 1_700_000_000.123), ("ms", 1_700_000_000_123), ("us", 1_700_000_000_123_999),
        ("iso", "2023-11-14T22:13:20.123Z"), ("iso", "2023-11-14T23:13:20.123+01:00"),
        ("iso", "2023-11-14 22:13:20.123+00"), ("iso", "2023-11-14t22:13:20.123z"),
        ("iso", "2023-11-14T22:13:20,123Z"), ("iso", "2023-11-14 22:13:20.123 UTC"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_times_become_milliseconds(tmp_path: Path, unit: str, written: Any, suffix: str) -> None:
    path = put(tmp_path, f"x{suffix}", [{"impression_id": "a", "timestamp": written}])
    assert _values(_read(path, timestamp_unit=unit), "timestamp") == [1_700_000_000_123]


def test_a_parquet_timestamp_knows_its_own_unit(tmp_path: Path) -> None:
    time = pa.array([1_700_000_000_123_000_000], pa.timestamp("ns", "Europe/Berlin"))
    pq.write_table(pa.table({"impression_id": ["a"], "timestamp": time}), tmp_path / "x.parquet")
    assert _values(_read(tmp_path / "x.parquet", timestamp_unit="s"), "timestamp") == [
        1_700_000_000_123
    ]


@pytest.mark.parametrize(
    ("unit", "a_second"), [("s", 1), ("ms", 1_000), ("us", 10**6), ("ns", 10**9)]
)
def test_a_timestamp_too_large_does_not_come_round_to_a_good_one(unit: str, a_second: int) -> None:
    ticks = [2**62, 2**62 + 1_700_000_000 * a_second, -1, 5 * a_second, None]
    (field,) = [f for f in stream_fields("clicks", (), ()) if f.name == "timestamp"]
    array = pa.array(ticks, pa.timestamp(unit))
    columns, faults = canonical_columns({"timestamp": array}, [field], "ms", len(ticks))
    assert faults.good.tolist() == [False, False, False, True, False]
    assert columns["timestamp"][3].as_py() == 5_000


_BAD_IMPRESSIONS = {
    "impression_id: missing value": {"impression_id": ""},
    "position: below 1": {"position": 0},
    "position: not a whole number": {"position": 1.5},
    "position: not a number": {"position": "first"},
    "position: missing value": {"position": None},
    "timestamp: not a time": {"timestamp": "yesterday"},
    "timestamp: outside the years 1970 to 2099": {"timestamp": 1_200_000_000_000_000},
    "propensity: outside (0, 1]": {"propensity": 0},
    "price: not a finite number": {"price": float("inf")},
    "query: NUL character": {"query": "a\0b"},
    "randomised: neither true nor false": {"randomised": "maybe"},
}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("reason", _BAD_IMPRESSIONS)
def test_a_bad_value_costs_its_row_and_no_other(tmp_path: Path, suffix: str, reason: str) -> None:
    good = {"impression_id": "a", "request_id": "r", "item_id": "p", "query": "q", "position": 1,
            "timestamp": 5, "randomised": 1, "propensity": 0.5, "price": 2.0}  # fmt: skip
    rows = [good, good | _BAD_IMPRESSIONS[reason], good | {"impression_id": "c"}]
    batches = _read(put(tmp_path, f"x{suffix}", rows), "impressions")
    line = 3 if suffix == ".csv" else 2
    wrong = "not a number" if reason == "timestamp: not a time" else None
    assert _reasons(batches) == {line: f"timestamp: {wrong}" if wrong else reason}
    assert _values(batches, "impression_id") == ["a", "c"]
    assert sum(batch.read for batch in batches) == 3


def test_malformed_lines_are_kept_with_their_number_and_text(tmp_path: Path) -> None:
    data = (
        b"\xef\xbb\xbfimpression_id,timestamp\r\na,1\r\n\r\nonly one\r\n"
        b'"open,2\r\nb,2\r\n\xff,3\r\nc,3,4\r\n"d, ""e""",4'
    )
    batches = _read(put(tmp_path, "x.csv", data))
    assert _values(batches, "impression_id") == ["a", "b", 'd, "e"']
    assert [(r.line, r.raw) for batch in batches for r in batch.rejected] == [
        (4, "only one"), (5, '"open,2'), (7, "\\xff,3"), (8, "c,3,4"),
    ]  # fmt: skip
    assert _reasons(batches)[5] == "malformed: unbalanced quote"


def test_json_lines_of_all_kinds_of_wrong(tmp_path: Path) -> None:
    bad = [b"{", b"[]", b"null", b'{"impression_id":{},"timestamp":1}', b'{"timestamp":1}',
           b'{"impression_id":"\xfe","timestamp":1}', b'{"impression_id":"\\ud800","timestamp":1}',
           b'{"impression_id":"x","timestamp":NaN}', b"{" * 100_000]  # fmt: skip
    good = b'{"impression_id":7,"timestamp":"8"}'
    batches = _read(put(tmp_path, "x.jsonl", b"\n".join([good, *bad, good])))
    assert list(_reasons(batches)) == list(range(2, 2 + len(bad)))
    assert _values(batches, "impression_id") == ["7", "7"]
    assert _values(batches, "timestamp") == [8, 8]


def test_nested_and_renamed_columns(tmp_path: Path) -> None:
    row = {"event": {"id": "a", "at": {"ms": 5}}, "impression_id": "decoy"}
    columns = {"impression_id": "event.id", "timestamp": "event.at.ms"}
    for suffix in (".jsonl", ".parquet"):
        batches = _read(put(tmp_path, f"x{suffix}", [row]), columns=columns)
        assert _values(batches, "impression_id") == ["a"]
        assert _values(batches, "timestamp") == [5]


def test_quoted_newlines_only_where_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "x.csv", b'impression_id,timestamp\n"a\nb",1\nc,2\n"d\n",x\ne,3\n')
    allowed = _read(path, quoted_newlines=True)
    assert _values(allowed, "impression_id") == ["a\nb", "c", "e"]
    assert _reasons(allowed) == {5: "timestamp: not a number"}
    refused = _read(path)
    assert _values(refused, "impression_id") == ["c", "e"]
    assert sum(batch.read for batch in refused) == 6


def test_blocks_cut_between_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"impression_id": f"\u00e9{n}\n" * (n % 5), "timestamp": n} for n in range(1, 200)]
    path = put(tmp_path, "x.csv", rows)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 7)
    batches = _read(path, quoted_newlines=True)
    kept = [row for row in rows if row["impression_id"]]
    assert _values(batches, "impression_id") == [row["impression_id"] for row in kept]
    places = [int(place) for batch in batches for place in batch.places]
    assert places == [int(row["timestamp"]) - 1 for row in kept]


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.zst", ".parquet"])
def test_a_file_cut_in_half_is_named(tmp_path: Path, suffix: str) -> None:
    rows = [{"impression_id": f"id {n * 7919 % 997}", "timestamp": n} for n in range(4_000)]
    data = encode(rows, suffix)
    path = put(tmp_path, f"cut{suffix}", data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"clicks: cut{suffix} cannot be read to its end"):
        _read(path)


_line = st.one_of(
    st.binary(max_size=40),
    st.text(alphabet='a,"1\r\\{}:[] ', max_size=30).map(str.encode),
    st.builds(
        lambda i, t: json.dumps({"impression_id": i, "timestamp": t}).encode(),
        st.text(max_size=5) | st.none() | st.integers(), st.integers() | st.floats() | st.text(),
    ),
    st.builds(lambda i, t: f"{i},{t}".encode(), st.integers(), st.integers(0, 10**12)),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(_line, min_size=1, max_size=12), st.sampled_from([".csv", ".jsonl"]))
def test_whatever_the_bytes_no_line_is_lost(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes], suffix: str
) -> None:
    found = [line.replace(b"\n", b"") for line in found]
    head = [b"impression_id,timestamp"] if suffix == ".csv" else []
    path = put(tmp_path_factory.getbasetemp(), f"fuzz{suffix}", b"\n".join(head + found))
    batches = _read(path)
    lines_read = sum(1 for line in found if line not in (b"", b"\r"))
    assert sum(batch.read for batch in batches) == lines_read
    kept = sum(len(batch.places) for batch in batches)
    assert kept + len(_reasons(batches)) == lines_read
