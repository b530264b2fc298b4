"""A pool of Beam workers in one process: `python -m tests.engines.pool PORT`.

A cluster of many machines has workers for hours. One that is started for a test begins twenty
jobs, and a process for each would spend most of the time importing TensorFlow.
"""

import importlib
import sys

from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

# What the steps of the street are of, before the first job asks for it.
_MODULES = (
    "heft.worker_plugin", "heft.logs.ingest", "heft.importance", "heft.text.beam",
    "heft.transforming", "components.shard_reading", "tensorflow_model_analysis",
    "heft.evaluation.tfma_metrics",
)  # fmt: skip


def main() -> None:
    """Serves until it is killed."""
    for name in _MODULES:
        importlib.import_module(name)
    _, server = BeamFnExternalWorkerPoolServicer.start(use_process=False, port=int(sys.argv[1]))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
