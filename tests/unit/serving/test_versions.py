"""Going back to an earlier version."""

from pathlib import Path

import pytest

from heft.cli import main
from heft.errors import InputError
from heft.versions import ROLLED_BACK_FILE, roll_back, versions


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
