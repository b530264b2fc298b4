"""What ML Metadata says of a pushed model, over two runs that share nodes."""

import json
from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from rich.console import Console

from heft.errors import InputError
from heft.versions import roll_back
from pipeline.lineage import lineage, lineage_table


class _Store:
    """Writes executions into a metadata file as TFX's launcher does."""

    def __init__(self, path: Path) -> None:
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = metadata_store.MetadataStore(config)

    def run(
        self, node: str, inputs: dict[str, int], outputs: dict[str, str], **facts: str
    ) -> dict[str, int]:
        """One execution; `outputs` are types by key. Returns ids by key."""
        kind = self.store.put_execution_type(pb.ExecutionType(name=f"components.{node}"))
        execution = pb.Execution(type_id=kind)
        execution.custom_properties["settings"].string_value = '{"depth": 2}'
        [number] = self.store.put_executions([execution])
        made = {}
        for key, name in outputs.items():
            type_id = self.store.put_artifact_type(pb.ArtifactType(name=name))
            artifact = pb.Artifact(type_id=type_id, uri=f"/runs/shop/{node}/{key}/{number}")
            for fact, value in facts.items():
                artifact.custom_properties[fact].string_value = value
            # As TFX keeps settings that are no single value.
            artifact.custom_properties["sizes"].struct_value["rows"] = 3
            [made[key]] = self.store.put_artifacts([artifact])
        events = [(pb.Event.INPUT, inputs), (pb.Event.OUTPUT, made)]
        self.store.put_events([_event(number, i, kind, key) for kind, of in events
                               for key, i in of.items()])  # fmt: skip
        context = pb.Context(
            type_id=self.store.put_context_type(pb.ContextType(name="node")), name=f"shop.{node}"
        )
        try:
            [context_id] = self.store.put_contexts([context])
        except Exception:  # it is there from the run before
            context_id = self.store.get_context_by_type_and_name("node", context.name).id
        link = pb.Association(execution_id=number, context_id=context_id)
        self.store.put_attributions_and_associations([], [link])
        return made


def _event(execution: int, artifact: int, kind: int, key: str) -> pb.Event:
    event = pb.Event(execution_id=execution, artifact_id=artifact, type=kind)
    event.path.steps.add().key = key
    event.path.steps.add().index = 0
    return event


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two days: the second trains on rows of its own, from the first day's model."""
    store, model = _Store(tmp_path / "metadata.db"), {}
    for day, version in ((1, "100"), (2, "200")):
        rows = store.run("LogExampleGen", {}, {"examples": "Examples"}, day=str(day))
        model = store.run("WeightedTrainer", {**rows, **{f"base_{k}": i for k, i in model.items()}},
                          {"model": "Model"})  # fmt: skip
        store.run("Pusher", model, {"pushed_model": "PushedModel"}, pushed_version=version)
        folder = tmp_path / "serving" / "heft" / version
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(version)
    return tmp_path


def test_a_model_is_traced_to_its_own_rows_and_to_the_model_it_goes_on_from(run: Path) -> None:
    found = lineage(run)
    assert found.version == 200
    assert json.loads(found.to_json())["steps"][0]["outputs"]["pushed_model"][0]["facts"][
        "sizes"
    ] == {"rows": 3}
    assert [step.node for step in found.steps] == ["Pusher", "WeightedTrainer", "LogExampleGen"]
    assert found.data is not None
    assert found.data.facts == {"day": "2"}
    trainer = found.steps[1]
    [base] = trainer.inputs["base_model"]
    assert base.uri == lineage(run, 100).steps[1].outputs["model"][0].uri
    assert trainer.parameters["settings"] == {"depth": 2}
    pushed = json.loads(found.to_json())["steps"][0]["outputs"]["pushed_model"][0]
    assert pushed["facts"] == {"pushed_version": "200"}


def test_after_going_back_the_lineage_is_that_of_the_earlier_model(run: Path) -> None:
    _, now = roll_back(run / "serving" / "heft")
    found = lineage(run)
    assert (found.version, found.rolled_back_from) == (now.number, 100)
    assert found.data is not None
    assert found.data.facts == {"day": "1"}


def test_the_table_names_nodes_and_artifacts(run: Path) -> None:
    console = Console(width=160, record=True)
    console.print(lineage_table(lineage(run)))
    text = console.export_text()
    assert "version 200" in text
    for step in lineage(run).steps:
        assert step.node in text


@pytest.mark.parametrize(
    ("version", "said"),
    [(150, "no version 150"), (300, "knows no push of version 300")],
)
def test_what_is_not_known_is_said(run: Path, version: int, said: str) -> None:
    folder = run / "serving" / "heft" / "300"
    folder.mkdir()
    (folder / "saved_model.pb").write_text("by hand")
    with pytest.raises(InputError, match=said):
        lineage(run, version)


def test_without_metadata_or_models_it_says_so(tmp_path: Path, run: Path) -> None:
    (run / "metadata.db").unlink()
    with pytest.raises(InputError, match="metadata of a run"):
        lineage(run)
    with pytest.raises(InputError, match="pushed no model"):
        lineage(tmp_path / "other")
