"""Bad input is said in one sentence, before anything is written."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from heft.errors import DataError
from heft.logs import LogsSettings, StreamSettings, input_fingerprint, preflight
from heft.logs.fields import stream_fields
from heft.logs.files import LogFile
from heft.logs.reading import read_batches
from tests.unit.logs.logbook import put, put_shop, shop

Log = dict[str, list[dict[str, Any]]]


def _without(stream: str, column: str) -> Callable[[Log], None]:
    def change(log: Log) -> None:
        log[stream] = [{k: v for k, v in row.items() if k != column} for row in log[stream]]

    return change


def _all(stream: str, column: str, value: Any) -> Callable[[Log], None]:
    def change(log: Log) -> None:
        log[stream] = [row | {column: value} for row in log[stream]]

    return change


@pytest.mark.parametrize("suffix", [".csv", ".jsonl.gz", ".parquet"])
def test_a_good_log_passes(tmp_path: Path, suffix: str) -> None:
    looked = preflight(LogsSettings(root=str(put_shop(tmp_path, shop(), suffix, span=3))))
    assert looked.span == 3
    assert looked.files == {"impressions": 2, "clicks": 1, "conversions": 1, "catalogue": 1}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without("impressions", "query"),
            (r"impressions: column 'query' is not in impressions/span-1/part-0\S+, which has "
            r"\['device', 'impression_id'.*`impressions.columns`"),
        ),
        (_without("clicks", "impression_id"), r"clicks: column 'impression_id' is not in"),
        (_without("catalogue", "title"), r"catalogue: column 'title' is not in"),
        (_all("impressions", "position", "first"), r"impressions: column 'position' of"),
        (_all("clicks", "timestamp", "2024-01-01"), (r"clicks: column 'timestamp' of.*'iso'|"
         r"clicks: column 'timestamp' of.*timestamp_unit")),
        (_without("impressions", "device"), r"column 'device' is named in `categorical`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_column_is_named(
    tmp_path: Path, suffix: str, change: Callable[[Log], None], message: str
) -> None:
    log = shop()
    change(log)
    settings = LogsSettings(root=str(put_shop(tmp_path, log, suffix)), categorical=("device",))
    with pytest.raises(DataError, match=message) as caught:
        preflight(settings)
    assert "\n" not in str(caught.value)


def test_a_number_where_dates_were_announced(
    tmp_path: Path,
) -> None:
    root = str(put_shop(tmp_path, shop(), ".parquet"))
    iso = StreamSettings(path="impressions/span-{SPAN}/*", timestamp_unit="iso")
    with pytest.raises(DataError, match="is int64, expected ISO 8601 text"):
        preflight(LogsSettings(root=root, impressions=iso))


def test_a_missing_root_span_or_stream(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'/nowhere' is not a folder"):
        preflight(LogsSettings(root="/nowhere"))
    with pytest.raises(DataError, match=r"no files match impressions\.path"):
        preflight(LogsSettings(root=str(tmp_path)))
    put_shop(tmp_path, shop(), span=7)
    with pytest.raises(DataError, match=r"span=8 is not there: .* has the spans 7"):
        preflight(LogsSettings(root=str(tmp_path), span=8))
    with pytest.raises(DataError, match=r"grades: no files match .*set `grades: null`"):
        preflight(LogsSettings(root=str(tmp_path), grades=StreamSettings(path="grades/*")))


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", b""), ("a.csv", b"\n\n"), ("a.jsonl", b""), ("_SUCCESS", b"x"),
     ("a.csv", b"impression_id,request_id,item_id,query,position,timestamp\n")],
)  # fmt: skip
def test_an_empty_span(tmp_path: Path, name: str, data: bytes) -> None:
    put_shop(tmp_path, {k: v for k, v in shop().items() if k != "impressions"})
    put(tmp_path, f"impressions/span-1/{name}", data)
    with pytest.raises(DataError, match="hold no rows|no files match"):
        preflight(LogsSettings(root=str(tmp_path)))


def test_an_empty_parquet_file(tmp_path: Path) -> None:
    put_shop(tmp_path, shop(), ".parquet")
    for path in (tmp_path / "impressions/span-1").iterdir():
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="impressions: the 2 files for span 1 .* hold no rows"):
        preflight(LogsSettings(root=str(tmp_path)))


def test_a_damaged_or_unknown_file(tmp_path: Path) -> None:
    put_shop(tmp_path, shop(), ".parquet")
    path = put(tmp_path, "clicks/span-1/zz.parquet", b"PAR1 and no more")
    with pytest.raises(DataError, match=r"clicks: clicks/span-1/zz.parquet cannot be read"):
        preflight(LogsSettings(root=str(tmp_path)))
    path.rename(path.with_suffix(".xlsx"))
    with pytest.raises(DataError, match=r"cannot tell the format of clicks/span-1/zz.xlsx"):
        preflight(LogsSettings(root=str(tmp_path)))


def _csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(delimiter.join(map(str, line)) + "\n" for line in lines).encode()


def _array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=1).encode()


@pytest.mark.parametrize(
    ("suffix", "written", "message"),
    [
        (".csv", lambda rows: _csv(rows).replace(b"\n", b"\r"), "lone carriage return"),
        (".csv", lambda rows: b"a\r" + _csv(rows), "lone carriage return"),
        (".csv", lambda rows: _csv(rows).decode().encode("utf-16"), "is UTF-16, expected UTF-8"),
        (".csv", lambda rows: _csv(rows).replace(b"device", b"query", 1),
         "has 2 columns named 'query'"),
        (".json", _array, "is one JSON array, expected JSON Lines"),
        (".json", lambda rows: json.dumps(rows).encode(), "is one JSON array"),
        (".json", lambda rows: json.dumps(rows).encode("utf-16"), "is UTF-16, expected UTF-8"),
        (".csv", lambda rows: b"\xef\xbb\xbf", "hold no rows"),
        (".csv", lambda rows: b"\xef\xbb\xbf\n", "hold no rows"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_one_sentence(
    tmp_path: Path, suffix: str, written: Callable[[list[dict[str, Any]]], bytes], message: str
) -> None:
    log = shop()
    root = put_shop(tmp_path, {**log, "impressions": []})
    for path in (root / "impressions").rglob("*.jsonl"):
        path.unlink()
    put(root, f"impressions/span-1/a{suffix}", written(log["impressions"]))
    with pytest.raises(DataError, match=message) as caught:
        preflight(LogsSettings(root=str(root)))
    assert "\n" not in str(caught.value)


def test_a_parquet_column_that_is_there_twice(tmp_path: Path) -> None:
    root = put_shop(tmp_path, shop(), ".parquet")
    path = root / "impressions/span-1/part-0.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("device", table["device"]), path)
    preflight(LogsSettings(root=str(root)))  # of no interest unless it is read
    with pytest.raises(DataError, match=r"part-0.parquet has 2 columns named 'device'"):
        preflight(LogsSettings(root=str(root), categorical=("device",)))


def test_a_day_is_no_time(tmp_path: Path) -> None:
    root = put_shop(tmp_path, shop(), ".parquet")
    path = root / "clicks/span-1/part-0.parquet"
    table = pq.read_table(path)
    days = pa.array([19_000] * table.num_rows, pa.date32())
    place = table.column_names.index("timestamp")
    pq.write_table(table.set_column(place, "timestamp", days), path)
    with pytest.raises(DataError, match=r"is date32\[day\], expected a time and not a day"):
        preflight(LogsSettings(root=str(root)))


@pytest.mark.parametrize("name", ["a[b]c", "[shop]", "a*b", "what?"])
def test_a_root_means_itself(tmp_path: Path, name: str) -> None:
    put_shop(tmp_path / name, shop())
    put_shop(tmp_path / "axb", shop(), span=9)
    assert preflight(LogsSettings(root=str(tmp_path / name))).spans == (1,)
    if "[" in name:
        path = f"{name}/impressions/span-{{SPAN}}/*"
        settings = LogsSettings(
            root=str(tmp_path),
            impressions=StreamSettings(path=path),
            clicks=None,
            conversions=None,
            catalogue=None,
        )
        assert preflight(settings).spans == (1,)


def test_a_tsv_file_is_divided_by_tabs(tmp_path: Path) -> None:
    log = shop()
    root = put_shop(tmp_path, {**log, "clicks": []})
    put(root, "clicks/span-1/a.tsv", _csv(log["clicks"], "\t"))
    put(root, "clicks/span-1/b.tsv.gz", gzip.compress(_csv(log["clicks"], "\t")))
    assert preflight(LogsSettings(root=str(root))).files["clicks"] == 3
    own = StreamSettings(path="x")
    for name in ("a.tsv", "b.tsv.gz"):
        path = root / f"clicks/span-1/{name}"
        file = LogFile("clicks", str(path), name, path.stat().st_size, 0)
        (batch,) = read_batches(file, own, stream_fields("clicks", (), ()))
        assert len(batch.places) == len(log["clicks"])


def test_latest_is_the_highest_number_not_the_last_name(tmp_path: Path) -> None:
    put_shop(tmp_path, shop(), span=9)
    put_shop(tmp_path, shop(), span=10)
    assert preflight(LogsSettings(root=str(tmp_path))).span == 10
    assert preflight(LogsSettings(root=str(tmp_path), span=9)).span == 9


def test_a_column_of_decimals_or_categories_is_fine(tmp_path: Path) -> None:
    put_shop(tmp_path, shop(), ".parquet")
    path = tmp_path / "impressions/span-1/part-0.parquet"
    table = pq.read_table(path)
    for name, kind in (("query", pa.dictionary(pa.int32(), pa.string())), ("position", pa.int8())):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(kind))
    pq.write_table(table, path)
    assert preflight(LogsSettings(root=str(tmp_path))).files["impressions"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": {"tune": 0.5, "natural": 0.5}}, "leave nothing to train on"),
        ({"clicks": None}, "conversions are attributed to clicks"),
        ({"impressions": {"path": "x", "columns": {"positon": "rank"}}}, "positon"),
        ({"numeric": ("query",)}, "'query' is a text column and cannot be numeric"),
        ({"categorical": ("a",), "numeric": ("a",)}, "in both"),
        ({"click_widow": 3}, "click_widow"),
        ({"end": "soon"}, "end='soon' is no time"),
        ({"end": "2026-03-01T12:00:00"}, "a time with its zone"),
        ({"clicks": {"path": "x", "delimiter": "→"}}, "delimiter='→'"),
        ({"clicks": {"path": "x", "delimiter": chr(0)}}, "one character of ASCII"),
        ({"clicks": {"path": "x", "delimiter": '"'}}, "one character of ASCII"),
        ({"clicks": {"path": "x", "delimiter": "||"}}, "one character of ASCII"),
    ],
)
def test_settings_that_contradict_themselves(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LogsSettings.model_validate({"root": "logs", **settings})


def test_the_fingerprint_follows_content_and_nothing_else(tmp_path: Path) -> None:
    settings = LogsSettings(root=str(put_shop(tmp_path / "a", shop())))
    first = input_fingerprint(settings)
    elsewhere = LogsSettings(root=str(put_shop(tmp_path / "b", shop())))
    assert input_fingerprint(elsewhere) == first
    path = tmp_path / "a/clicks/span-1/part-0.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"i4", b"i5", 1))
    assert input_fingerprint(settings) != first
    path.write_bytes(data)
    assert input_fingerprint(settings) == first
    put_shop(tmp_path / "a", shop(), span=2)
    assert input_fingerprint(settings) != first
