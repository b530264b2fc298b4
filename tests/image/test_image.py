"""What is in the image, who may do what there, and containers of it that stay."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from pipeline.digest import source_digest
from tests.image.conftest import ROOT, Container

# One file, so that one process builds the image.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_SECONDS = 180


def _locked() -> dict[str, str]:
    """Versions of requirements-image.lock."""
    lines = (ROOT / "requirements-image.lock").read_text().splitlines()
    found = [re.match(r"([^\s=]+)==(\S+)", line) for line in lines]
    return {canonicalize_name(one[1]): one[2] for one in found if one}


def test_it_runs_as_a_numbered_user_who_cannot_change_the_program(container: Container) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", container.config["User"])
    assert container.run("id", "-u").strip() == "10001"
    container.run("test", "-w", "/var/lib/heft")
    for path in ("/opt/heft", "/opt/heft/bin/heft", "/opt/apache/beam/boot", *container.entrypoint):
        container.run("sh", "-c", f"place=$(command -v {path} || echo {path}); test ! -w $place")


def test_no_compiler_and_nothing_of_the_build_is_left(container: Container) -> None:
    compilers = "gcc g++ cc c++ clang ld as make cmake rustc go"
    found = container.run(
        "sh",
        "-c",
        f"for tool in {compilers}; do command -v $tool; done;"
        " ls -d /build /opt/tools /var/cache/uv 2>/dev/null; true",
    )
    assert found == ""


def test_what_is_installed_is_the_lock_and_the_bill_of_materials_says_so(
    container: Container,
) -> None:
    listed = json.loads(container.run("python", "-m", "pip", "list", "--format", "json"))
    installed = {canonicalize_name(one["name"]): one["version"] for one in listed}
    assert installed.pop("heft") == "0.1.0"
    assert installed == _locked()

    bill = json.loads(container.run("cat", "/usr/share/heft/sbom.cdx.json"))
    named = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    assert named == installed
    hashed = [p for p in bill["components"] if p["externalReferences"][0]["hashes"]]
    assert len(hashed) == len(bill["components"])


def test_it_starts_heft_when_nothing_else_is_named(container: Container) -> None:
    assert "Usage: heft" in container.start()
    assert container.start("--version").strip() == "0.1.0"
    assert "--set" in container.start("run", "--help")
    assert container.start("python", "-c", "print(6 * 7)").strip() == "42"


def test_kubeflow_finds_its_executor_and_every_component(container: Container) -> None:
    components = sorted(path.parent.name for path in ROOT.glob("components/*/component.py"))
    assert len(components) >= 14
    imports = "".join(
        f"import components.{c}.component, components.{c}.executor\n" for c in components
    )
    check = imports + "import pipeline.pipeline, pipeline.run_local, serving.local_server\n"
    container.start("python", "-c", check)
    executor = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
    helped = subprocess.run(
        container.command(*container.entrypoint, "python", "-m", executor, "--helpshort"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "--json_serialized_invocation_args" in helped.stdout + helped.stderr


def test_caches_know_the_image_s_code_as_they_know_the_checkout_s(container: Container) -> None:
    modules = ("components.importance_estimator.executor", "components.serving_validator.executor")
    code = f"from pipeline.digest import source_digest; print(source_digest(*{modules}))"
    assert container.start("python", "-c", code).strip() == source_digest(*modules)


def test_the_build_context_is_the_program_alone(tmp_path: Path, image_folder: Path) -> None:
    (tmp_path / ".dockerignore").write_bytes((ROOT / ".dockerignore").read_bytes())
    wanted = ["src/heft/cli.py", "pipeline/configs/demo.yaml", "requirements-image.lock"]
    kept_out = [
        "data/impressions.parquet", "runs/demo/metadata.db", ".venv/bin/python", ".git/config",
        ".env", "src/heft/.env", "src/heft/__pycache__/cli.cpython-311.pyc", ".image/storage/x",
        "requirements.lock", "tests/unit/test_cli.py", "shared/data/clicks.csv", "key.pem",
        "src/heft.egg-info/PKG-INFO",
    ]  # fmt: skip
    for name in (*wanted, *kept_out):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /context\n")
    storage = ["buildah", "--root", f"{image_folder}/storage", "--runroot", f"{image_folder}/run",
               "--storage-driver", "overlay"]  # fmt: skip
    made = tmp_path.parent / "context"
    subprocess.run(
        [*storage, "build", "-q", "--output", f"type=local,dest={made}", str(tmp_path)],
        check=True, capture_output=True,
    )  # fmt: skip
    sent = {str(path.relative_to(made / "context")) for path in _files(made / "context")}
    assert sent == {*wanted, "Dockerfile"}


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where) / name for name in names)


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
    container.run("sh", "-c", "cp -r /models /var/lib/heft/models", volume=f"{models}:/models")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ["python", "-m", "serving.local_server", "--model-base-path", "/var/lib/heft/models"]
    with _kept(container, shared, *server, f"--rest-port={port}", "--grpc-port=0"):
        _wait_for(shared / "healthy", shared / "output")
        assert "does not answer" in (shared / "ill").read_text()
