"""From what TFX compiles to what a cluster takes: types, resources, retries, secrets, defaults."""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types.artifact import Artifact, PropertyType

from heft.kubeflow_settings import KubeflowSettings, PodSettings
from pipeline.capabilities import Target
from pipeline.kubeflow_nodes import PodNode
from pipeline.pods import Pod

__all__ = ["finish", "kubernetes_platform", "own_artifact_types"]

Json = dict[str, Any]

_KINDS = {PropertyType.INT: "integer", PropertyType.FLOAT: "double", PropertyType.STRING: "string"}
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)}
_BACKOFF_LIMIT = "3600s"


@contextmanager
def own_artifact_types() -> Iterator[None]:
    """TFX writes artifact types of its own into a spec, and of others none with properties.

    Within, Heft's types are written too, as `heft.TextEmbeddings`.
    """
    stock = compiler_utils.get_artifact_schema

    def schema(kind: type[Artifact]) -> str:
        if not kind.__module__.startswith("components."):
            return str(stock(kind), "utf-8") if isinstance(stock(kind), bytes) else stock(kind)
        properties = {
            name: {"type": _KINDS[kept.type]} for name, kept in (kind.PROPERTIES or {}).items()
        }
        written = {"title": f"heft.{kind.__name__}", "type": "object", "properties": properties}
        return yaml.safe_dump(written, sort_keys=False)

    compiler_utils.get_artifact_schema = schema
    try:
        yield
    finally:
        compiler_utils.get_artifact_schema = stock


def finish(
    spec: Json,
    nodes: list[PodNode],
    settings: KubeflowSettings,
    target: Target,
    parameters: dict[str, str | int | float],
) -> None:
    """Completes a PipelineSpec in place.

    Args:
        spec: as TFX compiled it.
        nodes: in order.
        settings: of the cluster.
        target: which cluster.
        parameters: runtime parameters and their defaults.
    """
    spec["defaultPipelineRoot"] = settings.pipeline_root
    for name, given in spec["root"].get("inputDefinitions", {}).get("parameters", {}).items():
        given |= {"defaultValue": parameters[name], "isOptional": True}
    for one in nodes:
        chief, *others = one.pods
        label = spec["components"][one.node.id]["executorLabel"]
        container = spec["deploymentSpec"]["executors"][label]["container"]
        task = spec["root"]["dag"]["tasks"][one.node.id]
        task["taskInfo"] = {"name": one.node.id}
        task["retryPolicy"] = _retries(settings)
        cached = settings.caching and (one.name != "LogExampleGen" or settings.cache_logs)
        task["cachingOptions"] = {"enableCache": cached} if cached else {}
        _equip(container, _pod_settings(settings, one.name), settings, target)
        for index, pod in enumerate(others, start=1):
            _copy(spec, one.node.id, f"{one.node.id}-worker-{index}", pod)
        container["args"] += _told(chief)


def kubernetes_platform(spec: Json, nodes: list[PodNode], settings: KubeflowSettings) -> Json:
    """What of a pod is Kubernetes' alone: a PlatformSpec, by executor."""
    executors = {}
    names = {one.node.id: one.name for one in nodes}
    for task in spec["root"]["dag"]["tasks"]:
        pod = _pod_settings(settings, names[re.sub(r"-worker-\d+$", "", task)])
        executors[spec["components"][task]["executorLabel"]] = _kubernetes(pod, settings)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _kubernetes(pod: PodSettings, settings: KubeflowSettings) -> Json:
    """A KubernetesExecutorConfig; names as text too, which older backends read."""
    config: Json = {}
    if settings.volume is not None:
        config["pvcMount"] = [
            {
                "constant": settings.volume,
                "pvcNameParameter": _constant(settings.volume),
                "mountPath": settings.shared,
            }
        ]
    if settings.secrets:
        config["secretAsEnv"] = [
            {
                "secretName": one.secret,
                "secretNameParameter": _constant(one.secret),
                "keyToEnv": [{"secretKey": one.key, "envVar": variable}],
            }
            for variable, one in settings.secrets.items()
        ]
    if settings.image_pull_secrets:
        config["imagePullSecret"] = [
            {"secretName": name, "secretNameParameter": _constant(name)}
            for name in settings.image_pull_secrets
        ]
    if pod.node_selector:
        config["nodeSelector"] = {"labels": pod.node_selector}
    if pod.tolerations:
        config["tolerations"] = [
            {key: value for key, value in one.model_dump().items() if value}
            for one in pod.tolerations
        ]
    return config


def _constant(value: str) -> Json:
    return {"runtimeValue": {"constant": value}}


def _equip(container: Json, pod: PodSettings, settings: KubeflowSettings, target: Target) -> None:
    """Image, variables and resources; limits are requests too, so that a pod gets what it is
    told it has."""
    container["image"] = pod.image or settings.image
    if settings.env:
        container["env"] = [{"name": n, "value": v} for n, v in settings.env.items()]
    resources: Json = {}
    if pod.cpu is not None:
        resources |= {"cpuLimit": pod.cpu, "cpuRequest": pod.cpu}
    if pod.memory is not None:
        gigabytes = _bytes(pod.memory) / 1e9
        resources |= {"memoryLimit": gigabytes, "memoryRequest": gigabytes}
    if pod.accelerator is not None:
        resources["accelerator"] = {"type": pod.accelerator, "count": str(pod.accelerators)}
    if target == "kubeflow":  # whose newer backends read these
        if pod.cpu is not None:
            resources |= {"resourceCpuLimit": f"{pod.cpu:g}", "resourceCpuRequest": f"{pod.cpu:g}"}
        if pod.memory is not None:
            resources |= {"resourceMemoryLimit": pod.memory, "resourceMemoryRequest": pod.memory}
        if pod.accelerator is not None:
            resources["accelerator"] |= {
                "resourceType": pod.accelerator,
                "resourceCount": str(pod.accelerators),
            }
    if resources:
        container["resources"] = resources


def _copy(spec: Json, name: str, copied: str, pod: Pod) -> None:
    """One more task with the inputs of `name`; nobody reads what it answers."""
    component = copy.deepcopy(spec["components"][name])
    executor = copy.deepcopy(spec["deploymentSpec"]["executors"][component["executorLabel"]])
    component["executorLabel"] = f"{copied}_executor"
    executor["container"]["args"] += _told(pod)
    task = copy.deepcopy(spec["root"]["dag"]["tasks"][name])
    task |= {"taskInfo": {"name": copied}, "componentRef": {"name": copied}}
    spec["components"][copied] = component
    spec["deploymentSpec"]["executors"][component["executorLabel"]] = executor
    spec["root"]["dag"]["tasks"][copied] = task


def _told(pod: Pod) -> list[str]:
    return ["--heft_pod", pod.model_dump_json(exclude_defaults=True)]


def _retries(settings: KubeflowSettings) -> Json:
    return {
        "maxRetryCount": settings.retries,
        "backoffDuration": f"{settings.backoff_seconds}s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": _BACKOFF_LIMIT,
    }


def _pod_settings(settings: KubeflowSettings, name: str) -> PodSettings:
    return settings.pods.get(name, settings.pods.get("default", PodSettings()))


def _bytes(memory: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", memory).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
