"""AnomalyGate over artifacts as TFX hands them over, and over a store that remembers runs."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tfx.types import Channel, artifact_utils, standard_artifacts

from components.anomaly_gate.component import AnomalyGate
from components.anomaly_gate.executor import Executor
from components.artifacts import GATE_FORMAT, Quarantine
from heft.errors import GateError
from heft.gate.settings import GateSettings
from tests.unit.gate.spans import COLUMNS, Columns, half_the_clicks_gone, impressions, span_of

PROPERTIES = {
    "settings": GateSettings().model_dump_json(),
    "columns": COLUMNS.model_dump_json(),
    "serving_fingerprint": "",
    "source_digest": "",
}


def _inputs(folder: Path, columns: Columns, number: int) -> dict[str, list]:
    """The artifacts of one span."""
    span = span_of(folder / "examples", columns, number)
    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    schema, quarantine = standard_artifacts.Schema(), Quarantine()
    for artifact, name in (
        (examples, "examples"), (statistics, "statistics"), (schema, "schema"),
        (quarantine, "quarantine"),
    ):  # fmt: skip
        artifact.uri = str(folder / name)
        Path(artifact.uri).mkdir(parents=True, exist_ok=True)
    examples.span = number
    for artifact in (examples, statistics):
        artifact.split_names = artifact_utils.encode_split_names(list(span.examples))
    for split, message in span.statistics.items():
        path = folder / "statistics" / f"Split-{split}" / "FeatureStats.pb"
        path.parent.mkdir()
        path.write_bytes(message.SerializeToString())
    (folder / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(span.schema))
    (folder / "quarantine" / "summary.json").write_text(
        json.dumps({"streams": {"clicks": {"read": 200, "unattributed": {"orphan": 1}}}})
    )
    return {
        "examples": [examples], "statistics": [statistics], "schema": [schema],
        "quarantine": [quarantine],
    }  # fmt: skip


def _output(folder: Path, execution: int) -> standard_artifacts.ExampleAnomalies:
    output = standard_artifacts.ExampleAnomalies()
    output.uri = str(folder / "AnomalyGate" / "anomalies" / str(execution))
    return output


def test_a_span_passes_and_the_next_one_is_held_against_it(tmp_path: Path) -> None:
    first, second, third = (_output(tmp_path, k) for k in (1, 2, 3))
    good = _inputs(tmp_path / "1", impressions(2_000, 1), 1)
    Executor().Do({**good, "passed": []}, {"anomalies": [first]}, PROPERTIES)
    assert first.span == 1 and first.get_int_custom_property(GATE_FORMAT) == 1
    assert (Path(first.uri) / "anomalies.txt").read_text() == "no anomalies\n"
    assert json.loads((Path(first.uri) / "gate.json").read_text())["labels"]["clicks_read"] == 200
    again = _inputs(tmp_path / "2", impressions(2_000, 2), 2)
    Executor().Do({**again, "passed": [first]}, {"anomalies": [second]}, PROPERTIES)
    facts = json.loads((Path(second.uri) / "gate.json").read_text())
    assert facts["compared_with"] == [1] and facts["measured"]
    lost = _inputs(tmp_path / "3", half_the_clicks_gone(impressions(2_000, 3)), 3)
    with pytest.raises(GateError, match="1 anomaly in span 3") as caught:
        Executor().Do({**lost, "passed": [first, second]}, {"anomalies": [third]}, PROPERTIES)
    # TFX takes away what a failed node wrote; the table stays.
    kept = tmp_path / "AnomalyGate" / "rejected" / "3"
    assert not Path(third.uri).exists()
    assert f"{kept}/anomalies.txt" in str(caught.value)
    assert "CTR" in (kept / "anomalies.txt").read_text()
    assert json.loads((kept / "gate.json").read_text())["passed"] is False


def test_the_component_takes_the_channels_of_the_street() -> None:
    channels = [
        Channel(type=kind)
        for kind in (standard_artifacts.Examples, standard_artifacts.ExampleStatistics,
                     standard_artifacts.Schema, Quarantine)
    ]  # fmt: skip
    node = AnomalyGate(
        *channels, GateSettings(), COLUMNS, Channel(type=standard_artifacts.ExampleAnomalies),
        "abc", "def",
    )  # fmt: skip
    assert node.exec_properties["serving_fingerprint"] == "abc"
    assert GateSettings.model_validate_json(node.exec_properties["settings"]) == GateSettings()
    assert "passed" not in AnomalyGate(*channels, GateSettings(), COLUMNS).inputs
