"""A Spark cluster of one worker with Beam's job server, each a process of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.java import ENGINES, Cluster, java, opened, worker_command, worker_pool
from tests.engines.processes import Servers, free_ports, listens

__all__ = ["spark_cluster"]

JARS = ENGINES / "spark"
CORES = 2


@contextmanager
def spark_cluster(folder: Path) -> Iterator[Cluster]:
    """Master, worker and job server; their logs are in `folder`."""
    master, page, worker, worker_page, job, artifacts, expansion, pool = free_ports(8)
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "jars").symlink_to(JARS)
    up = Cluster(
        "spark", f"localhost:{job}", f"http://localhost:{page}", worker_command(folder),
        f"localhost:{pool}", folder, "json/",
        lambda said: [app["state"] for app in said["completedapps"]],
    )  # fmt: skip
    environment = {
        "SPARK_HOME": str(home), "SPARK_SCALA_VERSION": "2.12", "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder), "SPARK_WORKER_DIR": str(folder / "work"),
    }  # fmt: skip
    deploy = "org.apache.spark.deploy"
    with Servers(folder) as servers:
        servers.start("master", [
            *java(JARS), f"{deploy}.master.Master", "--host", "localhost", "--port", master,
            "--webui-port", page,
        ], environment=environment)  # fmt: skip
        servers.wait(lambda: listens(master), "master")
        servers.start("worker", [
            *java(JARS), f"{deploy}.worker.Worker", "--host", "localhost", "--port", worker,
            "--webui-port", worker_page, "--cores", CORES, "--memory", "2g",
            f"spark://localhost:{master}",
        ], environment=environment)  # fmt: skip
        servers.wait(lambda: _alive(up) == 1, "worker")
        command = java(JARS)
        # Executors of the driver's jobs, which are JVMs of their own.
        command[1:1] = [
            f"-Dspark.executor.extraJavaOptions={' '.join(opened())}",
            "-Dspark.executor.memory=1g", "-Dspark.ui.enabled=false",
            "-Dspark.driver.host=localhost", "-Dspark.driver.bindAddress=127.0.0.1",
        ]  # fmt: skip
        servers.start("jobserver", [
            *command, "org.apache.beam.runners.spark.SparkJobServerDriver",
            "--spark-master-url", f"spark://localhost:{master}", "--job-host", "localhost",
            "--job-port", job, "--artifact-port", artifacts, "--expansion-port", expansion,
            "--artifacts-dir", folder / "artifacts",
        ], environment=environment)  # fmt: skip
        servers.wait(lambda: listens(job), "job server")
        worker_pool(servers, pool)
        yield up


def _alive(up: Cluster) -> int:
    try:
        return int(up.ask("json/")["aliveworkers"])
    except OSError:
        return 0
