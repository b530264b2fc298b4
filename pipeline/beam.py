"""Beam's arguments, the same for every node of a run."""

import socket

from heft.errors import ConfigError
from pipeline.beam_settings import BeamSettings

__all__ = ["beam_args", "check_engine"]

_PATIENCE = 10.0  # seconds for a job server to answer

# TFX would pack itself into an archive for each Beam node, which takes seconds, unless an
# image says that workers have it. Ours have: they start from an installed Heft.
_WORKERS_ARE_READY = "--sdk_container_image=heft"
# Worker processes import it before they read any step.
_PLUGIN = "--beam_plugin=heft.worker_plugin"


def beam_args(settings: BeamSettings | None = None) -> list[str]:
    """Flags for the engine of a config, by default this process; `arguments` come last and win.

    Args:
        settings: the section `beam` of a config.
    """
    settings = settings or BeamSettings()
    made = {
        "direct": _direct,
        "flink": _java,
        "spark": _java,
        "portable": _portable,
        "dataflow": _dataflow,
    }[settings.engine]
    return [*made(settings), *settings.arguments]


def check_engine(settings: BeamSettings) -> None:
    """Finds before a run what would otherwise end its first node.

    Raises:
        ConfigError: the job server does not answer.
    """
    if settings.job_endpoint is None:
        return
    host, port = settings.job_endpoint.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"beam.job_endpoint={settings.job_endpoint} does not answer ({error}): expected "
            f"Beam's job server for {settings.engine} there"
        ) from None


def _direct(_: BeamSettings) -> list[str]:
    """The in-memory runner is named outright: Beam's default would first look for
    a Prism binary to download."""
    return ["--runner=FnApiRunner", "--direct_running_mode=in_memory", _WORKERS_ARE_READY]


def _java(settings: BeamSettings) -> list[str]:
    """A job server that runs is asked by Beam's protocol; another is started for each job."""
    if settings.job_endpoint is not None:
        return _portable(settings)
    name = settings.engine
    master = "--flink_master" if name == "flink" else "--spark_master_url"
    return [
        f"--runner={name.capitalize()}Runner",
        f"{master}={settings.master}",
        f"--{name}_job_server_jar={settings.job_server_jar}",
        *_given("--artifacts_dir", settings.artifacts_dir),
        *_workers(settings),
    ]


def _portable(settings: BeamSettings) -> list[str]:
    return [
        "--runner=PortableRunner",
        f"--job_endpoint={settings.job_endpoint}",
        *_given("--artifact_endpoint", settings.artifact_endpoint),
        *_workers(settings),
    ]


def _workers(settings: BeamSettings) -> list[str]:
    kind = settings.environment_type or ""
    return [
        f"--environment_type={kind.upper()}",
        f"--environment_config={settings.worker_command}",
        f"--sdk_worker_parallelism={settings.worker_processes}",
        *_given("--parallelism", settings.parallelism or None),
        _WORKERS_ARE_READY,
        _PLUGIN,
    ]


def _dataflow(settings: BeamSettings) -> list[str]:
    return [
        "--runner=DataflowRunner",
        f"--project={settings.project}",
        f"--region={settings.region}",
        f"--temp_location={settings.temp_location}",
        f"--sdk_container_image={settings.worker_image}",
        # The image has what workers need: nothing is installed when they start.
        "--sdk_location=container",
        _PLUGIN,
        *_given("--machine_type", settings.machine_type),
        *_given("--max_num_workers", settings.max_workers or None),
    ]


def _given(flag: str, value: object) -> list[str]:
    return [] if value is None else [f"{flag}={value}"]
