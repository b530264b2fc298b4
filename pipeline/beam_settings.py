"""`beam:` in a config: which engine runs the Beam nodes, and what that engine has to know."""

import json
import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from heft.settings import Settings

__all__ = ["BeamSettings", "EnvironmentType"]

EnvironmentType = Literal["external", "process", "docker"]

_PORTABLE = ("flink", "spark", "portable")
_JAVA = ("flink", "spark")
# Which engines an option is for; `engine` and `arguments` are for all.
_FOR = {
    **dict.fromkeys(
        ("job_endpoint", "artifact_endpoint", "environment_type", "environment_config",
         "worker_processes"), _PORTABLE,
    ),
    **dict.fromkeys(("master", "job_server_jar", "artifacts_dir"), _JAVA),
    "parallelism": ("flink",),
    **dict.fromkeys(
        ("project", "region", "temp_location", "worker_image", "machine_type", "max_workers"),
        ("dataflow",),
    ),
}  # fmt: skip
_PLACE = re.compile(r"^[^\s:/]+:\d{1,5}$")
_CONFIGS = {
    "external": "host:port of the worker pool",
    "process": "the command that starts a worker",
    "docker": "the image of the workers",
}


class BeamSettings(Settings):
    """The engine of every Beam node: ours, and TFX's.

    Attributes:
        engine: `direct` is this process; `flink` and `spark` are clusters behind their job
            servers; `portable` is any other job server that speaks Beam's protocol, such as
            Prism; `dataflow` is Google's service.
        arguments: Beam's own flags, for what has no setting here; they come last and win.
        job_endpoint: host:port of a job server that is running.
        artifact_endpoint: host:port that files are staged to; the job server tells it by itself
            unless it is behind a proxy.
        master: of a job server that is to be started for each job: host:port of Flink's REST
            interface, or Spark's `spark://host:port`. With `job_server_jar`, in place of
            `job_endpoint`.
        job_server_jar: Beam's job server as one jar.
        artifacts_dir: folder that such a job server stages files to; all workers reach it.
        parallelism: of Flink's steps; 0 leaves it to the cluster.
        worker_processes: Python processes on each machine of the cluster; 0 is one per core.
        environment_type: how the cluster comes by Python workers: `external`, a pool that is
            running; `process`, a command on each machine; `docker`, an image.
        environment_config: the pool's host:port, the command, or the image.
        project, region, temp_location, worker_image, machine_type, max_workers: Dataflow's.
    """

    engine: Literal["direct", "flink", "spark", "portable", "dataflow"] = "direct"
    arguments: tuple[str, ...] = ()
    job_endpoint: str | None = None
    artifact_endpoint: str | None = None
    master: str | None = None
    job_server_jar: str | None = None
    artifacts_dir: str | None = None
    parallelism: int = Field(0, ge=0)
    worker_processes: int = Field(1, ge=0)
    environment_type: EnvironmentType | None = None
    environment_config: str | None = None
    project: str | None = None
    region: str | None = None
    temp_location: str | None = None
    worker_image: str | None = None
    machine_type: str | None = None
    max_workers: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _flags_alone(cls, raw: Any) -> Any:
        """A list is Beam's flags for the direct engine."""
        return {"arguments": raw} if isinstance(raw, list | tuple) else raw

    @field_validator("job_endpoint", "artifact_endpoint")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        if value is not None and not _PLACE.match(value):
            raise ValueError("expected host:port, such as localhost:8099")
        return value

    @model_validator(mode="after")
    def _options_are_of_the_engine(self) -> Self:
        for name, engines in _FOR.items():
            if name in self.model_fields_set and self.engine not in engines:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is for {_one_of(engines)}, and engine is "
                    f"{self.engine}: leave it out, or name the other engine"
                )
        return self

    @model_validator(mode="after")
    def _cluster_is_named(self) -> Self:
        if self.engine not in _PORTABLE:
            return self
        started = self.master is not None or self.job_server_jar is not None
        if started and self.job_endpoint is not None:
            raise ValueError(
                f"job_endpoint={self.job_endpoint!r} is a job server that runs, and master with "
                "job_server_jar starts one: leave one of them out"
            )
        if started and (self.master is None or self.job_server_jar is None):
            raise ValueError(
                f"a job server is started from master and job_server_jar together, received "
                f"master={self.master!r}, job_server_jar={self.job_server_jar!r}"
            )
        if not started and self.job_endpoint is None:
            also = ", or master and job_server_jar to have one started" * (self.engine in _JAVA)
            raise ValueError(
                f"engine {self.engine} needs job_endpoint, the host:port of its job server{also}"
            )
        return self

    @model_validator(mode="after")
    def _workers_are_named(self) -> Self:
        if self.engine not in _PORTABLE:
            return self
        if self.environment_type is None:
            raise ValueError(
                f"engine {self.engine} needs environment_type: expected one of "
                f"{sorted(_CONFIGS)}, which says how its machines come by Python workers"
            )
        wanted = _CONFIGS[self.environment_type]
        given = self.environment_config
        if not given or (self.environment_type == "external" and not _PLACE.match(given)):
            raise ValueError(
                f"environment_type {self.environment_type} needs environment_config, {wanted}, "
                f"received: environment_config={given!r}"
            )
        return self

    @model_validator(mode="after")
    def _dataflow_is_complete(self) -> Self:
        if self.engine != "dataflow":
            return self
        for name in ("project", "region", "temp_location", "worker_image"):
            if not getattr(self, name):
                raise ValueError(f"engine dataflow needs {name}, received: {name}=None")
        if not str(self.temp_location).startswith("gs://"):
            raise ValueError(
                f"temp_location={self.temp_location!r} is not in Cloud Storage: expected gs://…"
            )
        return self

    @property
    def worker_command(self) -> str:
        """`environment_config` as Beam reads it: a command is JSON there."""
        given = self.environment_config or ""
        if self.environment_type == "process" and not given.lstrip().startswith("{"):
            return json.dumps({"command": given})
        return given


def _one_of(engines: tuple[str, ...]) -> str:
    listed = [f"engine {name}" for name in engines]
    return " or ".join(listed)
