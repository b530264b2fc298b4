"""Artifacts in buckets, by the paths under which a pod sees them.

Kubeflow's launcher copies what a node reads to a local path, and what it wrote there to the
bucket; Vertex mounts buckets under the same paths. Heft's nodes work on these.
"""

from typing import Any

__all__ = ["MOUNTS", "bring_home", "local_path", "send_back", "type_title"]

# As in Kubeflow's launcher (LocalPathForURI), and plain folders for a trial on one machine.
MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/", "file://": ""}

Json = dict[str, Any]


def local_path(uri: str) -> str:
    """Where a pod sees `uri`; `uri` itself where it is a path."""
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            return mount + uri.removeprefix(scheme)
    return uri


def bring_home(told: Json, declared: Json, own_types: dict[str, str]) -> dict[str, str]:
    """Makes an ExecutorInput one that TFX can work on, in place.

    Every URI becomes a local path. Types that Kubeflow leaves out of inputs are filled in, and
    own types are named by their import path, as TFX expects.

    Args:
        told: the ExecutorInput.
        declared: the component's inputs, as in the spec.
        own_types: import path by title, of types that are not TFX's.

    Returns:
        What stood in place of each local path.
    """
    before: dict[str, str] = {}
    for side in ("inputs", "outputs"):
        for key, many in told.get(side, {}).get("artifacts", {}).items():
            for artifact in many.get("artifacts", []):
                uri = artifact.get("uri", "")
                artifact["uri"] = local_path(uri)
                before[artifact["uri"]] = uri
                kind = artifact.get("type") or {}
                if not kind and side == "inputs":
                    kind = declared.get("artifacts", {}).get(key, {}).get("artifactType", {})
                title = type_title(kind)
                artifact["type"] = {"schemaTitle": own_types.get(title, title)}
    file = told.get("outputs", {}).get("outputFile")
    if file:
        told["outputs"]["outputFile"] = local_path(file)
    return before


def send_back(answer: Json, before: dict[str, str]) -> None:
    """Puts URIs back in an ExecutorOutput, in place: those of artifacts, and those that a node
    has stamped on one, such as the model that a blessing is for."""
    for many in answer.get("artifacts", {}).values():
        for artifact in many.get("artifacts", []):
            artifact["uri"] = _remote(artifact.get("uri", ""), before)
            stamped = artifact.get("metadata", {})
            for name, value in stamped.items():
                if isinstance(value, str):
                    stamped[name] = _remote(value, before)


def type_title(kind: Json) -> str:
    """The title of an artifact type: `tfx.Examples`."""
    if "schemaTitle" in kind:
        return str(kind["schemaTitle"])
    for line in kind.get("instanceSchema", "").splitlines():
        name, _, title = line.partition(":")
        if name == "title":
            return str(title.strip().strip("'\""))
    return "tfx.Artifact"


def _remote(value: str, before: dict[str, str]) -> str:
    """What stood in place of a path, or of a folder that it is in."""
    for path, uri in before.items():
        if value == path or value.startswith(f"{path}/"):
            return uri + value.removeprefix(path)
    return value
