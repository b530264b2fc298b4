"""A full disk and a folder that cannot be written: one message, with the path and what to do."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from heft.errors import StorageError
from heft.exit_codes import ExitCode
from heft.storage import bytes_text, check_space, storage_fault
from tests.unit.small_disks import limited, may_mount, on_a_small_disk

ROOT = Path(__file__).parents[2]


def _raised(work, *arguments) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        work(*arguments)
    return caught.value


@pytest.fixture
def full(tmp_path: Path) -> str:
    """A file on a full device, which a writer that tidies up may remove: it is a link."""
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    return str(link)


def _write(path: str) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(b"x")


def _write_by_tensorflow(path: str) -> None:
    with tf.io.gfile.GFile(path, "w") as file:
        file.write("x" * 1_000_000)


def _write_by_arrow(path: str) -> None:
    pq.write_table(pa.table({"a": list(range(1_000_000))}), path)


@pytest.mark.parametrize("write", [_write, _write_by_tensorflow, _write_by_arrow])
def test_a_full_device_is_found_whoever_writes_there(write, full: str) -> None:
    fault = storage_fault(_raised(write, full), Path(full).parent)
    assert isinstance(fault, StorageError)
    assert fault.exit_code == ExitCode.STORAGE
    assert str(fault).startswith("no space is left for /")
    assert "free at " in str(fault) and "`heft clean`" in str(fault)
    assert "\n" not in str(fault)


def test_it_is_found_behind_other_errors_and_in_their_text(tmp_path: Path, full: str) -> None:
    refused = _raised(_write, full)

    def wrapped() -> None:
        try:
            raise refused
        except OSError as error:
            raise RuntimeError("the engine failed") from error

    def in_passing() -> None:
        try:
            raise refused
        except OSError:
            raise ValueError("while tidying up")  # noqa: B904

    for error in (_raised(wrapped), _raised(in_passing), RuntimeError("outer", refused)):
        assert "no space is left" in str(storage_fault(error, tmp_path))
    # As Beam has it, which keeps the text alone.
    text = f"Traceback …\nOSError: [Errno 28] {os.strerror(28)}: '{tmp_path}/x' [while running 'W']"
    assert f"no space is left for {tmp_path}/x (" in str(
        storage_fault(RuntimeError(text), tmp_path)
    )
    for code, said in ((errno.EDQUOT, "quota is used up"), (errno.EFBIG, "may not grow")):
        assert said in str(storage_fault(RuntimeError(f"x: {os.strerror(code)}"), tmp_path))


def test_what_cannot_be_read_is_no_fault_of_storage(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/clicks.csv")
    assert storage_fault(denied, tmp_path) is None
    assert storage_fault(RuntimeError("/data/clicks.csv: Permission denied"), tmp_path) is None
    assert (
        storage_fault(FileNotFoundError(2, "No such file", str(tmp_path / "x")), tmp_path) is None
    )
    assert storage_fault(RuntimeError("no clicks"), tmp_path) is None
    mine = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "x"))
    assert "this user has no right to" in str(storage_fault(mine, tmp_path))


def test_a_data_base_that_is_read_only_says_so(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "m.db").execute("create table t (a)")
    opened = sqlite3.connect(f"file:{tmp_path / 'm.db'}?mode=ro", uri=True)
    fault = storage_fault(_raised(opened.execute, "insert into t values (1)"), tmp_path)
    assert "its file system is read-only" in str(fault)


def test_little_space_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=300_000_000))
    assert "300.0 MB are left" in str(check_space(tmp_path / "not" / "there"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    assert check_space(tmp_path) is None
    assert [bytes_text(n) for n in (0, 999, 1_000, 2.5e9)] == ["0 bytes", "999 bytes", "1.0 kB",
                                                              "2.5 GB"]  # fmt: skip


def test_a_disk_that_fills_up_ends_in_one_message(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    arguments = ("simulate", "builtin", "--out", disk / "made", "--sessions", 400)
    if may_mount():
        code, said = on_a_small_disk("100k", "", disk, *arguments)
        assert f"no space is left for {disk}" in said
    else:  # no right to mount: a limit of the files' size does the same to who writes
        disk.mkdir()
        code, said = limited(tmp_path, 20, *arguments)
        assert "may not grow" in said
    assert code == ExitCode.STORAGE
    assert said.count("\n") == 1, said
