"""`pipeline.run_beam_worker`, started by Beam's worker pool for Beam's own local job server."""

import json
import os
import sys
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from pipeline.beam import beam_args
from pipeline.beam_settings import BeamSettings
from tests.engines.java import worker_command
from tests.engines.processes import Servers, free_ports, listens


def test_a_worker_learns_from_the_cluster_what_to_do_and_with_which_options(tmp_path: Path) -> None:
    [pool] = free_ports(1)
    server = LocalJobServicer(str(tmp_path / "staged"))
    endpoint = f"localhost:{server.start_grpc_server(0)}"
    settings = BeamSettings(
        engine="portable", job_endpoint=endpoint, environment_type="external",
        environment_config=f"localhost:{pool}", arguments=("--s3_endpoint_url=http://store",),
    )  # fmt: skip
    told = str(tmp_path / "told.json")

    def tell(numbers: object) -> None:
        from apache_beam.io.filesystems import FileSystems

        options = FileSystems._pipeline_options.get_all_options()
        facts = {"sum": sum(numbers), "pid": os.getpid(), "store": options["s3_endpoint_url"]}
        Path(told).write_text(json.dumps(facts))

    with Servers(tmp_path) as servers:
        servers.start("pool", [
            sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main",
            f"--service_port={pool}", f"--container_executable={worker_command(tmp_path)}",
        ])  # fmt: skip
        servers.wait(lambda: listens(pool), "worker pool")
        with beam.Pipeline(options=PipelineOptions(beam_args(settings))) as pipeline:
            numbers = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle()
            _ = numbers | beam.combiners.ToList() | beam.Map(tell)
    server.stop()
    facts = json.loads(Path(told).read_text())
    assert (facts["sum"], facts["store"]) == (6, "http://store")
    assert facts["pid"] != os.getpid()
