"""Dense vectors of the items, from the catalogue into the examples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from heft import features
from heft.errors import DataError, GateError
from heft.logs import LogsSettings, StreamSettings, preflight
from heft.logs.files import LogFile
from heft.logs.ingest import ingest
from heft.logs.reading import Batch, read_batches
from heft.logs.report import IngestReport
from tests.unit.logs.logbook import put, put_shop, read_examples, read_quarantine, shop

WIDTH = 3
GRADES = StreamSettings(path="grades/*")


def _vector(item: str) -> list[float]:
    number = int(item[1:])
    return [float(number), number / 7, -1.0 * (number == 3)]


def _with_vectors(suffix: str, missing: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    """The shop with vectors of most items, as a file of this kind has them."""
    log = shop()
    for item in log["catalogue"]:
        vector = None if item["item_id"] in missing else _vector(item["item_id"])
        if suffix == ".csv":
            item["image"] = "" if vector is None else json.dumps(vector)
        else:
            item["image"] = vector
    return log


def _run(out: Path, root: Path, **settings: Any) -> IngestReport:
    uris = {split: str(out / f"Split-{split}") for split in features.SPLITS}
    own = LogsSettings(root=str(root), buckets=3, **({"vectors": {"image": WIDTH}} | settings))
    return ingest(own, uris, str(out / "quarantine"))


def _examples(out: Path) -> list[dict[str, Any]]:
    return [row for folder in sorted(out.glob("Split-*")) for row in read_examples(folder)]


def _read(path: Path, columns: dict[str, str] | None = None) -> list[Batch]:
    file = LogFile("catalogue", str(path), path.name, path.stat().st_size, 0)
    own = StreamSettings(path="unused", columns=columns or {})
    fields = LogsSettings(root="unused", vectors={"image": WIDTH}).fields_of("catalogue")
    return list(read_batches(file, own, fields))


def _vectors(batches: list[Batch]) -> list[Any]:
    return [value for batch in batches for value in batch.columns["image"].to_pylist()]


def test_every_example_has_the_vector_of_its_item_or_none(tmp_path: Path) -> None:
    log = _with_vectors(".jsonl", missing=("p5", "p8"))
    log["impressions"][0]["item_id"] = "never heard of"
    log["grades"] = [{"query": "q", "item_id": "p1", "grade": 2}]
    log["catalogue"].append(log["catalogue"][0] | {"item_id": "bad", "image": [1.0]})
    root = put_shop(tmp_path / "log", log)
    report = _run(tmp_path / "out", root, grades=GRADES, max_quarantine_rate=0.1)
    rows = _examples(tmp_path / "out")
    for row in rows:
        item = row["item_id"].decode()
        if item in ("p5", "p8", "never heard of"):
            assert "image" not in row
        else:
            np.testing.assert_array_equal(row["image"], np.float32(_vector(item)))
    shown = [row for row in rows if row["request_id"] != b"q"]
    assert len(rows) == len(shown) + 1
    assert report.missing_vectors == {"image": sum("image" not in row for row in shown)}
    assert report.streams["catalogue"].reasons == {"image: 1 numbers, expected 3": 1}


def test_a_log_without_a_catalogue_may_have_vectors_with_its_impressions(tmp_path: Path) -> None:
    log = _with_vectors(".jsonl")
    items = {item["item_id"]: item for item in log["catalogue"]}
    rows = [items[row["item_id"]] | row for row in log["impressions"]]
    report = _run(
        tmp_path / "out", put_shop(tmp_path / "log", {"impressions": rows}), clicks=None,
        conversions=None, catalogue=None,
    )  # fmt: skip
    assert report.missing_vectors == {"image": 0}
    assert all(len(row["image"]) == WIDTH for row in _examples(tmp_path / "out"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
    rows = _with_vectors(suffix, missing=("p5", "p8"))["catalogue"]
    if suffix == ".jsonl":
        rows[3]["image"] = json.dumps(rows[3]["image"])  # as text, which Arrow stumbles over
        rows[8]["image"] = []
    batches = _read(put(tmp_path, f"items{suffix}", rows))
    want = [None if n in (5, 8) else np.float32(_vector(f"p{n}")).tolist() for n in range(13)]
    assert _vectors(batches) == want
    assert not any(batch.rejected for batch in batches)


def test_a_nested_column_under_another_name(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".parquet"):
        rows = _with_vectors(suffix)["catalogue"]
        for item in rows:
            item["media"] = {"embedding": item.pop("image")}
        path = put(tmp_path, f"items{suffix}", rows)
        assert _vectors(_read(path, {"image": "media.embedding"}))[7] == [7.0, 1.0, 0.0]


BAD: list[tuple[Any, str]] = [
    ([1.0, 2.0], "image: 2 numbers, expected 3"),
    ([1.0, 2.0, 3.0, 4.0], "image: 4 numbers, expected 3"),
    ([1.0, None, 3.0], "image: not a finite number"),
    ([1.0, float("nan"), 3.0], "image: not a finite number"),
    ([1.0, 2.0, 1e300], "image: not a finite number"),
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_vector_that_cannot_be_used_is_quarantined_with_its_row(
    tmp_path: Path, suffix: str
) -> None:
    log = _with_vectors(suffix)
    text: list[tuple[Any, str]] = [
        ("[1, 2, 3", "image: not a list of numbers"),
        ("7", "image: not a list of numbers"),
        ('["1", "2", "3"]', "image: not a list of numbers"),
        ("[[1, 2, 3]]", "image: not a list of numbers"),
    ]
    bad = BAD if suffix == ".parquet" else BAD + text
    rows = log["catalogue"]
    for number, (value, _) in enumerate(bad):
        cell = json.dumps(value) if suffix == ".csv" and isinstance(value, list) else value
        rows.append(rows[0] | {"item_id": f"bad{number}", "image": cell})
    batches = _read(put(tmp_path, f"items{suffix}", rows))
    rejected = [row for batch in batches for row in batch.rejected]
    assert [row.reason for row in rejected] == [reason for _, reason in bad]
    assert all("bad" in row.raw for row in rejected)
    assert [len(vector) for vector in _vectors(batches)] == [WIDTH] * 13


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_width_that_no_row_has_is_refused_before_anything_is_written(
    tmp_path: Path, suffix: str
) -> None:
    root = put_shop(tmp_path, _with_vectors(suffix), suffix)
    with pytest.raises(
        DataError,
        match=r"catalogue: column 'image' of catalogue/part-0\S+ cannot be read as image: .*"
        r"3 numbers, expected 64; the first is '\[0.0, 0.0, .*`vectors`, which says image: 64",
    ):
        preflight(LogsSettings(root=str(root), vectors={"image": 64}))


def test_too_many_bad_vectors_stop_the_run(tmp_path: Path) -> None:
    log = _with_vectors(".jsonl")
    for item in log["catalogue"][1:4]:
        item["image"] = [1.0]
    with pytest.raises(GateError, match=r"catalogue: 3 of 13.*image: 1 numbers, expected 3 \(3\)"):
        _run(tmp_path / "out", put_shop(tmp_path / "log", log))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1.0] * 13), "is double, expected a list of 3 numbers for image"),
        (pa.array([["a"]] * 13), r"is list<.*string>, expected a list of 3 numbers"),
        (None, "column 'image' is named in `vectors`, but neither"),
    ],
)
def test_a_parquet_column_of_another_type_is_refused(
    tmp_path: Path, column: pa.Array | None, said: str
) -> None:
    put_shop(tmp_path, shop(), ".parquet")
    path = tmp_path / "catalogue/part-0.parquet"
    if column is not None:
        pq.write_table(pq.read_table(path).append_column("image", column), path)
    with pytest.raises(DataError, match=said):
        preflight(LogsSettings(root=str(tmp_path), vectors={"image": WIDTH}))


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.int32()])
@pytest.mark.parametrize("listed", ["list", "large", "fixed"])
def test_parquet_has_lists_of_many_kinds(tmp_path: Path, kind: pa.DataType, listed: str) -> None:
    cast = np.float16 if kind == pa.float16() else int
    values = [[cast(n), cast(2), cast(-1)] for n in range(12)]
    # Arrow does not read back a list of fixed size that is null.
    values.append([cast(0)] * 3 if listed == "fixed" else None)
    lists = {"list": pa.list_(kind), "large": pa.large_list(kind), "fixed": pa.list_(kind, 3)}
    path = put(tmp_path, "items.parquet", shop()["catalogue"])
    table = pq.read_table(path).append_column("image", pa.array(values, lists[listed]))
    pq.write_table(table, path)
    assert _vectors(_read(path)) == values


def test_a_list_is_still_no_text_and_a_log_without_vectors_says_nothing_of_them(
    tmp_path: Path,
) -> None:
    log = shop(60)
    log["catalogue"][4]["brand"] = ["b"]
    root = put_shop(tmp_path / "log", log)
    _run(tmp_path / "out", root, vectors={}, max_quarantine_rate=0.5)
    (row,) = read_quarantine(tmp_path / "out/quarantine")
    assert row["reason"] == "malformed: brand is a list"
    assert "vector" not in (tmp_path / "out/quarantine/summary.json").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vectors": {"price": 3}}, "'price' is a numeric column and cannot be vector"),
        ({"vectors": {"a": 3}, "numeric": ("a",)}, "in both `numeric` and `vectors`"),
        ({"vectors": {"a": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_themselves(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LogsSettings.model_validate({"root": "logs", **settings})
