"""Where a pushed model comes from, as ML Metadata remembers it."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from rich.markup import escape
from rich.table import Table

from heft.errors import InputError
from heft.versions import Version, versions
from pipeline.metadata import read_settings
from pipeline.run_metadata import open_records

__all__ = ["Lineage", "Made", "Step", "lineage", "lineage_table"]

_MADE = (pb.Event.OUTPUT, pb.Event.INTERNAL_OUTPUT)
_READ = (pb.Event.INPUT, pb.Event.INTERNAL_INPUT)
_UNTOLD = ("tfx_version", "is_external", "state", "name")


@dataclass(frozen=True)
class Made:
    """An artifact: its id in the metadata, its type, where it lies and what it says of itself."""

    id: int
    type: str
    uri: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One execution of a node.

    Attributes:
        node: its name in the pipeline.
        execution: its id in the metadata.
        finished: ISO 8601, when it was last touched.
        parameters: what the node was told.
        inputs, outputs: artifacts by key.
    """

    node: str
    execution: int
    finished: str
    parameters: dict[str, Any]
    inputs: dict[str, list[Made]]
    outputs: dict[str, list[Made]]


@dataclass(frozen=True)
class Lineage:
    """Everything behind one pushed version, the push first.

    Attributes:
        version: of the model.
        rolled_back_from: the version it is a copy of, if it is one.
        steps: one for each node; what a step takes from an earlier run of its own kind is among
            its inputs and not followed.
    """

    version: int
    rolled_back_from: int | None
    steps: tuple[Step, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=1)

    @property
    def data(self) -> Made | None:
        """The ingested examples."""
        for step in self.steps:
            if step.node == "LogExampleGen":
                return step.outputs["examples"][0]
        return None


def lineage(run_dir: str | Path, version: int | None = None) -> Lineage:
    """What made a version that a run pushed, the one being served by default.

    Raises:
        InputError: the run pushed no such version, or its metadata is gone.
    """
    pushed = _pushed(Path(run_dir), version)
    store = open_records(Path(run_dir))
    types = {kind.id: kind.name for kind in store.get_artifact_types()}
    known = "PushedModel" in types.values()
    pushes = store.get_artifacts_by_type("PushedModel") if known else []
    if read_settings(Path(run_dir)).engine == "mysql":
        pushes = [push for push in pushes if _is_of(store, push, Path(run_dir).absolute().name)]
    for artifact in pushes:
        if artifact.custom_properties["pushed_version"].string_value == str(pushed.source):
            steps = tuple(_steps(store, types, artifact.id))
            copied = pushed.source if pushed.source != pushed.number else None
            return Lineage(pushed.number, copied, steps)
    raise InputError(
        f"the metadata of {run_dir} knows no push of version {pushed.source}: expected one of "
        f"{sorted(a.custom_properties['pushed_version'].string_value for a in pushes)}"
    )


def _is_of(store: metadata_store.MetadataStore, artifact: pb.Artifact, pipeline: str) -> bool:
    """Other pipelines' records may lie in the same database; a run's folder has the name of its."""
    contexts = store.get_contexts_by_artifact(artifact.id)
    return any(context.type == "pipeline" and context.name == pipeline for context in contexts)


def _pushed(run_dir: Path, version: int | None) -> Version:
    folder = run_dir / "serving" / "heft"
    found = versions(folder)
    if not found:
        raise InputError(f"{run_dir} pushed no model: its report says why")
    for one in found:
        if version in (None, one.number):
            return one
    listed = ", ".join(str(one.number) for one in found)
    raise InputError(f"there is no version {version} in {folder}: expected one of {listed}")


def _steps(store: metadata_store.MetadataStore, types: dict[int, str], wanted: int) -> list[Step]:
    """The executions behind an artifact, breadth first, one for each node."""
    found: dict[str, Step] = {}
    queue, seen = [wanted], {wanted}
    while queue:
        [execution] = _executions(store, queue.pop(0), _MADE) or [None]
        if execution is None:
            continue
        step = _step(store, types, execution)
        if step.node in found:
            continue
        found[step.node] = step
        for made in _each(step.inputs):
            if made.id not in seen:
                seen.add(made.id)
                queue.append(made.id)
    return list(found.values())


def _each(made: dict[str, list[Made]]) -> Iterator[Made]:
    for some in made.values():
        yield from some


def _executions(
    store: metadata_store.MetadataStore, artifact: int, kinds: tuple[int, ...]
) -> list[pb.Execution]:
    events = store.get_events_by_artifact_ids([artifact])
    ids = [event.execution_id for event in events if event.type in kinds]
    # A cached execution repeats the outputs of the one that made them.
    return store.get_executions_by_id([min(ids)]) if ids else []


def _step(
    store: metadata_store.MetadataStore, types: dict[int, str], execution: pb.Execution
) -> Step:
    events = store.get_events_by_execution_ids([execution.id])
    names = {event.artifact_id for event in events}
    artifacts = {artifact.id: artifact for artifact in store.get_artifacts_by_id(sorted(names))}

    def of(kinds: tuple[int, ...]) -> dict[str, list[Made]]:
        made: dict[str, list[Made]] = {}
        for event in events:
            if event.type in kinds:
                key = event.path.steps[0].key
                made.setdefault(key, []).append(_made(artifacts[event.artifact_id], types))
        return made

    done = datetime.fromtimestamp(execution.last_update_time_since_epoch / 1000, UTC)
    return Step(
        node=_node(store, execution),
        execution=execution.id,
        finished=done.isoformat(timespec="seconds"),
        parameters=_facts(execution),
        inputs=of(_READ),
        outputs=of(_MADE),
    )


def _node(store: metadata_store.MetadataStore, execution: pb.Execution) -> str:
    """TFX keeps it as the context `pipeline.node`."""
    kinds = {kind.id: kind.name for kind in store.get_context_types()}
    for context in store.get_contexts_by_execution(execution.id):
        if kinds.get(context.type_id) == "node":
            return str(context.name.split(".", 1)[1])
    return f"execution {execution.id}"


def _made(artifact: pb.Artifact, types: dict[int, str]) -> Made:
    return Made(artifact.id, types[artifact.type_id], artifact.uri, _facts(artifact))


def _facts(of: pb.Artifact | pb.Execution) -> dict[str, Any]:
    """Properties by name, texts that are JSON read."""
    facts = {}
    for properties in (of.properties, of.custom_properties):
        for name, value in properties.items():
            if name not in _UNTOLD:
                facts[name] = _read(getattr(value, value.WhichOneof("value")))
    return facts


def _read(value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value)
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


# What tells two runs apart: in the table; JSON has everything.
_TOLD = ("span", "rows", "texts", "encoder", "input_fingerprint", "source_digest", "schema_file")


def lineage_table(found: Lineage) -> Table:
    """The steps as a table, the push first."""
    title = f"version {found.version}"
    if found.rolled_back_from is not None:
        title += f", a copy of {found.rolled_back_from}"
    table = Table("node", "finished", "took", "made", "facts", title=title, title_justify="left")
    for step in found.steps:
        facts = dict(step.parameters)
        for made in _each(step.outputs):
            facts |= made.facts
        table.add_row(
            step.node,
            step.finished.replace("+00:00", "Z"),
            ", ".join(f"{made.type} {made.id}" for made in _each(step.inputs)),
            ", ".join(f"{made.type} {made.id}" for made in _each(step.outputs)),
            escape("\n".join(f"{k} {_short(facts[k])}" for k in _TOLD if facts.get(k))),
        )
    return table


def _short(value: object) -> str:
    text = str(value)
    if "/" in text:
        return text.rsplit("/", 1)[1]
    return text if len(text) <= 16 else f"{text[:16]}…"
