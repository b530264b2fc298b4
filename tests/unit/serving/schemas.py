"""Manifests checked against published schemas, without a cluster.

Kubernetes publishes its API as OpenAPI, and the Python package `kubernetes` carries it: each
model says the type of every field, and refuses to be made without one that is required.
`kserve_v1beta1.json` has the fields of KServe's InferenceService in the same notation, from
KServe's OpenAPI definitions (serving.kserve.io/v1beta1).
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes.client import models

__all__ = ["faults", "metrics_that_are_read"]

KINDS = {
    ("v1", "Namespace"): "V1Namespace", ("v1", "Service"): "V1Service",
    ("apps/v1", "Deployment"): "V1Deployment",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "V2HorizontalPodAutoscaler",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}  # fmt: skip
KSERVE: dict[str, Any] = json.loads((Path(__file__).parent / "kserve_v1beta1.json").read_text())
_PYTHON = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str}


def faults(manifest: dict[str, Any]) -> list[str]:
    """What the schema of the manifest's kind has against it."""
    kind = (manifest.get("apiVersion"), manifest.get("kind"))
    if kind not in KINDS:
        return [f"unknown kind {kind}"]
    return list(_check(manifest, KINDS[kind], ""))


def _check(value: Any, kind: str, place: str) -> Iterator[str]:
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{place}={value!r}: expected a list"
            return
        for index, item in enumerate(value):
            yield from _check(item, inner[1], f"{place}[{index}]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            yield f"{place}={value!r}: expected a mapping"
            return
        for name, item in value.items():
            yield from _check(item, inner[1], f"{place}.{name}")
    elif kind in _PYTHON:
        wrong = isinstance(value, bool) and kind != "bool"
        if wrong or not isinstance(value, _PYTHON[kind]):
            yield f"{place}={value!r}: expected {kind}"
    elif kind == "object":  # IntOrString
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{place}={value!r}: expected a number or text"
    elif not isinstance(value, dict):
        yield f"{place}={value!r}: expected {kind}"
    else:
        yield from _check_fields(value, kind, place)


def _check_fields(value: dict[str, Any], kind: str, place: str) -> Iterator[str]:
    fields, required = _fields(kind)
    for name in sorted(required - set(value)):
        yield f"{place}: {kind} needs {name}"
    for name, item in value.items():
        if name not in fields:
            yield f"{place}: {kind} has no field {name!r}"
        elif item is None:
            yield f"{place}.{name} is empty"
        else:
            yield from _check(item, fields[name], f"{place}.{name}")


def _fields(kind: str) -> tuple[dict[str, str], set[str]]:
    """The type of each field of a kind by its name in JSON, and those that have to be there."""
    if kind in KSERVE:
        known = KSERVE[kind]
        inherited: dict[str, str] = _fields(known["extends"])[0] if "extends" in known else {}
        return inherited | known["fields"], set(known.get("required", ()))
    model = getattr(models, kind)
    names = model.attribute_map
    return {names[n]: t for n, t in model.openapi_types.items()}, _required(model)


def _required(model: Any) -> set[str]:
    """Fields whose setter refuses None, which is how the package says that they are required."""
    return {
        model.attribute_map[name]
        for name in model.openapi_types
        if f"Invalid value for `{name}`, must not be `None`"
        in inspect.getsource(getattr(model, name).fset)
    }


def metrics_that_are_read() -> set[str]:
    """Names of metrics in the dashboard, the alerts and the adapter's rule."""
    folder = Path(__file__).resolve().parents[3] / "serving/monitoring"
    files = [path for path in folder.rglob("*") if path.suffix in (".yml", ".yaml", ".json")]
    return {
        name for path in files for name in re.findall(r":tensorflow:[a-z_:]+", path.read_text())
    }
