"""What `heft compile` writes, as Kubeflow's own SDK and protos read it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2
from rich.console import Console

from heft.errors import ConfigError
from heft.logs.settings import LogsSettings
from pipeline.capabilities import CAPABILITIES
from pipeline.pods import OWN_TYPES, Pod
from pipeline.run_kubeflow import compile_street
from pipeline.run_pod import prepare_inputs
from pipeline.runtime_parameters import JUDGED_BY
from pipeline.street import Street
from pipeline.thresholds import Thresholds
from tests.kubeflow.configs import CLUSTER, STREET

ROOT = Path(__file__).parents[2]
FULL = """
kubeflow:
  volume: heft-shared
  service_account: pipeline-runner
  workers: 3
  retries: 4
  secrets: {HEFT_PERSON_KEY: {secret: heft-keys, key: persons}}
  image_pull_secrets: [registry]
  pods:
    default: {cpu: 2, memory: 8Gi}
    TextEmbedder:
      accelerator: nvidia.com/gpu
      image: registry.example/heft:1-gpu
      node_selector: {pool: gpu}
      tolerations: [{key: nvidia.com/gpu, effect: NoSchedule}]
    WeightedTrainer: {cpu: 8, memory: 32G, accelerator: nvidia.com/gpu, accelerators: 2}
"""


def write(folder: Path, cluster: str = CLUSTER, shared: str = "/mnt/heft") -> Path:
    config = folder / "small.yaml"
    text = (STREET + cluster).replace("SCHEMA", str(ROOT / "pipeline/schema/clicks"))
    config.write_text(text.replace("SESSIONS", "1500").replace("SHARED", shared))
    return config


def street(config: Path, *overlays: Path, **overrides: Any) -> Street:
    quiet = Console(file=(config.parent / "printed.txt").open("a"), width=120)
    data = config.parent / "data"
    return Street(config, config.parent / "runs", data, overlays, overrides, quiet)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    overlay = folder / "cluster.yaml"
    overlay.write_text(FULL)
    compile_street(street(write(folder), overlay), folder / "pipeline.yaml", "kubeflow")
    return folder / "pipeline.yaml"


@pytest.fixture(scope="module")
def documents(full: Path) -> tuple[dict, dict]:
    spec, platform = yaml.safe_load_all(full.read_text())
    return spec, platform


def test_the_spec_is_one_by_kubeflows_own_proto(documents: tuple[dict, dict]) -> None:
    spec, platform = documents
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.schema_version == "2.1.0"  # the backend takes no other
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(spec["deploymentSpec"], deployment)
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(deployment.executors)
    # Kubeflow's backend has no resolvers, and importers only copy.
    assert all(e.WhichOneof("spec") == "container" for e in deployment.executors.values())


def test_kubeflows_sdk_loads_it(full: Path) -> None:
    component = components.load_component_from_text(full.read_text())
    assert component.name == "small"
    defaults = {n: one.default for n, one in component.component_spec.inputs.items()}
    assert defaults["span"] == "latest"
    assert defaults["sessions"] == 1500
    assert defaults["minimum_ctr_auc"] == 0.5
    assert all(one.optional for one in component.component_spec.inputs.values())


def test_every_task_waits_for_what_it_reads_and_reads_what_there_is(
    documents: tuple[dict, dict],
) -> None:
    spec, _ = documents
    tasks, components_ = spec["root"]["dag"]["tasks"], spec["components"]
    assert {"log-example-gen", "text-embedder", "evaluator", "pusher", "report-gen"} <= set(tasks)
    for name, task in tasks.items():
        for key, given in task["inputs"].get("artifacts", {}).items():
            where = given["taskOutputArtifact"]
            producer = components_[tasks[where["producerTask"]]["componentRef"]["name"]]
            kind = producer["outputDefinitions"]["artifacts"][where["outputArtifactKey"]]
            wanted = components_[name]["inputDefinitions"]["artifacts"][key]
            assert kind["artifactType"] == wanted["artifactType"], (name, key)
            assert where["producerTask"] in task["dependentTasks"]
        assert set(task.get("dependentTasks", ())) <= set(tasks)


def test_own_types_are_those_that_the_pod_can_import() -> None:
    from tfx.types.artifact import Artifact
    from tfx.utils import import_utils

    from components import artifacts

    for path in OWN_TYPES.values():
        assert issubclass(import_utils.import_class_by_path(path), Artifact)
    own = {n for n, kind in vars(artifacts).items() if getattr(kind, "TYPE_NAME", "") and
           kind.__module__ == artifacts.__name__}  # fmt: skip
    assert {title.removeprefix("heft.") for title in OWN_TYPES} == own


def test_pods_get_what_the_config_says(documents: tuple[dict, dict]) -> None:
    spec, platform = documents
    executors = spec["deploymentSpec"]["executors"]
    embedder = executors["text-embedder_executor"]["container"]
    assert embedder["image"] == "registry.example/heft:1-gpu"
    assert embedder["resources"]["accelerator"] == {
        "type": "nvidia.com/gpu", "count": "1",
        "resourceType": "nvidia.com/gpu", "resourceCount": "1",
    }  # fmt: skip
    trainer = executors["weighted-trainer_executor"]["container"]["resources"]
    assert (trainer["cpuLimit"], trainer["memoryLimit"]) == (8, 32)
    assert trainer["accelerator"]["count"] == "2"
    other = executors["transform_executor"]["container"]
    assert other["image"] == "registry.example/heft:1"
    assert other["resources"]["resourceMemoryLimit"] == "8Gi"
    assert other["resources"]["memoryLimit"] == pytest.approx(8 * 1024**3 / 1e9)
    on = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert on["text-embedder_executor"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert on["text-embedder_executor"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "nodeSelector" not in on["transform_executor"]
    for pod in on.values():
        [mount], [secret] = pod["pvcMount"], pod["secretAsEnv"]
        assert (mount["constant"], mount["mountPath"]) == ("heft-shared", "/mnt/heft")
        assert secret["secretName"] == "heft-keys"
        assert secret["keyToEnv"] == [{"secretKey": "persons", "envVar": "HEFT_PERSON_KEY"}]
    for name, task in spec["root"]["dag"]["tasks"].items():
        assert task["retryPolicy"]["maxRetryCount"] == 4
        # Its cache would not see that files have changed.
        assert bool(task["cachingOptions"]) == (name != "log-example-gen")


def pods(spec: dict) -> dict[str, Pod]:
    found = {}
    for label, executor in spec["deploymentSpec"]["executors"].items():
        arguments = executor["container"]["args"]
        told = arguments[arguments.index("--heft_pod") + 1]
        found[label.removesuffix("_executor")] = Pod.model_validate_json(told)
    return found


def test_workers_are_one_pod_each_and_know_who_they_are(documents: tuple[dict, dict]) -> None:
    spec, _ = documents
    tasks, told = spec["root"]["dag"]["tasks"], pods(spec)
    names = ["weighted-trainer", "weighted-trainer-worker-1", "weighted-trainer-worker-2"]
    assert [told[name].workers.index for name in names] == [0, 1, 2]
    assert {told[name].workers.count for name in names} == {3}
    for name in names[1:]:
        assert tasks[name]["inputs"] == tasks[names[0]]["inputs"]
        assert tasks[name]["dependentTasks"] == tasks[names[0]]["dependentTasks"]
    model = tasks[names[0]]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    assert json.loads(json.loads(model)["model"])["strategy"] == "multi_worker"
    readers = [
        given["taskOutputArtifact"]["producerTask"]
        for task in tasks.values()
        for given in task["inputs"].get("artifacts", {}).values()
    ]
    assert not set(readers) & set(names[1:])  # what only the chief makes is read


def test_what_resolvers_would_find_is_asked_for_in_the_pod(documents: tuple[dict, dict]) -> None:
    told = pods(documents[0])
    assert {(n, k): one.name for n, pod in told.items() for k, one in pod.recall.items()} == {
        ("text-embedder", "previous"): "TextEmbeddings",
        ("anomaly-gate", "passed"): "ExampleAnomalies",
        ("evaluator", "baseline_model"): "Model",
        ("weighting-judge", "last_model"): "Model",
    }
    kept = {one.name for pod in told.values() for one in pod.remember}
    assert kept == {"TextEmbeddings", "ExampleAnomalies", "Model"}
    schema = (ROOT / "pipeline/schema/clicks/schema.pbtxt").read_text(encoding="utf-8")
    assert told["import-schema-gen"].texts["schema_file"] == schema


def test_vertex_gets_a_job_in_one_file(tmp_path: Path) -> None:
    cluster = CLUSTER.replace("s3://", "gs://")
    config = write(tmp_path, cluster, shared="/gcs/shop/heft")
    pod = {"TextEmbedder": {"accelerator": "NVIDIA_L4", "cpu": 8}}
    out = tmp_path / "job.json"
    compile_street(street(config, **{"kubeflow.pods": pod}), out, "vertex")
    job = json.loads(out.read_text())
    json_format.ParseDict(job, pipeline_spec_pb2.PipelineJob())
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://heft/artifacts"
    assert job["runtimeConfig"]["parameterValues"]["sessions"] == 1500
    executor = job["pipelineSpec"]["deploymentSpec"]["executors"]["text-embedder_executor"]
    resources = executor["container"]["resources"]
    assert resources["accelerator"] == {"type": "NVIDIA_L4", "count": "1"}
    assert resources["cpuLimit"] == 8


@pytest.mark.parametrize(
    ("overrides", "target", "said"),
    [
        ({"kubeflow.pipeline_root": "/mnt/x"}, "kubeflow", "expected gs://, s3:// or minio://"),
        ({"kubeflow.shared": "heft"}, "kubeflow", "expected an absolute path"),
        ({"kubeflow": None}, "kubeflow", "has no section kubeflow"),
        ({"name": "Small"}, "kubeflow", "a-z, 0-9 and - alone"),
        ({"simulate": None, "logs.root": "logs"}, "kubeflow", "folder of this machine"),
        ({"kubeflow.pods": {"Trainer": {}}}, "kubeflow", r"Expected one of .*WeightedTrainer"),
        ({"kubeflow.env": {"A B": "1"}}, "kubeflow", "cannot be the name of"),
        ({}, "vertex", "pipeline_root='s3://heft/artifacts' on vertex: expected gs://"),
    ],
)
def test_what_a_cluster_cannot_run_is_said_before_anything_is_written(
    tmp_path: Path, overrides: dict, target: Any, said: str
) -> None:
    out = tmp_path / ("job.json" if target == "vertex" else "pipeline.yaml")
    with pytest.raises(ConfigError, match=said):
        compile_street(street(write(tmp_path), **overrides), out, target)
    assert not out.exists()


def test_the_file_is_of_the_kind_that_the_cluster_reads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected one of \['.json'\] for vertex"):
        compile_street(street(write(tmp_path)), tmp_path / "x.yaml", "vertex")


def test_a_span_and_thresholds_of_one_run_reach_their_nodes(tmp_path: Path) -> None:
    logs = LogsSettings(root="/logs").model_dump_json()
    told: dict = {"inputs": {"parameterValues": {"settings": logs, "span": "2026-03-01"}}}
    prepare_inputs(told, Pod(runtime=("span",)), {}, tmp_path)
    values = told["inputs"]["parameterValues"]
    assert set(values) == {"settings"}
    assert LogsSettings.model_validate_json(values["settings"]).span == 20260301


@pytest.mark.parametrize(
    ("pod", "asked", "said"),
    [
        (Pod(runtime=("span",)), {"span": "yesterday"}, "span.*='yesterday'"),
        (
            Pod(runtime=("sessions",), simulate={"source": "builtin"}), {"sessions": 0.0},
            "sessions=0",
        ),
        (
            Pod(runtime=JUDGED_BY, thresholds=Thresholds().model_dump(mode="json")),
            {"calibration_lowest": 3.0, "calibration_highest": 2.0}, "lets no model pass",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_a_run_is_said_in_the_pod(
    tmp_path: Path, pod: Pod, asked: dict, said: str
) -> None:
    logs = LogsSettings(root="/logs").model_dump_json()
    told: dict = {"inputs": {"parameterValues": {"settings": logs, **asked}}}
    with pytest.raises(ConfigError, match=said):
        prepare_inputs(told, pod, {}, tmp_path)


def test_the_table_of_the_documentation_is_the_one_of_the_code() -> None:
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    rows = [f"| {' | '.join(row)} |" for row in CAPABILITIES]
    assert [row for row in rows if row not in page] == []
