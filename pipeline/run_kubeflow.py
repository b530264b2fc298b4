"""`heft compile`: a config in, what Kubeflow Pipelines or Vertex AI Pipelines run out."""

import json
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape

from heft.errors import ConfigError
from pipeline.capabilities import Target, capability_table
from pipeline.config import PipelineConfig
from pipeline.runtime_parameters import runtime_parameters
from pipeline.schema_files import read_schema
from pipeline.street import Prepared, Street, run_facts

__all__ = ["COMMAND", "compile_street", "compiled"]

COMMAND = ("python", "-m", "pipeline.run_pod")
_SUFFIXES: dict[Target, tuple[str, ...]] = {"kubeflow": (".yaml", ".yml"), "vertex": (".json",)}
_ANYWHERE = ("/", "gs://", "s3://", "hdfs://")


def compile_street(street: Street, out: Path, target: Target) -> None:
    """Compiles a config, writes it, and says what runs where and how to submit it.

    Raises:
        ConfigError: the config cannot be run on that cluster.
    """
    if out.suffix not in _SUFFIXES[target]:
        raise ConfigError(
            f"Expected one of {list(_SUFFIXES[target])} for {target}, received: --out {out}"
        )
    job, platform, config = compiled(street, target)
    out.parent.mkdir(parents=True, exist_ok=True)
    if target == "vertex":
        out.write_text(json.dumps(job, indent=1), encoding="utf-8")
    else:
        documents = [job["pipelineSpec"], *([platform] if _says_something(platform) else [])]
        out.write_text(yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8")
    _tell(street, config, job, out, target)


def compiled(
    street: Street, target: Target
) -> tuple[dict[str, Any], dict[str, Any], PipelineConfig]:
    """A PipelineJob, a PlatformSpec, and the config that they are of.

    Raises:
        ConfigError: the config cannot be run on that cluster.
    """
    config = _config(street)
    _check(config, target)
    schema = read_schema(config)
    # TFX, which takes its time to import.
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner
    from tfx.orchestration.pipeline import Pipeline

    from pipeline.beam import beam_args
    from pipeline.kubeflow_nodes import on_pods, pod_nodes
    from pipeline.kubeflow_spec import finish, kubernetes_platform, own_artifact_types

    assert config.kubeflow is not None
    settings = config.kubeflow
    config = on_pods(config)
    ready = Prepared(config, Path(settings.shared), 0, "", schema)
    nodes = pod_nodes(config, schema, json.dumps(run_facts(ready, street)))
    _check_pods(settings.pods, [one.name for one in nodes])
    pipeline = Pipeline(
        pipeline_name=config.name,
        pipeline_root=settings.pipeline_root,
        components=[one.node for one in nodes],
        enable_cache=settings.caching,
        beam_pipeline_args=beam_args(config.beam),
    )
    told = runner.KubeflowV2DagRunnerConfig(
        default_image=settings.image, default_commands=list(COMMAND), use_pipeline_spec_2_1=True
    )
    parameters = runtime_parameters(config)
    with own_artifact_types():
        job = runner.KubeflowV2DagRunner(told).run(pipeline, parameters, write_out=False)
    finish(job["pipelineSpec"], nodes, settings, target, parameters)
    return job, kubernetes_platform(job["pipelineSpec"], nodes, settings), config


def _config(street: Street) -> PipelineConfig:
    settings = street.load().kubeflow
    if settings is None:
        raise ConfigError(
            f"{street.config_path} has no section kubeflow: expected image, pipeline_root and "
            "shared there; lay a file of your cluster over it by --with"
        )
    return street.load(Path(settings.shared) / street.load().name)


def _check(config: PipelineConfig, target: Target) -> None:
    """What would be found only in a pod, or by the cluster."""
    settings = config.kubeflow
    assert settings is not None
    if config.name != config.name.lower() or not config.name.replace("-", "").isalnum():
        raise ConfigError(
            f"name={config.name!r}: a pipeline's name in a cluster has a-z, 0-9 and - alone; set "
            "another by --name"
        )
    if config.simulate is None and not config.logs.root.startswith(_ANYWHERE):
        raise ConfigError(
            f"logs.root={config.logs.root!r} is a folder of this machine: expected one that every "
            f"pod sees, below {settings.shared} or in a bucket"
        )
    if target == "vertex":
        _check_vertex(config)


def _check_vertex(config: PipelineConfig) -> None:
    settings = config.kubeflow
    assert settings is not None
    bucket = settings.pipeline_root.startswith("gs://")
    for broken, what, instead in (
        (not bucket, f"pipeline_root={settings.pipeline_root!r}", "gs://"),
        (not settings.shared.startswith("/gcs/"), f"shared={settings.shared!r}",
         "/gcs/ and a bucket, which Vertex mounts"),
        (settings.volume is not None, f"volume={settings.volume!r}", "none: there are no volumes"),
        (bool(settings.secrets), f"secrets={sorted(settings.secrets)}",
         "none: Vertex gives a container no secrets"),
        (settings.workers > 1, f"workers={settings.workers}",
         "1, with several accelerators: tasks do not reach each other"),
    ):  # fmt: skip
        if broken:
            raise ConfigError(f"kubeflow.{what} on vertex: expected {instead}")


def _check_pods(named: Any, nodes: list[str]) -> None:
    unknown = sorted(set(named) - {*nodes, "default"})
    if unknown:
        raise ConfigError(
            f"Expected one of {sorted([*nodes, 'default'])}, received: kubeflow.pods={unknown}"
        )


def _says_something(platform: dict[str, Any]) -> bool:
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return any(executors.values())


def _tell(
    street: Street, config: PipelineConfig, job: dict[str, Any], out: Path, target: Target
) -> None:
    say, settings = street.console.print, config.kubeflow
    assert settings is not None
    say(capability_table(target))
    spec = job["pipelineSpec"]
    tasks = ", ".join(sorted(spec["root"]["dag"]["tasks"]))
    say(f"tasks       {tasks}", soft_wrap=True, markup=False)
    given = ", ".join(f"{name}={value}" for name, value in runtime_parameters(config).items())
    say(f"parameters  {escape(given)}", soft_wrap=True)
    say(f"written     {out}", soft_wrap=True, markup=False)
    account = f"service_account={settings.service_account!r}" if settings.service_account else ""
    if target == "kubeflow":
        call = f"kfp.Client(host=…).create_run_from_pipeline_package({str(out)!r}, "
        said = f"{call}arguments={{'span': …}}{', ' if account else ''}{account})"
    else:
        call = f"aiplatform.PipelineJob(display_name={config.name!r}, template_path={str(out)!r}, "
        said = f"{call}parameter_values={{'span': …}}).submit({account})"
    say(f"submit      {said}", soft_wrap=True, markup=False)
