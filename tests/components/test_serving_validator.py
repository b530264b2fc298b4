"""ServingValidator run by TFX, with the stock Pusher behind it."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.pusher.executor import Executor as PusherExecutor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import proto_utils

from components.serving_validator.component import ServingValidator
from components.serving_validator.executor import Executor
from heft.serving_check import ServingCheckSettings
from serving.local.servable import is_complete
from tests.unit.serving.models import COLUMNS, export

SETTINGS = ServingCheckSettings(rows=10, latency_requests=3)


def _artifact(kind: type[Artifact], path: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(path)
    path.mkdir(parents=True, exist_ok=True)
    return artifact


def _examples(path: Path) -> Artifact:
    """`natural` holds rows; `graded`, the last split, holds nothing that could be read."""
    artifact = _artifact(standard_artifacts.Examples, path)
    artifact.split_names = artifact_utils.encode_split_names(["train", "natural", "graded"])
    (path / "Split-natural").mkdir()
    options = tf.io.TFRecordOptions("GZIP")
    with tf.io.TFRecordWriter(str(path / "Split-natural" / "data-0.gz"), options) as writer:
        for index in range(30):
            example = tf.train.Example()
            for name in set(COLUMNS) - {"price"}:
                example.features.feature[name].bytes_list.value.append(b"%d tv" % index)
            example.features.feature["price"].float_list.value.append(index + 0.5)
            writer.write(example.SerializeToString())
    return artifact


def _validate(model: Artifact, examples: Artifact, path: Path) -> Artifact:
    blessing = _artifact(standard_artifacts.InfraBlessing, path)
    Executor().Do(
        {"model": [model], "examples": [examples]},
        {"blessing": [blessing]},
        {"settings": SETTINGS.model_dump_json(), "source_digest": ""},
    )
    return blessing


def _push(model: Artifact, blessing: Artifact, path: Path) -> list[Path]:
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(path / "heft"))
    )
    pushed = _artifact(standard_artifacts.PushedModel, path / "artifact")
    PusherExecutor().Do(
        {"model": [model], "infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return sorted((path / "heft").glob("*"))


def test_a_good_model_is_blessed_and_pushed_where_the_server_looks(tmp_path: Path) -> None:
    model = _artifact(standard_artifacts.Model, tmp_path / "model")
    export(tmp_path / "model" / "Format-Serving")
    blessing = _validate(model, _examples(tmp_path / "examples"), tmp_path / "blessing")
    facts = json.loads((tmp_path / "blessing" / "check.json").read_text())
    assert facts["ok"], facts
    assert facts["rows"] == 10
    assert (tmp_path / "blessing" / "INFRA_BLESSED").exists()
    assert blessing.get_string_custom_property("why_not") == ""
    versions = _push(model, blessing, tmp_path / "serving")
    assert len(versions) == 1
    assert versions[0].name.isdecimal()
    assert is_complete(versions[0])


def test_a_broken_model_is_not_pushed_and_says_why(tmp_path: Path) -> None:
    model = _artifact(standard_artifacts.Model, tmp_path / "model")
    path = export(tmp_path / "model" / "Format-Serving")
    (path / "variables" / "variables.index").unlink()
    blessing = _validate(model, _examples(tmp_path / "examples"), tmp_path / "blessing")
    assert (tmp_path / "blessing" / "INFRA_NOT_BLESSED").exists()
    assert not (tmp_path / "blessing" / "INFRA_BLESSED").exists()
    assert blessing.get_int_custom_property("blessed") == 0
    assert "cannot be used" in blessing.get_string_custom_property("why_not")
    assert _push(model, blessing, tmp_path / "serving") == []


def test_settings_and_digest_are_execution_properties() -> None:
    """So that an edited check does not hit the cache of the last one."""
    from tfx.types import Channel

    node = ServingValidator(
        Channel(type=standard_artifacts.Model),
        Channel(type=standard_artifacts.Examples),
        SETTINGS,
        source_digest="abc",
    )
    assert node.exec_properties["source_digest"] == "abc"
    restored = ServingCheckSettings.model_validate_json(node.exec_properties["settings"])
    assert restored == SETTINGS
    assert node.outputs["blessing"].type is standard_artifacts.InfraBlessing
    with pytest.raises(ValueError, match="rwos"):
        ServingCheckSettings.model_validate_json('{"rwos": 3}')
