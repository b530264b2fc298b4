"""Which outputs of a run's folder are to stay, and which may go."""

from dataclasses import dataclass
from pathlib import Path

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.components.evaluator import constants

from components.artifacts import GATE_FORMAT, PairReadings, TextEmbeddings
from pipeline.metadata_store import node_executions, node_of, pipeline_executions

__all__ = ["Doomed", "Kept", "doomed"]

_DONE = (pb.Execution.COMPLETE, pb.Execution.CACHED)
_LAST_NODE = "ReportGen"
_JUDGE = "WeightingJudge"
# What a resolver hands to the next run, by the type of artifact: the newest of each stays.
_RESOLVED = (TextEmbeddings.TYPE_NAME, PairReadings.TYPE_NAME)
_OLD, _LEFT = "of an old run", "of a run that was killed"
# What nodes keep beside their outputs: tables of spans that were rejected, states to go on from.
_REJECTED, _RESUME, _SYSTEM = "rejected", "resume", ".system"


@dataclass(frozen=True)
class Kept:
    """What is not to go, beside what a resolver may ask for.

    Attributes:
        runs: the newest finished runs.
        pushed: numbers of the versions that lie in the serving folder.
        base_model: a path that the config begins with; None for none.
    """

    runs: int
    pushed: frozenset[str] | set[str] = frozenset()
    base_model: str | None = None


@dataclass(frozen=True)
class Doomed:
    """A folder that may go.

    Attributes:
        folder: below the root of the artifacts.
        size: bytes of its files.
        why: in a few words.
        artifact: whose folder it is; None where ML Metadata knows of none.
    """

    folder: Path
    size: int
    why: str
    artifact: int | None = None


def doomed(
    store: metadata_store.MetadataStore, pipeline: str, root: Path, kept: Kept
) -> list[Doomed]:
    """The folders that may go; to be called by who is alone in the run's folder.

    What stays: every artifact that the newest finished runs made, took from the cache or read,
    and whatever ran since the oldest of these; the last blessed model and its blessing; the
    models of the versions that are served; the newest embeddings; of each span what AnomalyGate
    passed last; the model that the config begins with. A run is finished when its report is.
    """
    live = [
        artifact
        for artifact in store.get_artifacts()
        if artifact.state == pb.Artifact.LIVE and Path(artifact.uri).is_relative_to(root)
    ]
    reports = node_executions(store, pipeline, _LAST_NODE)
    ended = [one for one in reports if one.last_known_state in _DONE]
    since = _first_of(store, ended[-kept.runs].id) if len(ended) > kept.runs else 0
    ids = [one.id for one in pipeline_executions(store, pipeline) if one.id >= since]
    events = store.get_events_by_execution_ids(ids) if ids else []
    stays = {event.artifact_id for event in events} | _needed(store, live, kept)
    going = [artifact for artifact in live if artifact.id not in stays]
    # Several artifacts may share a folder, and one may lie in another's.
    needed = {Path(artifact.uri) for artifact in live if artifact.id in stays}
    found = [
        Doomed(Path(artifact.uri), _size(Path(artifact.uri)), _OLD, artifact.id)
        for artifact in going
        if not _holds(Path(artifact.uri), needed)
    ]
    known = needed | {one.folder for one in found}
    # Nothing goes on from a state that is older than a finished run.
    stale = ended[-1].last_update_time_since_epoch / 1_000 if ended else 0.0
    return [*found, *_beside(root, since, stale), *_left(root, known)]


def _first_of(store: metadata_store.MetadataStore, execution: int) -> int:
    """The first execution of the run that an execution belongs to."""
    kinds = {kind.id: kind.name for kind in store.get_context_types()}
    for context in store.get_contexts_by_execution(execution):
        if kinds.get(context.type_id) == "pipeline_run":
            return min(one.id for one in store.get_executions_by_context(context.id))
    return execution


def _needed(store: metadata_store.MetadataStore, live: list[pb.Artifact], kept: Kept) -> set[int]:
    """Artifacts that a later run, or who asks what is served, may need."""
    kinds = {kind.id: kind.name for kind in store.get_artifact_types()}
    by_kind: dict[str, list[pb.Artifact]] = {}
    for artifact in sorted(live, key=lambda one: one.id):
        by_kind.setdefault(kinds[artifact.type_id], []).append(artifact)
    stays = {by_kind[kind][-1].id for kind in _RESOLVED if kind in by_kind}
    stays |= _blessed(store, by_kind)
    stays |= _passed(by_kind.get("ExampleAnomalies", []))
    for push in by_kind.get("PushedModel", []):
        if _text(push, "pushed_version") in kept.pushed:
            stays |= {push.id, *_read_by_maker(store, push.id)}
    if kept.base_model is not None:
        base = Path(kept.base_model).absolute()
        stays |= {one.id for one in live if base.is_relative_to(Path(one.uri))}
    return stays


def _blessed(
    store: metadata_store.MetadataStore, by_kind: dict[str, list[pb.Artifact]]
) -> set[int]:
    """The newest model that the judge ever blessed, and what it was blessed by."""
    models = {model.id for model in by_kind.get("Model", [])}
    blessings: dict[int, set[int]] = {}
    for blessing in by_kind.get("ModelBlessing", []):
        model = _number(blessing, constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        good = _number(blessing, constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        if model in models and good and _maker(store, blessing.id) == _JUDGE:
            blessings.setdefault(model, set()).add(blessing.id)
    return {max(blessings), *blessings[max(blessings)]} if blessings else set()


def _passed(anomalies: list[pb.Artifact]) -> set[int]:
    """Of each span what passed the gate last."""
    latest = {
        (_number(artifact, GATE_FORMAT), artifact.properties["span"].int_value): artifact.id
        for artifact in anomalies
    }
    return set(latest.values())


def _maker(store: metadata_store.MetadataStore, artifact: int) -> str | None:
    makers = _makers(store, artifact)
    return node_of(store, makers[0]) if makers else None


def _makers(store: metadata_store.MetadataStore, artifact: int) -> list[int]:
    events = store.get_events_by_artifact_ids([artifact])
    return sorted(event.execution_id for event in events if event.type == pb.Event.OUTPUT)


def _read_by_maker(store: metadata_store.MetadataStore, artifact: int) -> set[int]:
    makers = _makers(store, artifact)[:1]
    events = store.get_events_by_execution_ids(makers) if makers else []
    return {event.artifact_id for event in events if event.type == pb.Event.INPUT}


def _left(root: Path, known: set[Path]) -> list[Doomed]:
    """Folders of outputs that belong to no artifact, and what nodes keep while they run."""
    outputs = [
        folder
        for folder in root.glob("*/*/*")
        if folder.name.isdigit() and folder.parent.name not in (_REJECTED, _RESUME, _SYSTEM)
    ]
    return [
        Doomed(folder, _size(folder), _LEFT)
        for folder in sorted((*outputs, *root.glob(f"*/{_SYSTEM}/*/*")))
        if folder.is_dir() and folder not in known and not _holds(folder, known)
    ]


def _beside(root: Path, since: int, stale: float) -> list[Doomed]:
    """Tables of executions before `since`, and states that nobody has written to after `stale`."""
    rejected = [one for one in root.glob(f"*/{_REJECTED}/*") if _execution(one) < since]
    resume = [one for one in root.glob(f"*/{_RESUME}") if 0 < _written(one) < stale]
    return [Doomed(folder, _size(folder), _OLD) for folder in (*rejected, *resume)]


def _execution(folder: Path) -> int:
    return int(folder.name) if folder.name.isdigit() else 0


def _written(folder: Path) -> float:
    return max((path.lstat().st_mtime for path in folder.rglob("*")), default=0.0)


def _holds(folder: Path, others: set[Path]) -> bool:
    return any(other.is_relative_to(folder) for other in others)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _number(artifact: pb.Artifact, name: str) -> int | None:
    value = artifact.custom_properties.get(name)
    return None if value is None else int(value.int_value)


def _text(artifact: pb.Artifact, name: str) -> str | None:
    value = artifact.custom_properties.get(name)
    return None if value is None else str(value.string_value)
