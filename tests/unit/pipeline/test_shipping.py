"""What gates the push, by config: the stand-in, or TFX's InfraValidator in containers."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import predict_pb2
from tfx.components.infra_validator import request_builder
from tfx.components.infra_validator.serving_bins import parse_serving_binaries
from tfx.proto import infra_validator_pb2 as infra
from tfx.types import artifact_utils, standard_artifacts

from heft.errors import ConfigError
from pipeline.config import load
from pipeline.pipeline import create_pipeline
from pipeline.places import Places
from pipeline.shipping import request_spec
from serving.local.servable import Servable
from tests.unit.serving.models import COLUMNS, export

ROOT = Path(__file__).parents[3]


def _plan(**overrides: Any) -> dict[str, Any]:
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides=overrides)
    street = create_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    return {node.id: node for node in street.components}


def _spec(node: Any, name: str, message: Any) -> Any:
    return json_format.Parse(node.exec_properties[name], message)


def test_without_containers_hefts_own_validator_gates_the_push() -> None:
    plan = _plan()
    assert "InfraValidator" not in plan
    blessing = plan["Pusher"].inputs["infra_blessing"]
    assert blessing.producer_component_id == "ServingValidator"


@pytest.mark.parametrize("platform", ["docker", "kubernetes"])
def test_with_containers_infra_validator_stands_in_its_place(platform: str) -> None:
    plan = _plan(**{
        "serving.validator": platform, "serving.tag": "2.20.1", "serving.image": "mirror/serving",
        "serving_check.rows": 7, "serving_check.timeout_seconds": 90,
        "serving.service_account": "x",
    })  # fmt: skip
    assert "ServingValidator" not in plan
    for node in ("Pusher", "ReportGen"):
        assert plan[node].inputs["infra_blessing"].producer_component_id == "InfraValidator"
    node = plan["InfraValidator"]
    spec = _spec(node, "serving_spec", infra.ServingSpec())
    assert (spec.tensorflow_serving.image_name, list(spec.tensorflow_serving.tags)) == (
        "mirror/serving", ["2.20.1"]
    )  # fmt: skip
    wanted = {"docker": "local_docker", "kubernetes": "kubernetes"}[platform]
    assert spec.WhichOneof("serving_platform") == wanted
    if platform == "kubernetes":
        assert spec.kubernetes.service_account_name == "x"
    assert spec.model_name == "heft"
    assert _spec(node, "validation_spec", infra.ValidationSpec()).max_loading_time_seconds == 90
    asked = _spec(node, "request_spec", infra.RequestSpec())
    assert (asked.split_name, asked.num_examples) == ("natural", 7)
    # TFX itself knows what to start.
    [binary] = parse_serving_binaries(spec)
    assert binary.image == "mirror/serving:2.20.1"


def test_what_infra_validator_asks_is_answered(tmp_path: Path) -> None:
    """Its requests are made by TFX from rows of natural data; the stand-in's engine answers."""
    model, examples = standard_artifacts.Model(), standard_artifacts.Examples()
    model.uri, examples.uri = str(tmp_path / "model"), str(tmp_path / "examples")
    export(tmp_path / "model" / "Format-Serving")
    examples.split_names = artifact_utils.encode_split_names(["train", "natural"])
    (tmp_path / "examples" / "Split-natural").mkdir(parents=True)
    path = tmp_path / "examples" / "Split-natural" / "data-0.gz"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP")) as writer:
        for index in range(9):
            example = tf.train.Example()
            for name in set(COLUMNS) - {"price"}:
                example.features.feature[name].bytes_list.value.append(b"%d tv" % index)
            writer.write(example.SerializeToString())
    requests = request_builder.build_requests("heft", model, examples, request_spec(4))
    assert len(requests) == 4
    assert all(isinstance(request, predict_pb2.PredictRequest) for request in requests)
    servable = Servable(tmp_path / "model" / "Format-Serving", 1)
    for request in requests:
        assert request.model_spec.signature_name == "examples"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert set(servable.run("examples", inputs)) == {"ctr", "cvr", "ctcvr"}


@pytest.mark.parametrize(
    ("key", "value", "rerun"),
    [
        ("serving.keep_versions", 3, {"Pusher"}),
        ("serving.rankings", {"value": "ctcvr * price"}, set()),
        ("stream.window", 3, set()),
    ],
)
def test_settings_of_serving_run_no_model_again(key: str, value: Any, rerun: set[str]) -> None:
    before, after = _plan(), _plan(**{key: value})
    changed = {name for name in before
               if before[name].exec_properties != after[name].exec_properties}  # fmt: skip
    assert changed == rerun


def test_a_ranking_that_cannot_be_computed_is_found_in_the_config() -> None:
    with pytest.raises(ConfigError, match="value: 'ctcvr x price' is no ranking expression"):
        load(
            ROOT / "pipeline/configs/demo.yaml",
            overrides={"serving.rankings": {"value": "ctcvr x price"}},
        )
