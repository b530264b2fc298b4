"""Pushing a version, and going back to an earlier one."""

import contextlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from heft import versions as heft_versions
from heft.cli import main
from heft.errors import GateError, InputError
from heft.versions import EXPORTED_FILE, ROLLED_BACK_FILE, exported_at, push, roll_back, versions
from tests.unit.serving.server import wait_until


def _pushed(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        (folder / str(number) / "variables").mkdir(parents=True)
        (folder / str(number) / "saved_model.pb").write_text(f"graph {number}")
        (folder / str(number) / "variables" / "data").write_text(f"weights {number}")
    return folder


def _served(folder: Path) -> str:
    return (versions(folder)[0].path / "variables" / "data").read_text()


def test_going_back_serves_the_earlier_model_as_the_newest_version(tmp_path: Path) -> None:
    folder = _pushed(tmp_path, 100, 200, 300)
    before, now = roll_back(folder)
    assert (before.number, now.source) == (300, 200)
    assert now.number > 300
    assert _served(folder) == "weights 200"
    assert {version.number for version in versions(folder)} == {100, 200, 300, now.number}


def test_going_back_again_goes_further_back_and_not_to_and_fro(tmp_path: Path) -> None:
    folder = _pushed(tmp_path, 100, 200, 300)
    roll_back(folder)
    _, second = roll_back(folder)
    assert second.source == 100
    assert _served(folder) == "weights 100"
    with pytest.raises(InputError, match="no earlier model"):
        roll_back(folder)


def test_a_version_that_is_named_is_served_even_if_it_is_later(tmp_path: Path) -> None:
    folder = _pushed(tmp_path, 100, 200, 300)
    roll_back(folder, to=100)
    before, _ = roll_back(folder, to=300)
    assert before.source == 100
    assert _served(folder) == "weights 300"


@pytest.mark.parametrize(
    ("numbers", "to", "said"),
    [
        ((), None, "holds no model"),
        ((100,), None, "no earlier model than 100"),
        ((100, 200), 150, "no version 150 .*: expected one of 200, 100"),
        ((100, 200), 200, "being served already"),
    ],
)
def test_what_cannot_be_gone_back_to_is_said_and_nothing_changes(
    tmp_path: Path, numbers: tuple[int, ...], to: int | None, said: str
) -> None:
    folder = _pushed(tmp_path, *numbers)
    with pytest.raises(InputError, match=said):
        roll_back(folder, to=to)
    assert {path.name for path in folder.iterdir()} == {str(number) for number in numbers}


def test_a_folder_that_is_not_whole_is_no_version(tmp_path: Path) -> None:
    folder = _pushed(tmp_path, 100)
    (folder / "200").mkdir()
    (folder / "notes").mkdir()
    assert [version.number for version in versions(folder)] == [100]


def test_a_rollback_that_breaks_off_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _pushed(tmp_path, 100, 200)
    real = Path.rename

    def full(path: Path, target: Path) -> Path:
        if target.parent == folder:
            raise OSError("no space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        roll_back(folder)
    assert {path.name for path in folder.iterdir()} == {"100", "200"}
    assert not (folder / "200" / ROLLED_BACK_FILE).exists()


def test_the_command_goes_back_and_says_from_where_to_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _pushed(tmp_path / "shop" / "serving" / "heft", 100, 200)
    (tmp_path / "shop" / "summary.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["heft", "rollback", "shop", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="0"):
        main()
    now = versions(folder)[0].number
    assert f"version {now} is 100 again; 200 was served until now" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["heft", "rollback", str(tmp_path / "shop")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "no earlier model" in capsys.readouterr().err


def _model(folder: Path, exported: int, weights: str = "weights") -> Path:
    model = folder / f"model-{exported}"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_text(f"graph {exported}")
    (model / "variables" / "data").write_text(weights)
    (model / "assets.extra").mkdir()
    (model / EXPORTED_FILE).write_text(json.dumps({"exported": exported}))
    return model


def test_a_version_is_the_time_of_the_export_and_pushing_again_changes_nothing(
    tmp_path: Path,
) -> None:
    model, folder = _model(tmp_path, 1_700), tmp_path / "serving" / "heft"
    first, second = push(model, folder), push(model, folder)
    assert (first.version.number, first.new) == (1_700, True)
    assert (second.version, second.new) == (first.version, False)
    assert [version.number for version in versions(folder)] == [1_700]
    assert (first.version.path / "variables" / "data").read_text() == "weights"
    assert [path.name for path in folder.iterdir()] == ["1700"]


def test_a_model_without_a_note_has_the_time_of_its_graph(tmp_path: Path) -> None:
    model = _model(tmp_path, 1_700)
    (model / EXPORTED_FILE).unlink()
    os.utime(model / "saved_model.pb", (5_000, 5_000))
    assert exported_at(model) == 5_000
    with pytest.raises(InputError, match="holds no SavedModel"):
        push(tmp_path, tmp_path / "serving")


def test_an_older_model_and_another_of_the_same_second_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    push(_model(tmp_path, 200), folder)
    with pytest.raises(GateError, match="exported at 100 and version 200 is newer"):
        push(_model(tmp_path, 100), folder)
    with pytest.raises(GateError, match="another model under 200"):
        push(_model(tmp_path / "other", 200, "others"), folder)
    assert [version.number for version in versions(folder)] == [200]
    assert (folder / "200" / "variables" / "data").read_text() == "weights"


def test_what_was_exported_before_a_rollback_is_refused_after_it(tmp_path: Path) -> None:
    """Or the model that somebody went back from would come again by itself."""
    folder, now = tmp_path / "serving", int(time.time())
    push(_model(tmp_path, now - 300), folder)
    bad = _model(tmp_path, now - 200)
    push(bad, folder)
    roll_back(folder)
    for model in (bad, _model(tmp_path, now - 100)):
        with pytest.raises(GateError, match="is newer"):
            push(model, folder)
    assert push(_model(tmp_path, now + 100), folder).new


def test_the_last_versions_are_kept_and_those_a_label_points_at(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    for number in (100, 200, 300):
        assert push(_model(tmp_path, number), folder).removed == ()
    assert push(_model(tmp_path, 400), folder, keep=2, spared={100}).removed == (200,)
    assert [version.number for version in versions(folder)] == [400, 300, 100]
    assert {path.name for path in folder.iterdir()} == {"100", "300", "400"}


def _push_slowly(model: Path, folder: Path) -> None:
    heft_versions._to_disk = lambda path: time.sleep(60)
    push(model, folder)


def test_a_push_that_is_killed_leaves_no_version_and_the_next_one_tidies_up(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "serving"
    push(_model(tmp_path, 100), folder)
    pushing = multiprocessing.get_context("fork").Process(
        target=_push_slowly, args=(_model(tmp_path, 200), folder)
    )
    pushing.start()
    wait_until(lambda: any(folder.glob(".draft-*/variables/data")))
    os.kill(pushing.pid, signal.SIGKILL)
    pushing.join()
    assert [version.number for version in versions(folder)] == [100]
    [left] = folder.glob(".draft-*")
    push(_model(tmp_path, 300), folder)
    assert left.exists()  # it may be another push that goes on
    os.utime(left, (0, 0))
    push(_model(tmp_path, 400), folder)
    assert {path.name for path in folder.iterdir()} == {"100", "300", "400"}


def test_a_server_that_looks_at_any_moment_sees_whole_versions_alone(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    models = [_model(tmp_path, number) for number in range(100, 160)]
    pushing = multiprocessing.get_context("fork").Process(
        target=lambda: [push(model, folder, keep=3) for model in models]
    )
    pushing.start()
    looks, seen = 0, set()
    while pushing.is_alive():
        for path in folder.glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError):  # it went, whole, as it came
                seen.add(path.name)
                files = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
                if path.exists():
                    assert files == {"saved_model.pb", "variables/data", EXPORTED_FILE}
        looks += 1
    pushing.join()
    assert pushing.exitcode == 0
    assert looks > 10
    assert len(seen) > 3
    assert [version.number for version in versions(folder)] == [159, 158, 157]
