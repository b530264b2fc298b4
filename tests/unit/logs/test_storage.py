"""Logs on another file system than this machine's."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from heft.errors import DataError
from heft.logs import LogsSettings, input_fingerprint, preflight, storage
from heft.logs.storage import listed, opened
from tests.unit.logs.logbook import put_shop, shop
from tests.unit.logs.memory_system import MemorySystem
from tests.unit.logs.test_ingest import _digests, _run


def _upload(folder: Path, root: str) -> None:
    MemorySystem.files = {
        f"{root}/{path.relative_to(folder)}": path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet", ".csv.zst", ".parquet.gz"])
def test_a_log_elsewhere_gives_the_bytes_of_the_same_log_here(tmp_path: Path, suffix: str) -> None:
    here = put_shop(tmp_path / "log", shop(), suffix)
    _upload(here, "memory://bucket/logs")
    MemorySystem.files["memory://bucket/logs/impressions/span-1/_SUCCESS"] = b""
    MemorySystem.files["memory://bucket/logs/impressions/span-1/deep/x.csv"] = b"no part of it"
    _run(tmp_path / "here", root=str(here))
    _run(tmp_path / "there", root="memory://bucket/logs/")
    assert _digests(tmp_path / "here") == _digests(tmp_path / "there")


def test_the_fingerprint_follows_content_there_too(tmp_path: Path) -> None:
    _upload(put_shop(tmp_path / "log", shop()), "memory://bucket")
    settings = LogsSettings(root="memory://bucket")
    before = input_fingerprint(settings)
    assert before == input_fingerprint(settings)
    name = "memory://bucket/clicks/span-1/part-0.jsonl"
    data = MemorySystem.files[name]
    MemorySystem.files[name] = data[:-5] + b"9" + data[-4:]
    assert before != input_fingerprint(settings)


def test_spans_are_found_by_listing(tmp_path: Path) -> None:
    _upload(put_shop(tmp_path / "log", shop(), span=12), "memory://b")
    looked = preflight(LogsSettings(root="memory://b"))
    assert looked.spans == (12,)
    assert looked.files["impressions"] == 2
    with pytest.raises(DataError, match="span=13 is not there"):
        preflight(LogsSettings(root="memory://b", span=13))
    with pytest.raises(DataError, match="no files match"):
        preflight(LogsSettings(root="memory://nobody"))


def test_a_file_that_breaks_off_there_is_named(tmp_path: Path) -> None:
    _upload(put_shop(tmp_path / "log", shop(), ".jsonl.gz"), "memory://b")
    name = "memory://b/clicks/span-1/part-0.jsonl.gz"
    MemorySystem.files[name] = MemorySystem.files[name][:-9]
    with pytest.raises(DataError, match=r"clicks/span-1/part-0.jsonl.gz cannot be read to its end"):
        _run(tmp_path / "out", root="memory://b")


def test_a_store_that_fails_while_it_is_read_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            def fail(*_: Any) -> Any:
                raise RuntimeError("connection reset")

            return fail

    monkeypatch.setattr(MemorySystem, "open", lambda *_, **__: Broken())
    with pytest.raises(OSError, match="connection reset"):
        opened("memory://b/x").read(1)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere://bucket", r"Beam knows no file system nowhere://: expected one of gs://, hdfs"),
        ("s3://bucket", r"s3://.*(expected the package 'boto3'|cannot be listed)"),
        ("hdfs://bucket", r"hdfs://.*(expected the package 'hdfs'|cannot be listed)"),
    ],
)
def test_a_file_system_that_is_not_there_is_named_with_what_it_needs(
    root: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where boto3 is and S3 is not, Beam would go on asking.
    monkeypatch.setattr(storage, "PATIENCE", 2.0)
    with pytest.raises(DataError, match=message):
        preflight(LogsSettings(root=root))


def test_files_of_this_machine_are_listed_with_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"12345")
    (tmp_path / "folder.csv").mkdir()
    assert listed(f"{tmp_path}/*.csv") == [(f"{tmp_path}/a.csv", 5)]
    assert hashlib.sha256(opened(f"{tmp_path}/a.csv").read()).hexdigest()[:4] == "5994"
