"""A schema made from data lets that data through; what is agreed to widens it and no more."""

import difflib
from pathlib import Path

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from heft import features as f
from heft.errors import InputError
from heft.gate.offences import log_features, with_rows
from heft.gate.schema_checks import check_schema
from heft.gate.schema_edit import accepted, differences, inferred
from heft.gate.schema_text import parsed
from heft.gate.settings import GateSettings, LogColumns

from .spans import COLUMNS, Columns, impressions, span_of, texts
from .test_schema_text import REVIEWED

ROWS = 400
SETTINGS = GateSettings()


@pytest.fixture
def columns() -> Columns:
    found = impressions(ROWS, 1)
    found[f.PRICE][:40] = np.nan
    return found


def _kinds(text: str, folder: Path, columns: Columns) -> list[tuple[str, str]]:
    span = span_of(folder, columns)
    schema = parsed(text)
    return sorted(
        {
            (x.anomaly.feature, x.anomaly.kind)
            for split, observed in span.statistics.items()
            for x in check_schema(split, observed, schema)
        }
    )


def _inferred(folder: Path, columns: Columns, known: LogColumns = COLUMNS) -> str:
    return inferred(span_of(folder, columns).statistics, 7, known, SETTINGS)


def test_a_schema_from_data_is_the_reviewed_one_and_lets_it_through(
    tmp_path: Path, columns: Columns
) -> None:
    text = _inferred(tmp_path / "a", columns)
    assert _kinds(text, tmp_path / "b", columns) == []
    assert "inferred from span 7" in text.splitlines()[0]
    found = {feature.name: feature for feature in parsed(text).feature}
    assert list(found) == [x.name for x in f.logged_columns(("device",), ()) if x.name in columns]
    for feature in parsed(REVIEWED).feature:
        if feature.name in found:
            mine = found[feature.name]
            assert mine.type == feature.type, feature.name
            assert mine.value_count == feature.value_count
            assert mine.int_domain == feature.int_domain
            if feature.presence.min_fraction == 1:
                assert mine.presence == feature.presence
    assert list(found["device"].string_domain.value) == ["desk", "phone"]
    assert not found[f.BRAND].string_domain.value, "more values than are listed"
    # 40 of the 300 rows of train have no price: twice as many may have none.
    assert found[f.PRICE].presence.min_fraction == pytest.approx(0.73)
    assert found[f.PRICE].drift_comparator.jensen_shannon_divergence.threshold == pytest.approx(0.3)


def test_values_of_persons_are_not_listed_and_lists_have_their_length(
    tmp_path: Path, columns: Columns
) -> None:
    known = COLUMNS.model_copy(update={"pii": ("device",)})
    [device] = [x for x in parsed(_inferred(tmp_path, columns, known)).feature
                if x.name == "device"]  # fmt: skip
    assert not device.HasField("string_domain")


def test_it_stops_what_it_should(tmp_path: Path, columns: Columns) -> None:
    text = _inferred(tmp_path / "a", columns)
    other = dict(columns)
    other["device"] = texts(["tv"] * ROWS)
    other[f.POSITION] = columns[f.POSITION] - 1
    other[f.CLICK] = columns[f.CLICK] * 2
    other[f.PRICE] = np.where(np.arange(ROWS) % 2, np.nan, -1).astype(np.float32)
    assert _kinds(text, tmp_path / "b", other) == [
        (f.CLICK, "out of range"), ("device", "unexpected values"), (f.POSITION, "out of range"),
        (f.PRICE, "missing values"), (f.PRICE, "out of range"),
    ]  # fmt: skip


@pytest.fixture
def odd(columns: Columns) -> Columns:
    """A new column, one gone, values out of range, and a position that some rows lack."""
    found = dict(columns) | {"margin": np.full(ROWS, 0.5, np.float32)}
    del found[f.BRAND]
    found[f.PRICE] = np.where(np.arange(ROWS) == 3, -4.0, found[f.PRICE]).astype(np.float32)
    found[f.OBSERVATION] = np.where(np.arange(ROWS) % 8, 60.0, np.nan).astype(np.float32)
    return found


KNOWN = COLUMNS.model_copy(update={"numeric": ("margin",)})


def test_differences_are_plain_lines(tmp_path: Path, odd: Columns) -> None:
    span = span_of(tmp_path, odd, natural=0)
    findings = check_schema(f.TRAIN, span.statistics[f.TRAIN], parsed(REVIEWED))
    shards = [f"{span.examples[f.TRAIN]}/a.gz"]
    found = differences(with_rows(findings, shards, log_features(KNOWN), KNOWN.pii))
    assert [one.feature for one in found] == [f.BRAND, "margin", f.OBSERVATION, f.PRICE]
    lines = [line for one in found for line in one.lines]
    assert lines[0] == "- brand: missing column: expected the column; no row has it (train)"
    assert lines[1] == (
        "+ margin: unknown column: expected no such column; FLOAT; 400 rows; such as 0.5 (train)"
    )
    assert lines[3].startswith("~ price: out of range: expected at least 0; -4 to ")
    assert lines[3].endswith("; 1 row; such as -4 (train)")


def test_what_is_accepted_is_widened_and_the_rest_stays(tmp_path: Path, odd: Columns) -> None:
    statistics = span_of(tmp_path / "a", odd).statistics
    new = accepted(REVIEWED, statistics, ["price", "margin"], KNOWN, SETTINGS)
    assert _kinds(new, tmp_path / "b", odd) == [
        (f.BRAND, "missing column"), (f.OBSERVATION, "missing values"),
    ]  # fmt: skip
    changes = [
        line
        for line in difflib.unified_diff(REVIEWED.splitlines(), new.splitlines(), n=0, lineterm="")
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert changes == [
        "-  float_domain { min: 0.0 }", "+  float_domain { min: -4.0 }",
        "+feature {", '+  name: "margin"', "+  type: FLOAT",
        "+  presence { min_fraction: 1.0 min_count: 1 }", "+  value_count { min: 1 max: 1 }", "+}",
    ]  # fmt: skip


def test_all_of_it_lets_the_data_through_and_twice_is_once(tmp_path: Path, odd: Columns) -> None:
    statistics = span_of(tmp_path / "a", odd).statistics
    names = ["margin", f.BRAND, f.OBSERVATION, f.PRICE]
    new = accepted(REVIEWED, statistics, names, KNOWN, SETTINGS)
    assert _kinds(new, tmp_path / "b", odd) == []
    assert new == accepted(REVIEWED, statistics, names[::-1], KNOWN, SETTINGS)
    found = {feature.name: feature for feature in parsed(new).feature}
    assert found[f.BRAND].presence == schema_pb2.FeaturePresence(min_count=0)
    assert found[f.BRAND].lifecycle_stage == 0, "it may come again"
    assert found[f.OBSERVATION].presence.min_fraction == pytest.approx(0.87)
    # The data as it was before is as good as ever.
    before = impressions(ROWS, 3) | {"margin": odd["margin"]}
    assert _kinds(new, tmp_path / "c", before) == []


def test_a_value_joins_its_domain_alone_or_shared(tmp_path: Path, columns: Columns) -> None:
    columns["device"][5] = b"tv"
    schema = parsed(REVIEWED)
    [device] = [x for x in schema.feature if x.name == "device"]
    device.string_domain.value.extend(["phone", "desk"])
    shared = schema.string_domain.add(name="places")
    shared.value.extend(f"c{n}" for n in range(7))
    [category] = [x for x in schema.feature if x.name == f.CATEGORY]
    category.domain = "places"
    text = str(schema)
    statistics = span_of(tmp_path / "a", columns).statistics
    new = accepted(text, statistics, ["device", f.CATEGORY], COLUMNS, SETTINGS)
    assert _kinds(new, tmp_path / "b", columns) == []
    found = {feature.name: feature for feature in parsed(new).feature}
    assert list(found["device"].string_domain.value) == ["desk", "phone", "tv"]
    assert list(parsed(new).string_domain[0].value) == [f"c{n}" for n in range(8)]


def test_what_cannot_be_accepted_is_one_message(tmp_path: Path, columns: Columns) -> None:
    schema = parsed(REVIEWED)
    schema.dataset_constraints.min_examples_count = 10_000
    [user] = [x for x in schema.feature if x.name == f.USER_ID]
    user.string_domain.value.append("nobody")
    statistics = span_of(tmp_path, columns).statistics
    for names, said in (
        (["category"], "category: nothing to accept; expected some of"),
        (["dataset"], "cannot be accepted by widening"),
        ([f.USER_ID], "a column of persons"),
    ):
        with pytest.raises(InputError, match=said):
            accepted(str(schema), statistics, names, COLUMNS, SETTINGS)
