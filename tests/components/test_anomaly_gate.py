"""AnomalyGate over artifacts as TFX hands them over, and over a store that remembers runs."""

import json
import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import Channel, artifact_utils, standard_artifacts

from components.anomaly_gate.component import AnomalyGate
from components.anomaly_gate.executor import Executor
from components.artifacts import GATE_FORMAT, Quarantine
from heft.errors import GateError
from heft.gate.settings import GateSettings
from pipeline.config import load
from pipeline.nodes import anomaly_gate
from pipeline.places import Places
from pipeline.progress import NodeDone
from pipeline.run_local import StreetRunner
from tests.unit.gate.spans import COLUMNS, Columns, half_the_clicks_gone, impressions, span_of

# TFX asks protobuf in a way that protobuf has given up.
pytestmark = pytest.mark.filterwarnings("ignore:label")

DEMO = Path(__file__).parents[2] / "pipeline/configs/demo.yaml"
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


@component
def PreparedSpan(
    folder: Parameter[str],
    number: Parameter[int],
    examples: OutputArtifact[standard_artifacts.Examples],
    statistics: OutputArtifact[standard_artifacts.ExampleStatistics],
    schema: OutputArtifact[standard_artifacts.Schema],
    quarantine: OutputArtifact[Quarantine],
) -> None:
    """A span that lies in a folder, in place of ingest, statistics and schema."""
    outputs = {
        "examples": examples, "statistics": statistics, "schema": schema, "quarantine": quarantine,
    }  # fmt: skip
    for name, artifact in outputs.items():
        shutil.copytree(f"{folder}/{name}", artifact.uri, dirs_exist_ok=True)
    examples.span = number
    for artifact in (examples, statistics):
        artifact.split_names = artifact_utils.encode_split_names(["train", "natural"])


def _run(folder: Path, columns: Columns, number: int, **gate: object) -> tuple[dict, Path]:
    """One run of a store that remembers; node → whether it was cached, and the gate's artifact."""
    name = f"{number}-{columns['click'].sum()}"
    if not (folder / name).exists():
        _inputs(folder / name, columns, number)
    places = Places(str(folder / "root"), str(folder / "metadata.db"), "", "reviewed")
    config = load(DEMO, overrides={f"gate.{key}": value for key, value in gate.items()})
    prepared = PreparedSpan(folder=str(folder / name), number=number)
    nodes = [prepared, *anomaly_gate(config, places, prepared, prepared, prepared)]
    done: dict[str, NodeDone] = {}
    runner = StreetRunner(lambda node: None, lambda node: done.__setitem__(node.node, node))
    runner.run(
        Pipeline(
            "shop", places.root, components=nodes, enable_cache=True,
            metadata_connection_config=sqlite_metadata_connection_config(places.metadata),
        )
    )  # fmt: skip
    return {n: x.cached for n, x in done.items()}, Path(done["AnomalyGate"].outputs["anomalies"])


def _compared(artifact: Path) -> list[int]:
    return json.loads((artifact / "gate.json").read_text())["compared_with"]


def test_runs_are_held_against_the_spans_that_passed_and_no_other(tmp_path: Path) -> None:
    spans = {number: impressions(2_000, number) for number in (1, 2, 3)}
    _, first = _run(tmp_path, spans[1], 1)
    assert _compared(first) == []
    # The same span is not its own predecessor, and nothing is done twice.
    cached, again = _run(tmp_path, spans[1], 1)
    assert cached["AnomalyGate"] and again == first
    lost = half_the_clicks_gone(spans[2])
    for _ in range(2):  # what failed is not cached as if it had passed
        with pytest.raises(GateError, match="CTR"):
            _run(tmp_path, lost, 2)
    _, third = _run(tmp_path, spans[3], 3)
    assert _compared(third) == [1], "the rejected span is none to compare with"
    # The log is mended: the span passes, and the one behind it sees it.
    _, second = _run(tmp_path, spans[2], 2)
    assert _compared(second) == [1]
    cached, third = _run(tmp_path, spans[3], 3)
    assert not cached["AnomalyGate"] and _compared(third) == [2, 1]
    # Clicks are half of what they were, and the team says that it is right.
    half = half_the_clicks_gone(spans[3])
    with pytest.raises(GateError, match=r"gate\.since=4"):
        _run(tmp_path, half, 4)
    _, fourth = _run(tmp_path, half, 4, since=4)
    assert _compared(fourth) == []
    _, fifth = _run(tmp_path, half, 5, since=4)
    assert _compared(fifth) == [4]
