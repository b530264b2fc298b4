"""Where files lie: on this machine, or on any file system that Beam knows.

`s3://`, `gs://` and `hdfs://` are read through Beam's own file systems, and so is whatever
scheme a team has registered there.
"""

import glob
import hashlib
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from heft.errors import DataError

__all__ = ["content_digest", "is_remote", "listed", "opened"]

# What Beam needs beside itself, by scheme.
_EXTRAS = {"s3": "boto3", "gs": "apache-beam[gcp]", "hdfs": "hdfs"}
_NOT_INSTALLED = ("Unable to get filesystem from", "ImportError", "No module named")
_BLOCK = 1 << 22
PATIENCE = 180.0  # seconds for a list of files


def is_remote(path: str) -> bool:
    """Whether a path names a file system."""
    return "://" in path


def listed(pattern: str) -> list[tuple[str, int]]:
    """(path, bytes) of every file that matches a pattern with `*` and `?`.

    Raises:
        DataError: the file system is not known here, or does not answer.
    """
    if not is_remote(pattern):
        found = (path for path in glob.glob(pattern) if os.path.isfile(path))
        return [(path, os.path.getsize(path)) for path in found]
    systems = _systems(pattern)
    try:
        entries: list[Any] = _within(PATIENCE, lambda: systems.match([pattern]))[0].metadata_list
    except Exception as error:
        raise _unreachable(pattern, error) from error
    return [(entry.path, entry.size_in_bytes) for entry in entries]


def _within(seconds: float, question: Callable[[], Any]) -> Any:
    """The answer, if it comes in time: Beam asks a store that is not there for half an hour."""
    found: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put((question(), None))
        except Exception as error:
            found.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer, error = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer


def opened(path: str) -> pa.NativeFile:
    """The bytes of a file as they lie there; one that cannot be read raises OSError."""
    if not is_remote(path):
        return pa.OSFile(path, "rb")
    return pa.PythonFile(_Remote(path), mode="r")


def content_digest(path: str) -> str:
    """Tells contents of a file apart. Of stores that keep a checksum, theirs."""
    scheme = path.split("://", 1)[0]
    if is_remote(path) and scheme in _EXTRAS:
        try:
            return str(_systems(path).checksum(path))
        except Exception as error:
            raise _unreachable(path, error) from error
    digest = hashlib.sha256()
    with opened(path) as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Remote(io.RawIOBase):
    """A file of a Beam file system, whose faults, of whatever kind, are OSErrors."""

    def __init__(self, path: str) -> None:
        from apache_beam.io.filesystem import CompressionTypes

        self._path = path
        self._file = self._asked(
            lambda: _systems(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._asked(lambda: self._file.read(*(() if size < 0 else (size,))))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._asked(lambda: self._file.seek(offset, whence))
        return self.tell()

    def tell(self) -> int:
        return int(self._asked(self._file.tell))

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _asked(self, question: Any) -> Any:
        try:
            return question()
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{self._path}: {type(error).__name__}: {error}") from error


def _systems(path: str) -> Any:
    """Beam's file systems, with one for `path` among them.

    Raises:
        DataError: there is none.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    if getattr(FileSystems, "_pipeline_options", None) is None:
        FileSystems.set_options(PipelineOptions([]))
    scheme = path.split("://", 1)[0]
    try:
        FileSystems.get_filesystem(path)
    except Exception as error:
        if not any(said in str(error) for said in _NOT_INSTALLED):
            raise _unreachable(path, error) from error
        if scheme in _EXTRAS:
            raise DataError(
                f"{path}: Beam cannot read {scheme}:// here: expected the package "
                f"{_EXTRAS[scheme]!r}; install it beside Heft"
            ) from error
        known = ", ".join(f"{name}://" for name in sorted(_EXTRAS))
        raise DataError(
            f"{path}: Beam knows no file system {scheme}://: expected one of {known} or a folder "
            "of this machine; one of your own is registered by importing its subclass of "
            "apache_beam.io.filesystem.FileSystem"
        ) from error
    return FileSystems


def _unreachable(path: str, error: Exception) -> DataError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    if "Missing boto3" in why:
        return DataError(
            f"{path}: Beam cannot read s3:// here: expected the package 'boto3'; install it "
            "beside Heft"
        )
    return DataError(
        f"{path} cannot be listed ({type(error).__name__}: {why[:300]}): check the address, the "
        "credentials of this machine, and for hdfs:// the `beam` arguments --hdfs_host, "
        "--hdfs_port and --hdfs_user"
    )
