"""What the model is asked, in every form that it is logged in."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.gate.inspecting import inspect
from heft.gate.served import serving_fingerprint, serving_statistics
from heft.gate.settings import GateSettings, ServingData
from heft.gate.statistics import columns_of, rows_of
from tests.unit.model.rows import example

from .spans import COLUMNS, Columns, impressions, said, span_of

ASKED = (f.QUERY, f.TITLE, f.CATEGORY, f.BRAND, "device", f.PRICE)
ROWS = 400

Row = dict[str, Any]


@pytest.fixture(scope="module")
def columns() -> Columns:
    return impressions(2 * ROWS, 1)


def _rows(columns: Columns) -> list[Row]:
    plain = {
        name: [x.decode() for x in values] if values.dtype == object else values.tolist()
        for name, values in columns.items()
    }
    return [{name: plain[name][k] for name in (*ASKED, f.USER_ID)} for k in range(ROWS)]


def _json_lines(path: Path, bodies: list[Any]) -> None:
    text = "".join(json.dumps(body) + "\n" for body in bodies).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def _records(path: Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path)) as file:
        for record in records:
            file.write(record)


def _columnwise(rows: list[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in ASKED}


def _prediction(inputs: dict[str, Any]) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    for name, values in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log.SerializeToString()


def _predictions(path: Path, rows: list[Row]) -> None:
    batches = [_prediction(_columnwise(rows[k : k + 10])) for k in range(0, ROWS, 10)]
    other = prediction_log_pb2.PredictionLog()
    other.regress_log.SetInParent()
    _records(path, [*batches, other.SerializeToString()])


def _as_examples(path: Path, rows: list[Row]) -> None:
    examples = [example(row) for row in rows]
    _records(path, [_prediction({"examples": examples[k : k + 10]}) for k in range(0, ROWS, 10)])


WRITERS: dict[str, tuple[str, Callable[[Path, list[Row]], Any], str]] = {
    "rows": ("a.jsonl", _json_lines, "auto"),
    "zipped": ("a.jsonl.gz", _json_lines, "auto"),
    "instances": ("a.jsonl", lambda p, rows: _json_lines(p, [{"instances": rows}]), "auto"),
    "inputs": ("a.jsonl", lambda p, rows: _json_lines(p, [{"inputs": _columnwise(rows)}]), "auto"),
    "csv": ("a.csv", lambda p, rows: pd.DataFrame(rows).to_csv(p, index=False), "auto"),
    "parquet": ("a.parquet", lambda p, rows: pd.DataFrame(rows).to_parquet(p), "auto"),
    "examples": ("a.log", lambda p, rows: _records(p, [example(r) for r in rows]), "examples"),
    "predictions": ("a.tfrecord", _predictions, "auto"),
    "predictions of examples": ("a.tfrecord", _as_examples, "predictions"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_log_says_the_same(columns: Columns, tmp_path: Path, kind: str) -> None:
    name, write, stated = WRITERS[kind]
    write(tmp_path / name, _rows(columns))
    settings = ServingData.model_validate({"log": f"{tmp_path}/a.*", "format": stated})
    found = columns_of(serving_statistics(settings, COLUMNS))
    assert set(found) == set(ASKED), "nothing of persons"
    price = columns[f.PRICE][:ROWS]
    assert found[f.PRICE].median == pytest.approx(np.median(price), rel=0.02)
    assert found[f.PRICE].high == pytest.approx(price.max(), rel=1e-6)
    devices = columns["device"][:ROWS]
    assert found["device"].shares is not None
    assert found["device"].shares["phone"] == pytest.approx((devices == b"phone").mean())


def test_absent_values_are_absent_and_so_many_rows_are_read(tmp_path: Path) -> None:
    _json_lines(tmp_path / "a.jsonl", [{f.QUERY: "q", f.PRICE: None if k % 2 else k} for k in
                                       range(100)])  # fmt: skip
    found = serving_statistics(ServingData(log=f"{tmp_path}/*.jsonl", rows=40), COLUMNS)
    assert rows_of(found) == 40
    assert columns_of(found)[f.PRICE].absent == 20
    assert set(columns_of(found)) == {f.QUERY, f.PRICE}


@pytest.mark.parametrize("ending", ["pb", "pbtxt", "tfrecord"])
def test_statistics_are_read_in_every_form_of_tfdv(
    columns: Columns, tmp_path: Path, ending: str
) -> None:
    stats = span_of(tmp_path / "span", columns).statistics[f.TRAIN]
    path = tmp_path / f"served.{ending}"
    if ending == "pbtxt":
        path.write_text(text_format.MessageToString(stats))
    elif ending == "tfrecord":
        _records(path, [stats.SerializeToString()])
    else:
        path.write_bytes(stats.SerializeToString())
    found = serving_statistics(ServingData(statistics=str(path)), COLUMNS)
    assert rows_of(found) == rows_of(stats)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"{\n", "is no log of requests as jsonl"),
        ("a.jsonl", b"[1]\n", "list in place of an object"),
        ("a.jsonl", b'{"other": 1}\n', "none has one of"),
        ("a.jsonl", b"", "0 requests"),
        ("a.tfrecord", b"nothing of records at all", "is no log of requests as predictions"),
        ("a.parquet", b"nothing", "is no log of requests as parquet"),
        ("a.jsonl.gz", b"nothing", "is no log of requests as jsonl"),
    ],
)
def test_a_log_that_is_none_is_one_message(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        serving_statistics(ServingData(log=str(tmp_path / name)), COLUMNS)


@pytest.mark.parametrize("name", ["a.pb", "a.pbtxt", "a.tfrecord"])
@pytest.mark.parametrize("content", [b"\xff nothing", b""])
def test_statistics_that_are_none_are_one_message(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="statistics of"):
        serving_statistics(ServingData(statistics=str(tmp_path / name)), COLUMNS)


def test_what_is_not_there_or_has_no_format_is_bad_input(tmp_path: Path) -> None:
    gone = ServingData(log=f"{tmp_path}/*.jsonl")
    with pytest.raises(ConfigError, match=r"gate\.serving\.log=.*no such file"):
        serving_fingerprint(gone)
    with pytest.raises(ConfigError, match=r"gate\.serving\.statistics="):
        serving_statistics(ServingData(statistics=f"{tmp_path}/gone.pb"), COLUMNS)
    (tmp_path / "a.log").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"set gate\.serving\.format"):
        serving_statistics(ServingData(log=f"{tmp_path}/a.log"), COLUMNS)
    for both in ({}, {"log": "a", "statistics": "b"}):
        with pytest.raises(ValueError, match="expected one of them"):
            ServingData.model_validate(both)


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    _json_lines(tmp_path / "a.jsonl", [{f.QUERY: "q"}])
    settings = ServingData(log=f"{tmp_path}/*.jsonl")
    first = serving_fingerprint(settings)
    assert first == serving_fingerprint(settings) != ""
    _json_lines(tmp_path / "b.jsonl", [{f.QUERY: "q"}])
    assert serving_fingerprint(settings) != first
    assert serving_fingerprint(None) == ""


def test_skew_stops_a_span_and_the_same_shop_does_not(columns: Columns, tmp_path: Path) -> None:
    span = span_of(tmp_path / "span", columns)
    rows = _rows(columns)
    _json_lines(tmp_path / "same.jsonl", rows)
    same = GateSettings(min_rows=400, serving=ServingData(log=f"{tmp_path}/same.jsonl"))
    found = inspect(span, [], same, COLUMNS)
    assert found.passed and not any("skew is not measured" in note for note in found.notes)
    assert {one.against for one in found.measured} == {"serving"}
    # The shop's page sends prices in cents, and no device.
    other = [row | {f.PRICE: 100 * row[f.PRICE], "device": ""} for row in rows]
    _json_lines(tmp_path / "other.jsonl", other)
    cents = GateSettings(min_rows=400, serving=ServingData(log=f"{tmp_path}/other.jsonl"))
    found = inspect(span, [], cents, COLUMNS)
    assert said(found) == [("device", "skew"), (f.PRICE, "skew")]
    [device] = [one for one in found.anomalies if one.feature == "device"]
    assert "most at no text: 100.0% asked, 0.0% now" in device.came
    assert device.expected == "L-infinity to what is asked at most 0.3"
