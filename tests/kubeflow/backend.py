"""A Kubeflow of one machine: it reads a compiled spec and starts each task's container command.

It does what the driver and the launcher of Kubeflow Pipelines 2 do around a container: resolves
parameters and artifacts, gives each output a place in the bucket, writes ExecutorInput, reads
ExecutorOutput, starts what is ready, tries again as often as the spec says. Nothing of a node is
imitated: every task is a fresh process with the command and the arguments of the spec. The bucket
is a folder (file://), which the launcher's copies to and from a bucket are left out for.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 1_500  # seconds, for one task


@dataclass
class Run:
    """What became of the tasks that were run.

    Attributes:
        folder: bucket, outputs and logs.
        outputs: RuntimeArtifacts by task and key, as the metadata store has them.
        told: ExecutorInput by task.
    """

    folder: Path
    outputs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def path(self, task: str, key: str) -> Path:
        """Where an artifact lies."""
        return Path(self.outputs[task][key]["uri"].removeprefix("file://"))

    def log(self, task: str) -> str:
        """What a task printed."""
        return (self.folder / "logs" / f"{task}.txt").read_text()


class Backend:
    """Runs a compiled spec.

    Args:
        spec: a PipelineSpec as JSON.
        folder: for everything.
        slots: pods that there is room for at once.
    """

    def __init__(self, spec: dict[str, Any], folder: Path, slots: int = 2) -> None:
        self._spec = spec
        self._folder = folder
        self._slots = slots
        self._lock = threading.Lock()
        self._ids = 0

    def run(
        self,
        run_id: str,
        parameters: dict[str, Any] | None = None,
        only: Collection[str] | None = None,
        known: dict[str, dict[str, dict[str, Any]]] | None = None,
    ) -> Run:
        """Runs every task once those that it waits for are done.

        Args:
            run_id: of a new run.
            parameters: that somebody sets; the others have their defaults.
            only: these tasks alone.
            known: outputs of tasks that are not run.
        """
        done = Run(self._folder / run_id, dict(known or {}))
        (done.folder / "logs").mkdir(parents=True)
        tasks = self._spec["root"]["dag"]["tasks"]
        waiting = {name: tasks[name] for name in (only or tasks)}
        running: dict[Future, str] = {}
        with ThreadPoolExecutor(self._slots) as pool:
            while waiting or running:
                for name in [n for n, task in waiting.items() if self._ready(task, done)]:
                    task = waiting.pop(name)
                    running[pool.submit(self._task, name, task, parameters or {}, done)] = name
                assert running, f"{sorted(waiting)} wait for tasks that are not there"
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    name = running.pop(future)
                    done.outputs[name] = future.result()
        return done

    @staticmethod
    def _ready(task: dict[str, Any], done: Run) -> bool:
        producers = {
            given["taskOutputArtifact"]["producerTask"]
            for given in task.get("inputs", {}).get("artifacts", {}).values()
        }
        return producers.union(task.get("dependentTasks", ())) <= set(done.outputs)

    def _task(
        self, name: str, task: dict[str, Any], parameters: dict[str, Any], done: Run
    ) -> dict[str, dict[str, Any]]:
        component = self._spec["components"][task["componentRef"]["name"]]
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        container = executor["container"]
        assert "lifecycle" not in container, "no driver of its own is expected here"
        told = {
            "inputs": {
                "parameterValues": self._parameters(task, component, parameters),
                "artifacts": {
                    key: {"artifacts": [self._read(given, done)]}
                    for key, given in task["inputs"].get("artifacts", {}).items()
                },
            },
            "outputs": self._outputs(name, component, done),
        }
        done.told[name] = told
        self._start(name, container, told, done)
        answer = json.loads(Path(told["outputs"]["outputFile"]).read_text())
        return {
            key: self._recorded(many["artifacts"][0], answer["artifacts"].get(key))
            for key, many in told["outputs"]["artifacts"].items()
        }

    def _parameters(
        self, task: dict[str, Any], component: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """As the driver resolves them; a value of another type than declared is refused."""
        declared = self._spec["root"]["inputDefinitions"]["parameters"]
        unknown = set(parameters) - set(declared)
        assert not unknown, f"the pipeline has no parameters {unknown}"
        given = {n: one["defaultValue"] for n, one in declared.items() if "defaultValue" in one}
        given |= parameters
        found = {}
        for name, where in task["inputs"].get("parameters", {}).items():
            if "componentInputParameter" in where:
                value = given[where["componentInputParameter"]]
            else:
                value = where["runtimeValue"]["constant"]
            kind = component["inputDefinitions"]["parameters"][name]["parameterType"]
            assert isinstance(value, str if kind == "STRING" else int | float), (name, value)
            # JSON knows one kind of number.
            found[name] = value if kind == "STRING" else float(value)
        return found

    @staticmethod
    def _read(given: dict[str, Any], done: Run) -> dict[str, Any]:
        where = given["taskOutputArtifact"]
        return done.outputs[where["producerTask"]][where["outputArtifactKey"]]

    def _outputs(self, name: str, component: dict[str, Any], done: Run) -> dict[str, Any]:
        place = done.folder / "bucket" / name
        artifacts = {}
        for key, kind in component["outputDefinitions"]["artifacts"].items():
            (place / "uuid").mkdir(parents=True, exist_ok=True)
            artifacts[key] = {
                "artifacts": [{"uri": f"file://{place}/uuid/{key}", "type": kind["artifactType"]}]
            }
        return {
            "artifacts": artifacts,
            "outputFile": str(done.folder / "outputs" / name / "output_metadata.json"),
        }

    def _start(self, name: str, container: dict[str, Any], told: dict[str, Any], done: Run) -> None:
        arguments = [a.replace("{{$}}", json.dumps(told)) for a in container["args"]]
        python, *command = container["command"]
        assert python == "python"
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("TF_CONFIG", "HEFT_DATA")},
            **{one["name"]: one["value"] for one in container.get("env", ())},
            # The image has the project installed.
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        }
        home = done.folder / "homes" / name  # nothing of the project lies there
        home.mkdir(parents=True)
        with (done.folder / "logs" / f"{name}.txt").open("w") as log:
            ended = subprocess.run(
                [sys.executable, *command, *arguments], cwd=home, env=environment, stdout=log,
                stderr=subprocess.STDOUT, timeout=PATIENCE, check=False,
            )  # fmt: skip
        assert ended.returncode == 0, f"{name}\n{done.log(name)[-6000:]}"

    def _recorded(self, told: dict[str, Any], answered: dict[str, Any] | None) -> dict[str, Any]:
        """As the metadata store gives it to later tasks: without a type, with an id for a name,
        and with what the launcher adds."""
        [artifact] = answered["artifacts"] if answered else [{}]
        with self._lock:
            self._ids += 1
            number = self._ids
        metadata = artifact.get("metadata", {}) | {"display_name": "x", "store_session_info": "{}"}
        return {
            "name": str(number),
            "uri": artifact.get("uri") or told["uri"],
            "metadata": metadata,
        }
