"""Containers that stay, Beam's worker and the server, and what the health check says of them."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image.conftest import Container

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_SECONDS = 180


@contextmanager
def _kept(container: Container, shared: Path, *arguments: str) -> Iterator[None]:
    """A container that runs until the block ends.

    Beside its first process the health check is asked every second, as Docker would, and says
    what it found in `shared`.
    """
    shared.chmod(0o777)
    watch = (
        "until [ -e /shared/stop ]; do"
        " if heft-health 2>/shared/now; then mv /shared/now /shared/healthy;"
        " else mv /shared/now /shared/ill; fi; sleep 1; done; kill -KILL -1"
    )
    # The first process has the arguments of the container, as it would without the watch.
    start = f'({watch}) & exec timeout {_SECONDS} "$@"'
    with (shared / "output").open("wb") as output, subprocess.Popen(
        container.command(
            "sh", "-c", start, "sh", *container.entrypoint, *arguments, volume=f"{shared}:/shared"
        ),
        stdout=output, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield
        finally:
            (shared / "stop").touch()
            process.wait(60)


def _wait_for(path: Path, output: Path) -> str:
    deadline = time.monotonic() + _SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, output.read_text(errors="replace")
        time.sleep(0.2)
    return path.read_text()


def test_beam_runs_a_pipeline_in_a_worker_of_the_image(
    container: Container, tmp_path: Path
) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def where(number: int) -> tuple[int, int, str]:
        from heft.features import __file__ as path

        return number * number, os.getuid(), path

    with _kept(container, tmp_path, "--worker_pool"):
        _wait_for(tmp_path / "healthy", tmp_path / "output")
        assert "takes no connection" in (tmp_path / "ill").read_text()
        found: list[tuple[int, int, str]] = []
        out = tmp_path / "squares"
        out.mkdir(mode=0o777)
        out.chmod(0o777)
        options = PipelineOptions([
            "--runner=PortableRunner", "--job_endpoint=embed",
            "--environment_type=EXTERNAL", "--environment_config=127.0.0.1:50000",
        ])  # fmt: skip
        with beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | beam.Create([2, 3, 4])
                | beam.Map(where)
                | beam.Map(repr)
                | beam.io.WriteToText("/shared/squares/part", num_shards=1)
            )
        text = next(out.glob("part*")).read_text()
        found = [eval(line) for line in text.splitlines()]
    inside = "/opt/heft/lib/python3.11/site-packages/heft/features.py"
    assert sorted(found) == [(4, 10001, inside), (9, 10001, inside), (16, 10001, inside)]


def test_a_server_is_healthy_once_its_model_is_available(
    container: Container, tmp_path: Path
) -> None:
    models, shared = tmp_path / "models", tmp_path / "shared"
    models.mkdir(mode=0o777)
    models.chmod(0o777)
    shared.mkdir()
    save = (
        "import tensorflow as tf\n"
        "module = tf.Module()\n"
        "module.f = tf.function(lambda x: {'y': 2 * x},"
        " input_signature=[tf.TensorSpec([None], tf.float32, 'x')])\n"
        "tf.saved_model.save(module, '/models/1', signatures=module.f)\n"
    )
    container.run("python", "-c", save, volume=f"{models}:/models")
    container.run("sh", "-c", "cp -r /models /work/models", volume=f"{models}:/models")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ["python", "-m", "serving.local_server", "--model-base-path", "/work/models"]
    with _kept(container, shared, *server, f"--rest-port={port}", "--grpc-port=0"):
        _wait_for(shared / "healthy", shared / "output")
        assert "does not answer" in (shared / "ill").read_text()
