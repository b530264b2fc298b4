"""The engine of a config, as Beam and TFX understand its flags, and what is refused."""

import socket
from typing import Any

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import create_runner
from apache_beam.transforms import environments
from pydantic import ValidationError
from tfx.utils.dependency_utils import make_beam_dependency_flags

from heft.errors import ConfigError
from pipeline.beam import beam_args, check_engine
from pipeline.beam_settings import BeamSettings

PROCESS = {"environment_type": "process", "environment_config": "/opt/heft/worker"}
ENGINES: dict[str, dict[str, Any]] = {
    "direct": {},
    "flink": {"job_endpoint": "jobs:8099", "parallelism": 2, **PROCESS},
    "spark": {
        "job_endpoint": "jobs:8099", "environment_type": "external",
        "environment_config": "localhost:50000",
    },
    "portable": {
        "job_endpoint": "jobs:8073", "environment_type": "docker",
        "environment_config": "heft:1.0",
    },
    "dataflow": {
        "project": "shop", "region": "europe-west1", "temp_location": "gs://bucket/tmp",
        "worker_image": "europe-docker.pkg.dev/shop/heft/heft:1.0", "machine_type": "n2-standard-4",
        "max_workers": 20,
    },
}  # fmt: skip


def _settings(engine: str, **changes: Any) -> BeamSettings:
    given = {"engine": engine, **ENGINES[engine], **changes}
    return BeamSettings.model_validate({k: v for k, v in given.items() if v is not None})


def _options(settings: BeamSettings) -> PipelineOptions:
    options = PipelineOptions(beam_args(settings))
    unknown = options.get_all_options(retain_unknown_options=True).keys() - (
        options.get_all_options().keys()
    )
    assert unknown == set(), "Beam knows each flag"
    return options


def test_the_default_is_this_process_and_no_runner_to_download() -> None:
    options = _options(BeamSettings())
    assert options.view_as(StandardOptions).runner == "FnApiRunner"
    assert options.view_as(DirectOptions).direct_running_mode == "in_memory"


@pytest.mark.parametrize("engine", ["flink", "spark", "portable"])
def test_a_job_server_gets_the_environment_of_its_workers(engine: str) -> None:
    options = _options(_settings(engine, worker_processes=3))
    assert isinstance(create_runner(options.view_as(StandardOptions).runner), PortableRunner)
    portable = options.view_as(PortableOptions)
    assert portable.job_endpoint == ENGINES[engine]["job_endpoint"]
    assert int(portable.sdk_worker_parallelism) == 3
    kind = ENGINES[engine]["environment_type"]
    made = PortableRunner._create_environment(options)
    wanted = {
        "process": environments.ProcessEnvironment,
        "external": environments.ExternalEnvironment,
        "docker": environments.DockerEnvironment,
    }[kind]
    assert type(made) is wanted
    told = {
        "process": lambda: made.command,
        "external": lambda: made.url,
        "docker": lambda: made.container_image,
    }[kind]()
    assert told == ENGINES[engine]["environment_config"]


@pytest.mark.parametrize(
    ("engine", "master", "flag"),
    [
        ("flink", "jobs:8081", "flink_master"),
        ("spark", "spark://jobs:7077", "spark_master_url"),
    ],
)
def test_a_job_server_can_be_started_for_each_job(engine: str, master: str, flag: str) -> None:
    settings = _settings(
        engine, job_endpoint=None, parallelism=None, master=master, job_server_jar="/jobs.jar"
    )
    options = _options(settings).get_all_options()
    assert options["runner"] == f"{engine.capitalize()}Runner"
    assert (options[flag], options[f"{engine}_job_server_jar"]) == (master, "/jobs.jar")


def test_dataflow_is_told_where_to_run_and_which_image() -> None:
    options = _options(_settings("dataflow"))
    assert options.view_as(StandardOptions).runner == "DataflowRunner"
    # Its validator as a whole asks Google about the bucket.
    validator = PipelineOptionsValidator(options, None)
    google = options.view_as(GoogleCloudOptions)
    assert validator.validate_gcs_path(google, "temp_location") == []
    assert (google.project, google.region) == ("shop", "europe-west1")
    worker = options.view_as(WorkerOptions)
    assert worker.sdk_container_image == ENGINES["dataflow"]["worker_image"]
    assert (worker.machine_type, worker.max_num_workers) == ("n2-standard-4", 20)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_node_packs_tfx_for_workers_that_have_it(engine: str) -> None:
    flags = beam_args(_settings(engine))
    assert make_beam_dependency_flags(flags) == flags


@pytest.mark.parametrize("engine", ENGINES)
def test_flags_of_ones_own_come_last_and_win(engine: str) -> None:
    settings = _settings(engine, arguments=("--runner=Mine", "--s3_endpoint_url=http://store"))
    assert _options(settings).view_as(StandardOptions).runner == "Mine"


def test_a_list_is_flags_alone() -> None:
    assert BeamSettings.model_validate(["--hdfs_host=h"]).arguments == ("--hdfs_host=h",)


@pytest.mark.parametrize(("engine", "changes", "said"), [
    ("direct", {"job_endpoint": "a:1"}, "job_endpoint='a:1' is for engine flink or engine spark"),
    ("spark", {"parallelism": 2}, "parallelism=2 is for engine flink, and engine is spark"),
    ("flink", {"region": "eu"}, "region='eu' is for engine dataflow"),
    ("flink", {"job_endpoint": None}, "needs job_endpoint, the host:port of its job server, or"),
    ("portable", {"job_endpoint": None}, "the host:port of its job server "),
    ("flink", {"job_endpoint": "http://a:1"}, "expected host:port, such as localhost:8099"),
    ("flink", {"master": "a:1"}, "leave one of them out"),
    ("flink", {"job_endpoint": None, "master": "a:1"}, "received master='a:1', job_server_jar"),
    ("flink", {"environment_type": None}, r"needs environment_type: expected one of \['docker"),
    ("flink", {"environment_config": None}, "needs environment_config, the command that starts"),
    ("spark", {"environment_config": "pool"}, "host:port of the worker pool, received: .*'pool'"),
    ("dataflow", {"region": None}, "engine dataflow needs region"),
    ("dataflow", {"temp_location": "/tmp"}, "is not in Cloud Storage: expected gs://"),
    ("dataflow", {"worker_image": None}, "engine dataflow needs worker_image"),
])  # fmt: skip
def test_what_an_engine_cannot_do_with_is_said_in_a_sentence(
    engine: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        _settings(engine, **changes)


def test_a_job_server_that_is_not_there_is_found_before_a_run() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
        settings = _settings("flink", job_endpoint=endpoint)
        with pytest.raises(ConfigError, match=f"job_endpoint={endpoint} does not answer"):
            check_engine(settings)
        server.listen()
        check_engine(settings)
