"""Taking folders of artifacts away, so that neither a cache nor a resolver ever misses one."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

from heft.whole_file import write_whole
from pipeline.retention import Doomed

__all__ = ["finish_removing", "remove"]

_PLAN = "cleaning.json"  # in the root of the artifacts, while they go


def remove(store: metadata_store.MetadataStore, found: Iterable[Doomed], root: Path) -> None:
    """Marks artifacts as deleted, then removes their folders.

    Were a folder gone first, a resolver could hand it on; were it to stay, the cache could take
    it and find nobody who may read it. What is to go is written down, so that the next command
    in the folder ends what was begun, whenever this one is killed.
    """
    plan = [{"folder": str(one.folder), "artifact": one.artifact} for one in found]
    write_whole(root / _PLAN, json.dumps(plan))
    finish_removing(store, root)


def finish_removing(store: metadata_store.MetadataStore, root: Path) -> None:
    """Ends a removal that was begun; nothing where there is none."""
    plan = root / _PLAN
    if not plan.is_file():
        return
    doomed = json.loads(plan.read_text(encoding="utf-8"))
    _mark_deleted(store, [one["artifact"] for one in doomed if one["artifact"] is not None])
    for one in doomed:
        shutil.rmtree(one["folder"], ignore_errors=True)
    plan.unlink()


def _mark_deleted(store: metadata_store.MetadataStore, ids: list[int]) -> None:
    artifacts = store.get_artifacts_by_id(ids) if ids else []
    for artifact in artifacts:
        artifact.state = pb.Artifact.DELETED
        # TFX keeps a state of its own beside that of ML Metadata.
        artifact.custom_properties["state"].string_value = "deleted"
    if artifacts:
        store.put_artifacts(artifacts)
