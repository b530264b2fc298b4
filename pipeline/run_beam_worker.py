"""A Beam worker: `python -m pipeline.run_beam_worker`, started by a cluster with Beam's flags.

Beam's contract for workers (https://s.apache.org/beam-fn-api-container-contract) without its
boot program: Heft is installed already, so that nothing is fetched before work begins.
"""

import argparse
import json
import os
from collections.abc import Sequence

import grpc
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_grpc
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

__all__ = ["main"]

_PATIENCE = 60.0  # seconds for the cluster to answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Asks the cluster what there is to do, and does it until it is told to stop.

    Args:
        arguments: flags of the contract, those of this process by default; a flag that is not
            given is what the provision service says.
    """
    flags = _flags(arguments)
    info = _provisioned(flags.provision_endpoint, flags.id)
    endpoints = {
        "CONTROL_API_SERVICE_DESCRIPTOR": flags.control_endpoint or info.control_endpoint.url,
        "LOGGING_API_SERVICE_DESCRIPTOR": flags.logging_endpoint or info.logging_endpoint.url,
        "STATUS_API_SERVICE_DESCRIPTOR": info.status_endpoint.url,
    }
    os.environ |= {
        name: text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))
        for name, url in endpoints.items()
        if url
    }
    os.environ["WORKER_ID"] = flags.id
    os.environ["RUNNER_CAPABILITIES"] = " ".join(info.runner_capabilities)
    os.environ["PIPELINE_OPTIONS"] = json.dumps(json_format.MessageToDict(info.pipeline_options))
    sdk_worker_main.main([])


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    parser.add_argument("--control_endpoint", default="")
    parser.add_argument("--logging_endpoint", default="")
    return parser.parse_known_args(arguments)[0]


def _provisioned(endpoint: str, worker: str) -> provision.ProvisionInfo:
    """What the cluster says of the job; the worker names itself in the request's header."""
    with grpc.insecure_channel(endpoint) as channel:
        service = provision_grpc.ProvisionServiceStub(channel)
        answer = service.GetProvisionInfo(
            provision.GetProvisionInfoRequest(),
            timeout=_PATIENCE,
            metadata=[("worker_id", worker)],
            wait_for_ready=True,
        )
    return answer.info


if __name__ == "__main__":
    main()
