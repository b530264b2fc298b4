"""Pusher run by TFX: what it pushes, what it refuses, what it says of that."""

import json
from pathlib import Path

import pytest
from tfx.types import Channel, standard_artifacts
from tfx.types.artifact import Artifact

from components.pusher.component import Pusher
from components.pusher.executor import Executor
from heft.serving_settings import ServingSettings
from heft.versions import EXPORTED_FILE, REFUSED_FILE, versions
from serving.labels import move_labels

CONFIG = Path(__file__).resolve().parents[2] / "serving/models.config"


def _artifact(kind: type[Artifact], path: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(path)
    path.mkdir(parents=True, exist_ok=True)
    return artifact


def _model(folder: Path, exported: int) -> Artifact:
    path = folder / f"model-{exported}" / "Format-Serving"
    (path / "assets.extra").mkdir(parents=True)
    (path / "saved_model.pb").write_text(f"graph {exported}")
    (path / EXPORTED_FILE).write_text(json.dumps({"exported": exported}))
    return _artifact(standard_artifacts.Model, path.parent)


def _blessing(kind: type[Artifact], folder: Path, blessed: bool) -> Artifact:
    artifact = _artifact(kind, folder / kind.TYPE_NAME)
    artifact.set_int_custom_property("blessed", int(blessed))
    infra = kind is standard_artifacts.InfraBlessing
    name = ("INFRA_" if infra else "") + ("BLESSED" if blessed else "NOT_BLESSED")
    for path in Path(artifact.uri).iterdir():
        path.unlink()
    (Path(artifact.uri) / name).write_text("")
    return artifact


def _push(
    folder: Path, model: Artifact, settings: ServingSettings, blessed: bool = True, fit: bool = True
) -> Artifact:
    """Runs the executor with what the component would hand to it."""
    node = Pusher(
        Channel(type=standard_artifacts.Model),
        Channel(type=standard_artifacts.ModelBlessing),
        Channel(type=standard_artifacts.InfraBlessing),
        str(folder / "serving"),
        settings,
        "digest",
    )
    assert node.id == "Pusher"
    assert "digest" in node.exec_properties["custom_config"]
    pushed = _artifact(standard_artifacts.PushedModel, folder / f"pushed-{Path(model.uri).name}")
    Executor().Do(
        {
            "model": [model],
            "model_blessing": [_blessing(standard_artifacts.ModelBlessing, folder, blessed)],
            "infra_blessing": [_blessing(standard_artifacts.InfraBlessing, folder, fit)],
        },
        {"pushed_model": [pushed]},
        node.exec_properties,
    )
    return pushed


@pytest.mark.parametrize(("blessed", "fit"), [(False, True), (True, False)])
def test_what_a_gate_holds_back_is_not_pushed(tmp_path: Path, blessed: bool, fit: bool) -> None:
    pushed = _push(tmp_path, _model(tmp_path, 100), ServingSettings(), blessed, fit)
    assert pushed.get_int_custom_property("pushed") == 0
    assert versions(tmp_path / "serving") == []


def test_a_model_is_pushed_under_the_time_of_its_export(tmp_path: Path) -> None:
    pushed = _push(tmp_path, _model(tmp_path, 1_700), ServingSettings())
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == "1700"
    place = Path(pushed.get_string_custom_property("pushed_destination"))
    assert place == tmp_path / "serving" / "1700"
    assert (Path(pushed.uri) / "saved_model.pb").read_text() == "graph 1700"


def test_an_older_model_is_refused_and_the_reason_is_kept(tmp_path: Path) -> None:
    _push(tmp_path, _model(tmp_path, 200), ServingSettings())
    pushed = _push(tmp_path, _model(tmp_path, 100), ServingSettings())
    assert pushed.get_int_custom_property("pushed") == 0
    assert "version 200 is newer" in (Path(pushed.uri) / REFUSED_FILE).read_text()
    assert [version.number for version in versions(tmp_path / "serving")] == [200]


def test_old_versions_go_but_for_those_with_a_label(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(CONFIG.read_text())
    settings = ServingSettings(keep_versions=1, models_config=str(config))
    for number in (100, 200):
        _push(tmp_path, _model(tmp_path, number), ServingSettings())
    move_labels(config, {"stable": 100})
    _push(tmp_path, _model(tmp_path, 300), settings)
    assert [version.number for version in versions(tmp_path / "serving")] == [300, 100]
