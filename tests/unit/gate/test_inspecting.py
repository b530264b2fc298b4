"""Spans that must not get through, whole, and what lies in the artifact afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from heft import features as f
from heft.examples import write_columns
from heft.gate.findings import FACTS_FILE, TABLE_FILE, Passed
from heft.gate.inspecting import Span, inspect
from heft.gate.settings import GateSettings
from heft.gate.table import AnomaliesFound

from .spans import COLUMNS, half_the_clicks_gone, impressions, said, span_of, texts

ROWS = 2_000
SETTINGS = GateSettings()
STREAMS = {"clicks": {"read": 300, "unattributed": {"orphan": 3}}}


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> list[Passed]:
    """Three spans that passed, each compared with those before it."""
    found: list[Passed] = []
    for number in (1, 2, 3):
        folder = tmp_path_factory.mktemp(f"span{number}")
        columns = impressions(ROWS, number)
        span = span_of(folder / "examples", columns, number, STREAMS)
        findings = inspect(span, found, SETTINGS, COLUMNS)
        findings.check(str(folder))
        findings.save(str(folder))
        found.append(Passed.load(str(folder)))
    return found


def test_half_the_clicks_gone_stops_the_span(tmp_path: Path, passed: list[Passed]) -> None:
    span = span_of(tmp_path, half_the_clicks_gone(impressions(ROWS, 9)), 4, STREAMS)
    found = inspect(span, passed, SETTINGS, COLUMNS)
    assert said(found) == [("CTR", "rate")]
    assert found.compared_with == (3, 2, 1)
    with pytest.raises(AnomaliesFound, match="91 clicks on 2,000"):
        found.check("/a")
    # A first span has nothing to be held against, and says so.
    assert inspect(span, [], SETTINGS, COLUMNS).passed


def test_a_bad_day_is_found_in_a_window_of_many(tmp_path: Path) -> None:
    """Seven days, of which the last has lost half of its clicks: some 7 % of all."""
    days = [impressions(ROWS, number) for number in range(8)]
    days[7] = half_the_clicks_gone(days[7])
    for number, day in enumerate(days):
        day[f.TIMESTAMP] = day[f.TIMESTAMP] + number * ROWS

    def week(first: int) -> Span:
        read = days[first : first + 7]
        columns = {name: np.concatenate([day[name] for day in read]) for name in read[0]}
        return span_of(tmp_path / str(first), columns, first + 6)

    known = COLUMNS.model_copy(update={"window": 7})
    before = inspect(week(0), [], SETTINGS, known)
    before.save(str(tmp_path / "passed"))
    passed = [Passed.load(str(tmp_path / "passed"))]
    assert passed[0].labels.rows == pytest.approx(ROWS, abs=2)
    bad = week(1)
    assert said(inspect(bad, passed, SETTINGS, known)) == [("CTR", "rate")]
    assert inspect(bad, passed, SETTINGS, COLUMNS).passed, "diluted, without"


def test_a_label_among_the_features_stops_the_span(tmp_path: Path) -> None:
    columns = impressions(ROWS, 9)
    told = np.where(columns[f.CLICK] == 1, "opened", "seen")
    columns["device"] = texts(told)
    found = inspect(span_of(tmp_path, columns, 4), [], SETTINGS, COLUMNS)
    assert said(found) == [("device", "label leak")]
    [leak] = found.anomalies
    assert leak.examples == ("opened",) and leak.rows == 1_500
    # Of a column that the model does not see nothing is learned.
    unseen = COLUMNS.model_copy(update={"seen_categorical": (f.CATEGORY,)})
    assert inspect(span_of(tmp_path, columns, 4), [], SETTINGS, unseen).passed


def test_labels_are_counted_over_all_logged_splits_and_grades_are_none(
    tmp_path: Path,
) -> None:
    columns = impressions(ROWS, 9)
    span = span_of(tmp_path, columns, 4)
    write_columns({f.QUERY: texts(["q"] * 50)}, tmp_path / "Split-graded" / "a.gz")
    graded = {**span.examples, f.GRADED: str(tmp_path / "Split-graded")}
    found = inspect(replace(span, examples=graded), [], SETTINGS, COLUMNS)
    assert found.labels.rows == ROWS and found.labels.clicks == columns[f.CLICK].sum()


def test_the_artifact_has_the_facts_the_table_and_tfx_s_own_file(
    tmp_path: Path, passed: list[Passed]
) -> None:
    columns = half_the_clicks_gone(impressions(ROWS, 9))
    columns[f.POSITION][3] = 0
    columns[f.USER_ID][0] = b"Ann of Green Gables"
    columns["device"][5] = b"ann@shop.org"
    span = span_of(tmp_path / "x", columns, 4, STREAMS)
    for feature in span.schema.feature:
        if feature.name in (f.USER_ID, "device"):
            feature.string_domain.value.extend(["phone", "desk"])
    found = inspect(span, passed, SETTINGS, COLUMNS)
    found.save(str(tmp_path / "out"))
    facts = json.loads((tmp_path / "out" / FACTS_FILE).read_text())
    assert facts["format"] == 1 and facts["span"] == 4 and facts["passed"] is False
    assert facts["compared_with"] == [3, 2, 1]
    assert {"split", "feature", "kind", "expected", "came", "rows", "examples"} == set(
        facts["anomalies"][0]
    )
    assert {"split", "feature", "against", "measure", "value", "threshold"} == set(
        facts["measured"][0]
    )
    assert facts["labels"]["ctr"] == pytest.approx(columns[f.CLICK].mean())
    assert facts["usual_labels"]["rows"] == 3 * ROWS
    assert facts["labels"]["orphan_share"] == pytest.approx(0.01)
    assert {"feature", "task", "auc", "rows", "positives", "examples"} == set(
        facts["known_labels"][0]
    )
    table = (tmp_path / "out" / TABLE_FILE).read_text()
    assert "position" in table and "CTR" in table
    differences = anomalies_pb2.Anomalies.FromString(
        (tmp_path / "out" / "Split-train" / "SchemaDiff.pb").read_bytes()
    )
    assert f.POSITION in differences.anomaly_info and "device" in differences.anomaly_info
    for text in (table, json.dumps(facts), str(differences)):
        assert "ann@shop.org" not in text and "Green" not in text
        assert "<email>" in text and "not shown" in text


@pytest.mark.parametrize(
    ("settings", "columns", "said"),
    [
        (SETTINGS, COLUMNS.model_copy(update={"names_spans": False}), "--span"),
        (GateSettings(since=4), COLUMNS, "gate.since=4"),
        (SETTINGS, COLUMNS.model_copy(update={"reviewed": False}), "heft schema infer"),
    ],
)
def test_what_is_not_checked_is_said(
    tmp_path: Path, settings: GateSettings, columns: object, said: str
) -> None:
    span = span_of(tmp_path, impressions(200, 1), 4)
    found = inspect(span, [], settings, columns)  # type: ignore[arg-type]
    assert found.passed and any(said in note for note in found.notes)


def test_a_span_without_clicks_and_shards_without_rows(tmp_path: Path) -> None:
    columns = impressions(200, 1)
    columns[f.CLICK][:] = 0
    columns[f.CONVERSION][:] = 0
    span: Span = span_of(tmp_path, columns, 4)
    write_columns({n: x[:0] for n, x in columns.items()}, tmp_path / "Split-train" / "b.gz")
    found = inspect(span, [], SETTINGS, COLUMNS)
    assert found.passed and found.labels.ctr == 0 and found.labels.cvr is None
    assert found.known_labels == ()
