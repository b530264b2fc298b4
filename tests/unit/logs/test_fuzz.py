"""Broken input of every kind: an answer in words, no row lost, and no waiting for ever."""

import gzip
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError, HeftError
from heft.logs import StreamSettings
from heft.logs.fields import stream_fields
from heft.logs.files import LogFile
from heft.logs.reading import Batch, read_batches
from tests.unit.logs.logbook import START, encode, put, put_shop, read_quarantine, shop
from tests.unit.logs.test_ingest import _examples, _run

GOOD = {"impression_id": "ok", "request_id": "r0", "item_id": "p1", "query": "q", "position": 1,
        "timestamp": START}  # fmt: skip


def _line(**changed: Any) -> bytes:
    return json.dumps(GOOD | changed).encode() + b"\n"


# What a file of JSON Lines holds, how many rows that is, and how many of them can be used.
FILES: dict[str, tuple[bytes, int, int]] = {
    "malformed": (b'{"a": \n}{\n[1, 2]\n"text"\nnull\n{"a" 1}\n' + _line(), 7, 1),
    "deeply nested": (b"[" * 100_000 + b"\n" + _line(), 2, 1),
    "a key twice": (b'{"impression_id": "x", "impression_id": "y"}\n' + _line(), 2, 1),
    "latin-1": (_line(query="x").replace(b'"x"', b'"caf\xe9"') + _line(), 2, 1),
    "utf-16": ("\n".join([json.dumps(GOOD)] * 3).encode("utf-16") + b"\n" + _line(), 4, 1),
    "half a surrogate pair": (_line(query="x").replace(b'"x"', b'"\\ud83d"') + _line(), 2, 1),
    "a line of 10 MB": (_line(query="x" * 10_000_000) + _line(impression_id="b"), 2, 2),
    "10 MB that are no record": (b"x" * 10_000_000 + b"\n" + _line(), 2, 1),
    "NUL": (_line(query="a\0b") + b"\0\0\0\n" + _line(), 3, 1),
    "numbers as text": (_line(position="3", timestamp=str(START)), 1, 1),
    "numbers as words": (_line(position="three") + _line(timestamp="noon") + _line(), 3, 1),
    "Infinity": (_line(position=math.inf) + _line(price=math.inf) + _line(price=-math.inf)
                 + _line(timestamp=math.inf) + _line(position=math.nan) + _line(), 6, 1),
    "1e999": (_line(price=0).replace(b"0}", b"1e999}") + _line(), 2, 1),
    "an integer of 400 digits": (_line(price=10**400) + _line(position=10**400) + _line(), 3, 1),
    "the year 40000": (_line(timestamp=1_200 * 10**12) + _line(timestamp=-5) + _line(), 3, 1),
    # A time of 1970 is a time: the unit is named and never guessed.
    "seconds for milliseconds": (_line(timestamp=START // 1_000), 1, 1),
    "true for a number": (_line(position=True) + _line(timestamp=False) + _line(), 3, 1),
    "lists and objects": (_line(item_id=["p1"]) + _line(query={"q": 1}) + _line(), 3, 1),
    "nothing": (b"", 0, 0),
    "blank lines": (b"\n\r\n  \n" + _line(), 2, 1),
    "no last newline": (_line() + _line(impression_id="b").rstrip(), 2, 2),
    "carriage returns": (_line().replace(b"\n", b"\r\n") * 1, 1, 1),
    "a byte order mark": (b"\xef\xbb\xbf" + _line(), 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FILES))
def test_no_row_of_a_broken_file_is_lost(tmp_path: Path, name: str) -> None:
    data, rows, usable = FILES[name]
    path = put(tmp_path, "a.jsonl", data)
    file = LogFile("impressions", str(path), "a.jsonl", len(data), 0)
    fields = stream_fields("impressions", (), ())
    batches = list(read_batches(file, StreamSettings(path="*"), fields))
    assert sum(batch.read for batch in batches) == rows
    good = sum(len(batch.places) for batch in batches)
    rejected = [row for batch in batches for row in batch.rejected]
    assert (good, len(rejected)) == (usable, rows - usable), [row.reason for row in rejected]
    assert all(row.reason and row.line >= 1 for row in rejected)


def test_a_log_of_all_of_them_is_read_to_its_end(tmp_path: Path) -> None:
    log = shop(60)
    for row in log["impressions"]:
        del row["user_id"]
    root = put_shop(tmp_path / "log", log)
    broken = {name: entry for name, entry in FILES.items() if entry[1]}
    for number, (data, _, _) in enumerate(broken.values()):
        put(root, f"impressions/span-1/z{number}.jsonl", data)
    put(root, "clicks/span-1/z.jsonl", FILES["malformed"][0].replace(b"position", b"p"))
    report = _run(tmp_path / "out", root=str(root), max_quarantine_rate=1.0)
    own = report.streams["impressions"]
    rows, usable = (sum(entry[place] for entry in broken.values()) for place in (1, 2))
    assert own.read == 180 + rows and own.quarantined == rows - usable
    assert own.written + own.duplicates == 180 + usable
    assert len(read_quarantine(tmp_path / "out/quarantine")) == report.rows_quarantined
    assert len(_examples(tmp_path / "out")) == own.written


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".csv.zst", ".parquet", ".parquet.gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_file_that_is_cut_is_named_and_nothing_is_written(
    tmp_path: Path, suffix: str, share: float
) -> None:
    root = put_shop(tmp_path / "log", shop(60), suffix)
    path = root / f"impressions/span-1/part-1{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    if share == 0.0 and not suffix.startswith(".parquet"):
        report = _run(tmp_path / "out", root=str(root))  # an empty file is a file without rows
        assert report.streams["impressions"].read == 90
        return
    with pytest.raises(DataError, match=rf"impressions/span-1/part-1{suffix} cannot be read to"):
        _run(tmp_path / "out", root=str(root))
    assert not list((tmp_path / "out").glob("Split-*"))
    assert not (tmp_path / "out/quarantine/.shuffle").exists()


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    rows = shop(60)["impressions"]
    cases = {"gz": encode(rows, ".jsonl"), "parquet": encode(rows, ".csv"),
             "zst": gzip.compress(b"{}\n")}  # fmt: skip
    for number, (kind, data) in enumerate(cases.items()):
        root = put_shop(tmp_path / str(number), shop(60))
        name = "impressions/span-1/z.parquet" if kind == "parquet" else (
            f"impressions/span-1/z.jsonl.{kind}")  # fmt: skip
        put(root, name, data)
        with pytest.raises(DataError, match=f"{name} cannot be read to its end"):
            _run(tmp_path / f"out{number}", root=str(root))


_damage = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([".parquet", ".jsonl.gz", ".csv.zst", ".csv", ".jsonl"]), _damage)
def test_flipped_bytes_are_an_answer_in_words(suffix: str, damage: list[tuple[float, int]]) -> None:
    """Whatever is flipped: rows that add up, or one sentence that names the file."""
    data = bytearray(encode(shop(20)["impressions"], suffix))
    for where, value in damage:
        data[min(int(where * len(data)), len(data) - 1)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), f"a{suffix}", bytes(data))
        file = LogFile("impressions", str(path), f"a{suffix}", len(data), 0)
        problem, batches = _read(file)
    if problem is not None:
        assert "\n" not in problem and f"a{suffix}" in problem
    read = sum(batch.read for batch in batches)
    assert read == sum(len(batch.places) + len(batch.rejected) for batch in batches)


def _read(file: LogFile) -> tuple[str | None, list[Batch]]:
    batches: list[Batch] = []
    try:
        for batch in read_batches(
            file, StreamSettings(path="*"), stream_fields("impressions", (), ())
        ):
            batches.append(batch)
    except HeftError as error:
        return str(error), batches
    return None, batches
