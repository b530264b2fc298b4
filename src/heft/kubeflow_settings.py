"""What a cluster is told of the pods that a street runs in."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from heft.settings import Settings

__all__ = ["KubeflowSettings", "PodSettings", "SecretKey", "Toleration"]

_ROOT = re.compile(r"^(gs|s3|minio)://[^/\s]+(/\S*)?$")
_ENV = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_MEMORY = r"^\d+(\.\d+)?(E|P|T|G|M|K|Ei|Pi|Ti|Gi|Mi|Ki)?$"
_KUBERNETES_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


class SecretKey(Settings):
    """One key of a Secret that is in the cluster; its value is nowhere in Heft's files."""

    secret: str = Field(pattern=_KUBERNETES_NAME)
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$")


class Toleration(Settings):
    """As Kubernetes has it."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class PodSettings(Settings):
    """What one node's pod gets.

    Attributes:
        cpu: cores.
        memory: as Kubernetes writes it, such as 16Gi.
        accelerator: a resource such as nvidia.com/gpu or google.com/tpu; on Vertex a type such
            as NVIDIA_L4.
        accelerators: how many of it.
        image: another one than the pipeline's, such as one with CUDA.
        node_selector: labels of the machines that it may run on.
        tolerations: of taints, which machines with accelerators often have.
    """

    cpu: float | None = Field(None, gt=0)
    memory: str | None = Field(None, pattern=_MEMORY)
    accelerator: str | None = None
    accelerators: int = Field(1, ge=1)
    image: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


class KubeflowSettings(Settings):
    """Settings of `heft compile`.

    Attributes:
        image: that every pod runs, with Heft installed.
        pipeline_root: where artifacts go: gs://, s3:// or minio://, a bucket and a prefix.
        shared: folder that every pod sees under the same path, for what outlives a run: pushed
            models, and what the next run takes up.
        volume: PersistentVolumeClaim that is mounted there; none where it is mounted already, as
            /gcs is on Vertex.
        service_account: that the pods run as.
        pods: by node, as `heft compile` lists them, or `default` for all others.
        retries: of a pod that failed.
        backoff_seconds: before the first of them; twice as long before each further one.
        caching: take from the cache what ran before with the same inputs and settings.
        cache_logs: LogExampleGen too, which reads files that the cache does not look at: for
            logs that never change under their span.
        env: variables of every pod.
        secrets: variables whose values are keys of Secrets.
        image_pull_secrets: names of Secrets for the registry of the image.
        workers: pods that train one model together; more than one sets `model.strategy` to
            `multi_worker`.
        rendezvous_seconds: that workers wait for each other.
    """

    image: str = Field(min_length=1)
    pipeline_root: str
    shared: str
    volume: str | None = Field(None, pattern=_KUBERNETES_NAME)
    service_account: str | None = None
    pods: dict[str, PodSettings] = Field(default_factory=dict)
    retries: int = Field(2, ge=0)
    backoff_seconds: int = Field(60, ge=0)
    caching: bool = True
    cache_logs: bool = False
    env: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, SecretKey] = Field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()
    workers: int = Field(1, ge=1)
    rendezvous_seconds: float = Field(1_800, gt=0)

    @field_validator("pipeline_root")
    @classmethod
    def _is_a_bucket(cls, root: str) -> str:
        if not _ROOT.match(root):
            raise ValueError("expected gs://, s3:// or minio://, a bucket and perhaps a prefix")
        return root.rstrip("/")

    @field_validator("shared")
    @classmethod
    def _is_a_path(cls, shared: str) -> str:
        if not shared.startswith("/") or shared == "/":
            raise ValueError("expected an absolute path below /, such as /mnt/heft")
        return shared.rstrip("/")

    @field_validator("env", "secrets")
    @classmethod
    def _names_variables(cls, variables: dict[str, object]) -> dict[str, object]:
        for name in variables:
            if not _ENV.match(name):
                raise ValueError(f"{name!r} cannot be the name of an environment variable")
        return variables

    @model_validator(mode="after")
    def _no_variable_twice(self) -> Self:
        if both := sorted(set(self.env) & set(self.secrets)):
            raise ValueError(f"{both} stand under env and under secrets: expected one place")
        return self
