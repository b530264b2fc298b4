"""Two commands in one folder: the second is told who is there, and a kill leaves nothing shut."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heft.errors import InputError, LockedError
from heft.exit_codes import ExitCode
from heft.run_lock import RUN_LOCK, alone
from tests.unit.commands import Heft

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from heft.run_lock import alone
with alone(Path(sys.argv[1]), "heft run"):
    print("held", flush=True)
    time.sleep(600)
"""
# Many at once, each of which may do its work only while no other does.
CROWD = """
import os, sys
from pathlib import Path
from heft.errors import LockedError
from heft.run_lock import alone
folder, done = Path(sys.argv[1]), 0
while done < 40:
    try:
        with alone(folder / "run", "heft run"):
            mark = folder / "somebody"
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            mark.unlink()
            done += 1
    except LockedError:
        pass
"""


def _python(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def _held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a folder."""
    process = _python(HOLD, folder)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_run_names_the_first_and_a_kill_opens_the_folder(
    heft: Heft, log: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "shop"
    with _held(folder) as other:
        said = "`heft run` has been at work there since 20"
        for command in ("run", "tune", "finetune", "ingest", "clean"):
            if command == "clean":
                (folder / "artifacts").mkdir()
            ended = heft(command, log)
            ended.is_refusal(said, code=ExitCode.LOCKED)
            assert f"process {other.pid} on " in ended.error
        # What writes elsewhere is none of its business.
        assert heft("ingest", log, "--out", tmp_path / "examples").code == 0
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (folder / RUN_LOCK).is_file(), "a process that is killed tidies nothing up"
        with alone(folder, "heft run"):
            note = json.loads((folder / RUN_LOCK).read_text())
            assert note["pid"] == os.getpid()
    assert not (folder / RUN_LOCK).exists()


def test_a_holder_that_has_ended_is_said_to_have(tmp_path: Path) -> None:
    """As when a stream is killed and its training goes on."""
    code = HOLD.replace("time.sleep(600)", """
    import os, subprocess
    lock = max(int(fd) for fd in os.listdir("/proc/self/fd")
               if os.path.exists(f"/proc/self/fd/{fd}")
               and os.readlink(f"/proc/self/fd/{fd}").endswith("run.lock"))
    subprocess.Popen(["sleep", "30"], pass_fds=(lock,), stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
    print("started", flush=True)
    time.sleep(600)""")  # fmt: skip
    process = _python(code, tmp_path)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["held\n", "started\n"]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    try:
        said = "which has ended, and what it started goes on"
        with pytest.raises(LockedError, match=said), alone(tmp_path, "heft run"):
            pass
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with alone(tmp_path, "heft run"):
                return
        except LockedError:
            time.sleep(0.01)
    pytest.fail("the lock is still held")


def test_of_a_crowd_one_at_a_time_gets_in(tmp_path: Path) -> None:
    """The lock's file goes with each holder, and often the folder: nobody gets in beside."""
    crowd = [_python(CROWD, tmp_path) for _ in range(3)]
    for process in crowd:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_folder_that_goes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command had just made it, and removed it before it was looked at."""
    real, tried = os.mkdir, []

    def already_there(path: str, mode: int = 0o777) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", already_there)
    with alone(tmp_path / "run", "heft run"):
        assert (tmp_path / "run" / "run.lock").is_file()
    assert len(tried) == 2


def test_a_folder_that_is_a_file_and_one_that_had_things_in_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="is a file: expected a folder"), alone(folder, "x"):
            pass
    with alone(tmp_path / "a" / "b", "heft run"):
        (tmp_path / "a" / "kept").touch()
    assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "kept").exists()
