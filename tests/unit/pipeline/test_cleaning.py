"""What `heft clean` removes, over made-up histories of runs in a real metadata store."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.components.evaluator import constants
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

from components.artifacts import GATE_FORMAT, TextEmbeddings
from heft.gate.findings import FORMAT
from pipeline.interrupted import forget_interrupted
from pipeline.metadata import MetadataSettings
from pipeline.metadata_store import connection_of, opened
from pipeline.places import Places
from pipeline.removing import finish_removing, remove
from pipeline.resolvers import BlessedBefore, LatestBefore, PassedBefore
from pipeline.retention import Kept, doomed

LIVE, DELETED = pb.Artifact.LIVE, pb.Artifact.DELETED
KINDS = {
    "examples": "Examples", "anomalies": "ExampleAnomalies", "embeddings": TextEmbeddings.TYPE_NAME,
    "model": "Model", "blessing": "ModelBlessing", "pushed_model": "PushedModel",
    "report": "HeftReport",
}  # fmt: skip
# A street of one output each: node → its output and what it reads.
STREET = {
    "LogExampleGen": ("examples", ()),
    "AnomalyGate": ("anomalies", ("examples",)),
    "TextEmbedder": ("embeddings", ("examples",)),
    "WeightedTrainer": ("model", ("embeddings",)),
    "WeightingJudge": ("blessing", ("model",)),
    "Pusher": ("pushed_model", ("model", "blessing")),
    "ReportGen": ("report", ("pushed_model",)),
}
NODES = list(STREET)


@dataclass(frozen=True)
class Told:
    """A run: the node from which on it is not in the cache, where it is killed, and the rest.

    What is in the cache is of the run before, or of one so many before that.
    """

    anew_from: int
    killed_in: int | None
    blessed: bool
    span: int
    back: int = 0


@dataclass
class House:
    """A run's folder, and its metadata, written as TFX writes them."""

    folder: Path
    store: metadata_store.MetadataStore
    runs: int = 0
    outputs: list[dict[str, pb.Artifact]] = field(default_factory=list)
    made: list[dict[str, int]] = field(default_factory=list)  # by finished run
    versions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        put, kind = self.store, pb.ExecutionType
        self.kinds = {
            name: put.put_artifact_type(pb.ArtifactType(name=name, properties={"span": pb.INT}))
            for name in KINDS.values()
        }
        self.contexts = {
            name: put.put_context_type(pb.ContextType(name=name))
            for name in ("pipeline", "pipeline_run", "node")
        }
        self.node_types = {name: put.put_execution_type(kind(name=name)) for name in NODES}
        self.pipeline = self._context("pipeline", "shop")

    @property
    def root(self) -> Path:
        return self.folder / "artifacts"

    def _context(self, kind: str, name: str) -> int:
        if found := self.store.get_context_by_type_and_name(kind, name):
            return int(found.id)
        made = pb.Context(type_id=self.contexts[kind], name=name)
        return int(self.store.put_contexts([made])[0])

    def run(self, told: Told) -> None:
        """Runs the street as it is told."""
        self.runs += 1
        run = self._context("pipeline_run", str(self.runs))
        anew = {node: index >= told.anew_from for index, node in enumerate(NODES)}
        back = min(told.back, len(self.outputs) - 1)
        last = self.outputs[-1 - back] if self.outputs else {}
        outputs: dict[str, pb.Artifact] = {}
        for index, (node, (key, reads)) in enumerate(STREET.items()):
            inputs = [outputs[name] for name in reads]
            cached = not anew[node] and key in last
            execution = self._begin(node, run, inputs)
            if not cached:
                (self.root / node / key / str(execution)).mkdir(parents=True)
                (self.root / node / key / str(execution) / "data").write_text("x" * 100)
                (self.root / node / ".system/executor_execution" / str(execution)).mkdir(
                    parents=True
                )
            if told.killed_in == index:
                return
            made = last[key] if cached else self._artifact(node, key, execution, told, outputs)
            self._end(execution, key, made, cached)
            outputs[key] = made
        self.outputs.append(outputs)
        self.made.append({key: made.id for key, made in outputs.items()})

    def _begin(self, node: str, run: int, inputs: list[pb.Artifact]) -> int:
        execution = pb.Execution(
            type_id=self.node_types[node], last_known_state=pb.Execution.RUNNING
        )
        [number] = self.store.put_executions([execution])
        contexts = (self.pipeline, run, self._context("node", f"shop.{node}"))
        self.store.put_attributions_and_associations(
            [], [pb.Association(context_id=c, execution_id=number) for c in contexts]
        )
        events = [
            pb.Event(artifact_id=one.id, execution_id=number, type=pb.Event.INPUT) for one in inputs
        ]
        if events:
            self.store.put_events(events)
        return int(number)

    def _artifact(
        self, node: str, key: str, execution: int, told: Told, outputs: dict[str, pb.Artifact]
    ) -> pb.Artifact:
        artifact = pb.Artifact(
            type_id=self.kinds[KINDS[key]], state=LIVE,
            uri=str(self.root / node / key / str(execution)),
        )  # fmt: skip
        own = artifact.custom_properties
        if key == "anomalies":
            artifact.properties["span"].int_value = told.span
            own[GATE_FORMAT].int_value = FORMAT
        elif key == "blessing":
            own[constants.ARTIFACT_PROPERTY_BLESSED_KEY].int_value = int(told.blessed)
            model = outputs["model"].id
            own[constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY].int_value = model
        elif key == "pushed_model" and told.blessed:
            own["pushed_version"].string_value = str(execution)
            self.versions.append(str(execution))
        [artifact.id] = self.store.put_artifacts([artifact])
        return artifact

    def _end(self, execution: int, key: str, made: pb.Artifact, cached: bool) -> None:
        event = pb.Event(artifact_id=made.id, execution_id=execution, type=pb.Event.OUTPUT)
        event.path.steps.add().key = key
        self.store.put_events([event])
        [ended] = self.store.get_executions_by_id([execution])
        ended.last_known_state = pb.Execution.CACHED if cached else pb.Execution.COMPLETE
        self.store.put_executions([ended])

    def live(self) -> dict[int, str]:
        return {a.id: a.uri for a in self.store.get_artifacts() if a.state == LIVE}

    def folders(self) -> set[str]:
        found = self.root.glob("*/*/*")
        return {str(path) for path in found if path.parent.name != ".system"}

    def clean(self, keep: int, pushed: int = 1) -> list[str]:
        kept = Kept(keep, set(self.versions[-pushed:]))
        found = doomed(self.store, "shop", self.root, kept)
        remove(self.store, found, self.root)
        return [str(one.folder) for one in found]

    def resolved(self, span: int) -> list[list[int]]:
        """What a next run would be compared with, by the resolvers themselves."""

        def live(kind: str, cls: type[Artifact]) -> list[Artifact]:
            found = []
            for one in self.store.get_artifacts_by_type(kind):
                if one.state == LIVE:
                    artifact = cls()
                    artifact.set_mlmd_artifact(one)
                    found.append(artifact)
            return found

        candidate = standard_artifacts.Model()
        candidate.id = 10**6
        asked = standard_artifacts.Examples()
        asked.id, asked.span = 10**6, span
        models = live("Model", standard_artifacts.Model)
        blessings = live("ModelBlessing", standard_artifacts.ModelBlessing)
        tables = live(TextEmbeddings.TYPE_NAME, TextEmbeddings)
        passed = live("ExampleAnomalies", standard_artifacts.ExampleAnomalies)
        found = (
            BlessedBefore().resolve_artifacts(
                None, {"model": models, "model_blessing": blessings, "candidate": [candidate]}
            ),
            LatestBefore().resolve_artifacts(None, {"earlier": tables, "candidate": [candidate]}),
            PassedBefore(3, 0, FORMAT).resolve_artifacts(
                None, {"passed": passed, "candidate": [asked]}
            ),
        )
        return [[a.id for a in one] for some in found for one in some.values()]


TOLD = st.builds(
    Told,
    anew_from=st.integers(0, len(NODES)),
    killed_in=st.one_of(st.none(), st.none(), st.integers(0, len(NODES) - 1)),
    blessed=st.booleans(),
    span=st.integers(0, 4),
    back=st.integers(0, 3),
)


def _houses() -> Iterator[House]:
    with TemporaryDirectory() as folder:
        config = pb.ConnectionConfig()
        config.fake_database.SetInParent()
        yield House(Path(folder), metadata_store.MetadataStore(config))


@pytest.fixture
def house() -> Iterator[House]:
    yield from _houses()


@settings(max_examples=15, deadline=None)
@given(history=st.lists(TOLD, min_size=1, max_size=9), keep=st.integers(1, 4))
def test_whatever_has_run_nothing_that_is_needed_goes(history: list[Told], keep: int) -> None:
    for house in _houses():
        for told in history:
            house.run(told)
        before = {span: house.resolved(span) for span in range(6)}
        house.clean(keep)
        live = house.live()
        assert [uri for uri in live.values() if not Path(uri).is_dir()] == []
        # Nothing else is left on the disk, and the next clean finds nothing.
        assert house.folders() == set(live.values())
        assert house.clean(keep) == []
        # The kept runs are whole, and the next run is compared with what it would have been.
        for outputs in house.made[-keep:]:
            assert set(outputs.values()) <= live.keys()
        assert {span: house.resolved(span) for span in range(6)} == before
        if house.versions:
            pushes = house.store.get_artifacts_by_type("PushedModel")
            own = [p for p in pushes if p.id in live]
            served = {p.custom_properties["pushed_version"].string_value for p in own}
            assert house.versions[-1] in served


def test_old_runs_go_and_take_their_disk_with_them(house: House) -> None:
    for span in range(6):
        house.run(Told(0, None, blessed=span == 1, span=span))
    before = len(house.folders())
    removed = house.clean(keep=2)
    assert len(house.folders()) <= before / 2 and removed
    kinds = {kind.id: kind.name for kind in house.store.get_artifact_types()}
    left = [kinds[a.type_id] for a in house.store.get_artifacts() if a.state == LIVE]
    # Two whole runs, the push that is served and what it was made of, and the gate of each span.
    counts = {kind: left.count(kind) for kind in KINDS.values()}
    assert counts == {
        "Examples": 2, "ExampleAnomalies": 6, TextEmbeddings.TYPE_NAME: 2, "Model": 3,
        "ModelBlessing": 3, "PushedModel": 3, "HeftReport": 2,
    }  # fmt: skip


def test_as_many_runs_as_are_to_stay_lose_nothing(house: House) -> None:
    for _ in range(3):
        house.run(Told(0, None, blessed=True, span=1))
    house.run(Told(0, 3, blessed=True, span=1))
    live = house.live()
    # Of the run that was killed goes what its last node had begun to write.
    removed = [folder for folder in house.clean(keep=3) if ".system" not in folder]
    assert [Path(folder).parts[-3] for folder in removed] == ["WeightedTrainer"]
    assert house.live() == live


def test_a_base_model_among_the_artifacts_stays(house: House) -> None:
    for _ in range(3):
        house.run(Told(0, None, blessed=True, span=1))
    first = house.store.get_artifacts_by_type("Model")[0]
    base = f"{first.uri}/Format-Serving"
    found = doomed(house.store, "shop", house.root, Kept(1, set(), base))
    assert first.uri not in {str(one.folder) for one in found}
    assert first.uri in {
        str(one.folder) for one in doomed(house.store, "shop", house.root, Kept(1))
    }


@pytest.mark.parametrize("after", range(4))
def test_a_removal_that_is_killed_is_ended_by_the_next_command(
    house: House, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    for _ in range(3):
        house.run(Told(0, None, blessed=False, span=1))
    steps = itertools.count()

    def killed(real: Any) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            if next(steps) == after:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return step

    store = type(house.store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "put_artifacts", killed(store.put_artifacts))
        patch.setattr("pipeline.removing.shutil.rmtree", killed(__import__("shutil").rmtree))
        with pytest.raises(KeyboardInterrupt):
            house.clean(keep=1)
    assert [uri for uri in house.live().values() if not Path(uri).is_dir()] == []
    finish_removing(house.store, house.root)
    assert house.folders() == set(house.live().values())
    assert set(house.made[-1].values()) <= house.live().keys()


def test_executions_that_go_on_for_ever_are_ended_and_their_outputs_go(tmp_path: Path) -> None:
    places = Places(str(tmp_path / "artifacts"), str(tmp_path / "metadata.db"), "")
    connection = connection_of(places, MetadataSettings())
    with opened(connection) as store:
        house = House(tmp_path, store)
        house.run(Told(0, None, blessed=True, span=1))
        house.run(Told(2, 3, blessed=True, span=1))
        live, half = house.live(), house.folders() - set(house.live().values())
        assert len(half) == 1
        resume = house.root / "WeightedTrainer" / "resume" / "state"
        resume.mkdir(parents=True)
    pipeline = Pipeline("shop", pipeline_root=places.root, metadata_connection_config=connection,
                        components=[])  # fmt: skip
    assert forget_interrupted(pipeline, MetadataSettings()) == 1
    assert forget_interrupted(pipeline, MetadataSettings()) == 0
    with opened(connection) as store:
        states = [execution.last_known_state for execution in store.get_executions()]
        assert pb.Execution.RUNNING not in states
        assert states.count(pb.Execution.FAILED) == 1
        house.store = store
        assert house.live() == live
    assert house.folders() - {str(resume)} == set(live.values())
    assert resume.is_dir(), "a training goes on from there"
