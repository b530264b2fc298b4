"""The files that run beside a model, parsed by the definitions of those who read them."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from heft.errors import ConfigError
from heft.model.warm_up import WARM_UP_ROWS
from heft.transform import TransformSettings
from serving import labels
from serving.local.status import HTTP_STATUS
from serving.local.text_configs import read_batching, read_metrics_path
from tests.unit.serving.schemas import faults

ROOT = Path(__file__).resolve().parents[3]
SERVING = ROOT / "serving"
KUBERNETES, MONITORING = SERVING / "kubernetes", SERVING / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana/dashboards/heft-serving.json").read_text())


def _parse(path: Path) -> model_server_config_pb2.ModelConfig:
    server = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(), server)
    (config,) = server.model_config_list.config
    return config


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _manifest(name: str) -> dict[str, Any]:
    return _yaml(KUBERNETES / f"{name}.yaml")


def _flags(command: list[str]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in command)


COMPOSE = _yaml(SERVING / "docker-compose.yml")["services"]


def test_the_shipped_config_serves_what_compose_mounts() -> None:
    service = COMPOSE["tensorflow-serving"]
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    base = Path(_parse(SERVING / "models.config").base_path)
    assert str(base.parent) in mounts
    named = [arg.split("=/config/")[1] for arg in service["command"] if "=/config/" in arg]
    assert len(named) == 2
    assert all((SERVING / name).is_file() for name in named)


@pytest.mark.parametrize("name", sorted(COMPOSE))
def test_every_container_of_compose_is_kept_small(name: str) -> None:
    service = COMPOSE[name]
    assert all(mount["read_only"] for mount in service["volumes"])
    assert all(
        (SERVING / m["source"]).exists() for m in service["volumes"] if m["source"][0] == "."
    )
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["user"].startswith("0")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
    assert service["healthcheck"]["test"]
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "a tag that does not move"


def test_tensorflow_serving_is_new_enough_for_the_text_ops() -> None:
    deployed = _manifest("deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    images = (COMPOSE["tensorflow-serving"]["image"], deployed)
    for image in images:
        major, minor = map(int, re.search(r"serving:(\d+)\.(\d+)", image).groups())
        assert (major, minor) >= (2, 20)


def test_a_server_that_batches_is_otherwise_the_same() -> None:
    laid = _yaml(SERVING / "docker-compose.batching.yml")["services"]["tensorflow-serving"]
    plain = _flags(COMPOSE["tensorflow-serving"]["command"])
    batching = _flags(laid["command"])
    assert set(batching) - set(plain) == {"enable_batching", "batching_parameters_file"}
    assert {k: batching[k] for k in plain} == plain
    parameters = read_batching(SERVING / "batching.config")
    assert set(parameters.allowed_batch_sizes) <= set(WARM_UP_ROWS)
    assert parameters.max_batch_size == 1024


def test_labels_turn_the_shipped_config_into_the_canary_example_and_back(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text((SERVING / "models.config").read_text())
    assert labels.labelled_versions(path) == set()
    assert labels.main([str(path), "stable=1", "canary=2"]) == 0
    assert _parse(path) == _parse(SERVING / "models.canary.config")
    assert labels.labelled_versions(path) == {1, 2}
    assert labels.main([str(path), "stable=2"]) == 0  # the canary stays
    assert dict(_parse(path).version_labels) == {"stable": 2, "canary": 2}
    assert list(_parse(path).model_version_policy.specific.versions) == [2]
    assert labels.main([str(path), "stable=", "canary="]) == 0
    assert _parse(path) == _parse(SERVING / "models.config")
    with pytest.raises(ConfigError, match="'other'"):
        labels.labelled_versions(path, "other")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["canary"], "expected LABEL=VERSION"),
        (["canary=new"], "expected LABEL=VERSION"),
        (["canary=3", "--model", "other"], "'other'"),
    ],
)
def test_a_wrong_label_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    path = tmp_path / "models.config"
    before = (SERVING / "models.config").read_text()
    path.write_text(before)
    assert labels.main([str(path), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert path.read_text() == before


MANIFESTS = sorted(p.stem for p in KUBERNETES.glob("*.yaml") if p.stem != "kustomization")


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_what_the_published_schema_says(name: str) -> None:
    assert faults(_manifest(name)) == []


@pytest.mark.parametrize(
    ("name", "place", "value", "said"),
    [
        ("deployment", ["spec", "replica"], 2, "no field 'replica'"),
        ("deployment", ["spec", "selector"], None, "selector"),
        ("deployment", ["spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"],
         "8500", "expected int"),
        ("service", ["spec", "ports"], {"port": 1}, "expected a list"),
        ("autoscaling", ["spec", "maxReplicas"], "20", "expected int"),
        ("network", ["spec", "ingress", 0, "from", 0, "podselector"], {}, "no field 'podselector'"),
        ("kserve", ["spec", "predictor", "canary"], 10, "no field 'canary'"),
        ("kserve", ["spec", "predictor", "model", "storageUri"], ["s3://x"], "expected str"),
        ("kserve", ["spec", "predictor", "model", "resources", "limit"], {}, "no field 'limit'"),
    ],
)  # fmt: skip
def test_the_schemas_find_what_is_wrong(name: str, place: list[Any], value: Any, said: str) -> None:
    manifest = copy.deepcopy(_manifest(name))
    node = manifest
    for key in place[:-1]:
        node = node[key]
    if value is None:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    assert said in " ".join(faults(manifest))


def test_kustomize_applies_every_manifest_and_the_server_finds_its_files() -> None:
    kustomization = _manifest("kustomization")
    listed = {Path(name).stem for name in kustomization["resources"]}
    assert listed == set(MANIFESTS) - {"kserve"}
    [generated] = kustomization["configMapGenerator"]
    assert all((KUBERNETES / name).is_file() for name in generated["files"])
    pod = _manifest("deployment")["spec"]["template"]["spec"]
    [server] = pod["containers"]
    flags, mounts = _flags(server["args"]), {m["mountPath"]: m for m in server["volumeMounts"]}
    for flag in ("model_config_file", "monitoring_config_file"):
        folder, name = flags[flag].rsplit("/", 1)
        assert folder in mounts
        assert name in generated["files"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    assert volumes["models"]["persistentVolumeClaim"]["readOnly"] is True
    base = Path(_parse(KUBERNETES / "models.config").base_path)
    assert mounts[str(base.parent)]["readOnly"] is True
    for name in generated["files"]:
        assert (KUBERNETES / name).read_text() == (SERVING / name).read_text()


def test_the_manifests_speak_of_the_same_pods_and_ports() -> None:
    deployment = _manifest("deployment")
    pod = deployment["spec"]["template"]
    for name, selector in (
        ("deployment", lambda m: m["spec"]["selector"]["matchLabels"]),
        ("service", lambda m: m["spec"]["selector"]),
        ("disruption", lambda m: m["spec"]["selector"]["matchLabels"]),
        ("network", lambda m: m["spec"]["podSelector"]["matchLabels"]),
    ):
        assert selector(_manifest(name)).items() <= pod["metadata"]["labels"].items()
    target = _manifest("autoscaling")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    [server] = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    flags = _flags(server["args"])
    assert (int(flags["port"]), int(flags["rest_api_port"])) == (ports["grpc"], ports["http"])
    used = {port["targetPort"] for port in _manifest("service")["spec"]["ports"]}
    used |= {port["port"] for rule in _manifest("network")["spec"]["ingress"]
             for port in rule["ports"]}  # fmt: skip
    used |= {
        server[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")
    }
    assert used == set(ports)
    assert server["securityContext"]["readOnlyRootFilesystem"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    # A pod is taken out of the service before its server ends.
    assert pod["spec"]["terminationGracePeriodSeconds"] > 10


def test_the_autoscaler_asks_for_what_the_adapter_serves() -> None:
    pods = [m["pods"] for m in _manifest("autoscaling")["spec"]["metrics"] if m["type"] == "Pods"]
    [rule] = _yaml(MONITORING / "prometheus-adapter.yaml")["rules"]["custom"]
    assert [metric["metric"]["name"] for metric in pods] == [rule["name"]["as"]]
    assert "rate(<<.Series>>" in rule["metricsQuery"]


def test_prometheus_looks_where_the_server_answers() -> None:
    path = read_metrics_path(SERVING / "monitoring.config")
    for name in ("prometheus.yml", "prometheus.kubernetes.yml"):
        [job] = _yaml(MONITORING / name)["scrape_configs"]
        assert job["metrics_path"] == path
    [target] = _yaml(MONITORING / "prometheus.yml")["scrape_configs"][0]["static_configs"]
    [(host, port)] = [address.split(":") for address in target["targets"]]
    assert host in COMPOSE
    assert f"--rest_api_port={port}" in COMPOSE[host]["command"]
    for group in _yaml(MONITORING / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    taken = set()
    for panel in panels:
        assert panel["title"] and panel["description"]
        assert panel["datasource"]["uid"] == "${source}"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        for target in panel["targets"]:
            expression = target["expr"]
            assert expression.count("(") == expression.count(")")
            assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}
        place = panel["gridPos"]
        cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    jobs = set(re.findall(r'job="([^"]+)"', json.dumps(DASHBOARD).replace('\\"', '"')))
    assert jobs == {_yaml(MONITORING / "prometheus.yml")["scrape_configs"][0]["job_name"]}


def test_the_requests_that_the_docs_show_name_the_columns_of_the_demo() -> None:
    settings = TransformSettings.model_validate(
        _yaml(ROOT / "pipeline/configs/demo.yaml")["transform"]
    )
    columns = {"query", "title", *settings.categorical, *settings.numeric}
    page = (ROOT / "docs/serving.md").read_text()
    bodies = [json.loads(body) for body in re.findall(r"curl -d '([^']+)'", page)]
    rows = [row for body in bodies for row in body.get("instances", [body.get("inputs")])]
    assert len(rows) == 2
    for row in rows:
        assert set(row) == columns


def test_loads_are_not_taken_the_rate_of() -> None:
    """Each version has a series of its own, which begins at one: no rate would ever show it."""
    expressions = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
    groups = _yaml(MONITORING / "alerts.yml")["groups"]
    expressions += [rule["expr"] for group in groups for rule in group["rules"]]
    loads = [text for text in expressions if "load_attempt_count" in text]
    assert len(loads) == 2
    assert not any(re.search(r"rate\(|increase\(", text) for text in loads)
    # A request that was wrong is not the server's fault, whatever its code.
    faults = [text for text in expressions if 'status!~"' in text]
    blamed = re.findall(r'status!~"([A-Z_|]+)"', " ".join(faults))
    assert {code for codes in blamed for code in codes.split("|")} >= {
        code.name for code, status in HTTP_STATUS.items() if status in (200, 400, 404)
    }
