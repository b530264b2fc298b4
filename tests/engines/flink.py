"""A Flink cluster of two task slots with Beam's job server, each a process of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.java import ENGINES, Cluster, java, worker_command, worker_pool
from tests.engines.processes import Servers, free_ports, listens

__all__ = ["SLOTS", "flink_cluster"]

JARS = ENGINES / "flink"
SLOTS = 2

_CONFIG = """
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: localhost
rest.address: localhost
rest.bind-address: localhost
rest.port: {rest}
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.numberOfTaskSlots: {slots}
taskmanager.cpu.cores: {slots}
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 640m
taskmanager.memory.task.off-heap.size: 64m
taskmanager.memory.network.min: 512m
taskmanager.memory.network.max: 512m
taskmanager.memory.segment-size: 8kb
taskmanager.network.sort-shuffle.min-buffers: 32
taskmanager.memory.managed.size: 512m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
classloader.resolve-order: parent-first
io.tmp.dirs: {folder}
blob.storage.directory: {folder}/blobs
"""


@contextmanager
def flink_cluster(folder: Path) -> Iterator[Cluster]:
    """Job manager, task manager and job server; their logs are in `folder`."""
    rpc, rest, job, artifacts, expansion, pool = free_ports(6)
    conf = folder / "conf"
    conf.mkdir(parents=True)
    config = _CONFIG.format(rpc=rpc, rest=rest, slots=SLOTS, folder=folder)
    (conf / "config.yaml").write_text(config)
    up = Cluster(
        "flink", f"localhost:{job}", f"http://localhost:{rest}", worker_command(folder),
        f"localhost:{pool}", folder, "jobs/overview",
        lambda said: [job["state"] for job in said["jobs"]],
    )  # fmt: skip
    runtime = "org.apache.flink.runtime"
    with Servers(folder) as servers:
        for name, main in (
            ("jobmanager", f"{runtime}.entrypoint.StandaloneSessionClusterEntrypoint"),
            ("taskmanager", f"{runtime}.taskexecutor.TaskManagerRunner"),
        ):
            servers.start(name, [*java(JARS), main, "--configDir", conf])
        servers.wait(lambda: _slots(up) == SLOTS, "task slots")
        servers.start("jobserver", [
            *java(JARS), "org.apache.beam.runners.flink.FlinkJobServerDriver",
            "--flink-master", f"localhost:{rest}", "--job-host", "localhost", "--job-port", job,
            "--artifact-port", artifacts, "--expansion-port", expansion,
            "--artifacts-dir", folder / "artifacts",
        ])  # fmt: skip
        servers.wait(lambda: listens(job), "job server")
        worker_pool(servers, pool)
        yield up


def _slots(up: Cluster) -> int:
    try:
        return int(up.ask("overview")["slots-available"])
    except OSError:
        return 0
