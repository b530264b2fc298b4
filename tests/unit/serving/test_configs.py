"""The files TensorFlow Serving reads, parsed by its own definitions."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving import labels

SERVING = Path(__file__).resolve().parents[3] / "serving"


def _parse(path: Path) -> model_server_config_pb2.ModelConfig:
    server = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(), server)
    (config,) = server.model_config_list.config
    return config


def test_the_shipped_config_serves_what_compose_mounts() -> None:
    compose = yaml.safe_load((SERVING / "docker-compose.yml").read_text())
    service = compose["services"]["tensorflow-serving"]
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    assert all(mount["read_only"] for mount in mounts.values())
    base = Path(_parse(SERVING / "models.config").base_path)
    assert str(base.parent) in mounts
    named = [arg.split("=/config/")[1] for arg in service["command"] if "=/config/" in arg]
    assert len(named) == 3
    assert all((SERVING / name).is_file() for name in named)
    assert not service["user"].startswith("0")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_labels_turn_the_shipped_config_into_the_canary_example_and_back(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text((SERVING / "models.config").read_text())
    assert labels.main([str(path), "stable=1", "canary=2"]) == 0
    assert _parse(path) == _parse(SERVING / "models.canary.config")
    assert labels.main([str(path), "stable=2"]) == 0  # the canary stays
    assert dict(_parse(path).version_labels) == {"stable": 2, "canary": 2}
    assert list(_parse(path).model_version_policy.specific.versions) == [2]
    assert labels.main([str(path), "stable=", "canary="]) == 0
    assert _parse(path) == _parse(SERVING / "models.config")


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
