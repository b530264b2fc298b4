"""A Beam file system that is not this machine's: files in a dictionary, under `memory://`."""

import io
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from apache_beam.io.filesystem import (
    BeamIOError,
    CompressionTypes,
    FileMetadata,
    FileSystem,
)


class MemorySystem(FileSystem):
    """Registered by being imported, as every Beam file system is."""

    files: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "memory"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path, data in self.files.items():
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(data), time.time())

    def open(
        self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO
    ) -> io.BytesIO:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        if path not in self.files:
            raise BeamIOError(f"no {path}")
        return io.BytesIO(self.files[path])

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise io.UnsupportedOperation("memory:// is only listed and read")

    mkdirs = create = copy = rename = exists = size = last_updated = _unused
    checksum = metadata = delete = _unused
