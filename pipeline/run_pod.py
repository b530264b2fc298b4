"""What runs in a pod: `python -m pipeline.run_pod`, with the arguments of TFX's entrypoint.

TFX's entrypoint for Kubeflow (`kubeflow_v2_run_executor`) does the node's work. Before it, what
Kubeflow says is made into what TFX takes: types that its backend leaves out, buckets by their
local paths, runtime parameters in the settings that they are of, what earlier runs left. After
it, what the node answers is put back, and what the next run wants is kept.
"""

import argparse
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from pydantic import BaseModel, ValidationError

from heft.errors import ConfigError, HeftError
from heft.logs.settings import LogsSettings
from heft.pod.memory import Memory
from heft.pod.places import bring_home, send_back, type_title
from heft.pod.rendezvous import free_address, meet, tf_config
from pipeline.config_faults import explain
from pipeline.pods import OWN_TYPES, Pod
from pipeline.runtime_parameters import from_parameters

__all__ = ["main", "prepare_inputs"]

Checked = TypeVar("Checked", bound=BaseModel)

_SIMULATED_KEY = "simulated shoppers are not people"


def main(arguments: Sequence[str]) -> None:
    """Runs one node.

    Args:
        arguments: those of TFX's entrypoint, and `--heft_pod`, a `Pod` as JSON.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--heft_pod", required=True)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args", required=True)
    given, beam = parser.parse_known_args(arguments)
    pod = Pod.model_validate_json(given.heft_pod)
    told = _normal(given.json_serialized_invocation_args)
    declared = json.loads(given.json_serialized_inputs_spec_args)
    before = bring_home(told, declared, OWN_TYPES)
    with tempfile.TemporaryDirectory(prefix="heft-pod-") as scratch:
        prepare_inputs(told, pod, before, Path(scratch))
        _run_tfx(
            [
                f"--executor_class_path={given.executor_class_path}",
                f"--json_serialized_invocation_args={json.dumps(told)}",
                f"--json_serialized_inputs_spec_args={json.dumps(declared)}",
                *beam,
            ]
        )
    file = Path(told["outputs"]["outputFile"])
    answer = json.loads(file.read_text(encoding="utf-8"))
    _remember(told, answer, pod, before)
    send_back(answer, before)
    file.write_text(json.dumps(answer), encoding="utf-8")


def prepare_inputs(told: dict[str, Any], pod: Pod, before: dict[str, str], scratch: Path) -> None:
    """Puts into an ExecutorInput what this node gets in a pod and TFX does not know of.

    Args:
        told: the ExecutorInput; is changed.
        pod: what this node gets.
        before: URIs by local path.
        scratch: folder for files of this node.
    """
    values = told.setdefault("inputs", {}).setdefault("parameterValues", {})
    asked = {name: values.pop(name) for name in pod.runtime if name in values}
    for name, text in pod.texts.items():
        file = scratch / name
        file.write_text(text, encoding="utf-8")
        values[name] = str(file)
    if pod.simulate is not None:
        _simulate(pod, asked, values, scratch)
    if asked.get("span"):
        _set(values, "settings", "span", asked["span"])
        _checked(LogsSettings, json.loads(values["settings"]))
    if pod.thresholds is not None:
        values["eval_config"] = _judging(pod, asked)
    if pod.span_of:
        facts = json.loads(values["run"])
        facts["lineage"]["span"] = _span(told, pod.span_of)
        values["run"] = json.dumps(facts)
    if pod.resume:
        values["resume_folder"] = pod.resume
    _recall(told, pod, before)
    if pod.workers is not None:
        _meet(told, pod)


def _simulate(pod: Pod, asked: dict[str, Any], values: dict[str, Any], scratch: Path) -> None:
    """Logs of a simulated shop, where a run on one machine has them made before its nodes."""
    from heft.simulate import SimulationSettings, simulate

    changed = {"sessions": int(asked["sessions"])} if "sessions" in asked else {}
    settings = _checked(SimulationSettings, {**(pod.simulate or {}), **changed})
    simulate(settings, scratch / "logs")
    _set(values, "settings", "root", str(scratch / "logs"))
    logs = _checked(LogsSettings, json.loads(values["settings"]))
    os.environ.setdefault(logs.privacy.key_variable, _SIMULATED_KEY)


def _judging(pod: Pod, asked: dict[str, Any]) -> str:
    """The Evaluator's config, with the thresholds of this run."""
    from tfx.utils import proto_utils

    from heft.evaluation import EvaluationSettings
    from pipeline.evaluation import eval_config
    from pipeline.thresholds import Thresholds

    assert pod.thresholds is not None
    thresholds = _checked(Thresholds, pod.thresholds | from_parameters(asked))
    settings = _checked(EvaluationSettings, pod.evaluation)
    return str(proto_utils.proto_to_json(eval_config(thresholds, pod.slices, settings)))


def _recall(told: dict[str, Any], pod: Pod, before: dict[str, str]) -> None:
    """What earlier runs left, as further inputs."""
    artifacts = told["inputs"].setdefault("artifacts", {})
    # A node that is run again does not meet what its own run has left.
    own = set(before.values())
    for key, wanted in pod.recall.items():
        memory = Memory(pod.memory)
        if wanted.before_span_of is None:
            found = memory.latest(wanted.name, own)
        else:
            span = _span(told, wanted.before_span_of)
            found = memory.spans_before(wanted.name, span, wanted.spans, wanted.since, wanted.alike)
        if found:
            artifacts[key] = {"artifacts": [kept.artifact() for kept in found]}
            before.update({str(kept.path): str(kept.path) for kept in found})


def _span(told: dict[str, Any], key: str) -> int:
    """Of an input."""
    [artifact] = told["inputs"]["artifacts"][key]["artifacts"]
    return int(artifact["metadata"]["span"])


def _meet(told: dict[str, Any], pod: Pod) -> None:
    """Finds the other workers; TensorFlow reads where they are from TF_CONFIG."""
    assert pod.workers is not None
    read = sorted(
        artifact["uri"]
        for many in told["inputs"]["artifacts"].values()
        for artifact in many["artifacts"]
    )
    training = hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]
    addresses = meet(
        Path(pod.workers.folder) / training, pod.workers.index, pod.workers.count, free_address(),
        pod.workers.patience,
    )  # fmt: skip
    os.environ["TF_CONFIG"] = tf_config(addresses, pod.workers.index)


def _remember(
    told: dict[str, Any], answer: dict[str, Any], pod: Pod, before: dict[str, str]
) -> None:
    """Keeps what the next run wants."""
    answered = answer.get("artifacts", {})
    for wanted in pod.remember:
        if wanted.if_blessed:
            [blessing] = answered[wanted.if_blessed]["artifacts"]
            if blessing["metadata"].get("blessed") != 1:
                continue
        side = "outputs" if wanted.key in answered else "inputs"
        [given] = told[side]["artifacts"][wanted.key]["artifacts"]
        [made] = answered[wanted.key]["artifacts"] if side == "outputs" else [given]
        entry = {
            "source": before[given["uri"]],
            "type_title": type_title(given["type"]),
            "metadata": made.get("metadata", {}),
        }
        Memory(pod.memory).keep(wanted.name, given["uri"], entry, wanted.most)


def _run_tfx(arguments: list[str]) -> None:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as entrypoint

    # Beam's and absl's flags read the command line; what stands there is not theirs.
    sys.argv = [sys.argv[0]]
    entrypoint.main(entrypoint._parse_flags(arguments))


def _normal(text: str) -> dict[str, Any]:
    """Kubeflow's JSON with one spelling of every name."""
    told = json_format.Parse(text, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True)
    return dict(json_format.MessageToDict(told))


def _checked(kind: type[Checked], values: dict[str, Any]) -> Checked:
    """Settings, with what somebody set for this run.

    Raises:
        ConfigError: they are impossible.
    """
    try:
        # From JSON, in which a tuple is a list.
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(explain(error, {}, kind)) from error


def _set(values: dict[str, Any], name: str, key: str, value: Any) -> None:
    """One setting of a parameter that is JSON."""
    values[name] = json.dumps({**json.loads(values[name]), key: value})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        main(sys.argv[1:])
    except HeftError as error:
        logging.getLogger("heft").error("%s", error)
        sys.exit(error.exit_code)
