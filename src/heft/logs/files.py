"""Which files make up a span, and how to open them."""

import glob
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from heft.errors import DataError
from heft.logs.fields import IMPRESSIONS, STREAMS
from heft.logs.settings import LogsSettings, StreamSettings

__all__ = ["LogFile", "input_fingerprint", "open_bytes", "resolve_span", "stream_files"]

_COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "csv",
}  # fmt: skip


@dataclass(frozen=True)
class LogFile:
    """One file of a stream. `name` is its path under the root; size in bytes."""

    stream: str
    path: str
    name: str
    size: int
    number: int  # place among the stream's files, in name order

    def compression(self) -> str | None:
        """The compression its name tells: gzip, zstd or None."""
        return _COMPRESSION.get(Path(self.name).suffix.lower())

    def format(self, settings: StreamSettings) -> str:
        """parquet, jsonl or csv: as configured, else as its name tells.

        Raises:
            DataError: neither tells.
        """
        if settings.format != "auto":
            return settings.format
        suffixes = [suffix.lower() for suffix in Path(self.name).suffixes]
        if suffixes and suffixes[-1] in _COMPRESSION:
            suffixes.pop()
        if not suffixes or suffixes[-1] not in _FORMATS:
            raise DataError(
                f"{self.stream}: cannot tell the format of {self.name}: expected a name ending in "
                f"one of {sorted(_FORMATS)} (and .gz or .zst); set `{self.stream}.format`"
            )
        return _FORMATS[suffixes[-1]]


def open_bytes(file: LogFile, decompress: bool = True) -> pa.NativeFile:
    """The bytes of a file, decompressed on the way unless told otherwise."""
    raw: pa.NativeFile
    if "://" in file.path:
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        handle = FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED)
        raw = pa.PythonFile(handle, mode="r")
    else:
        raw = pa.OSFile(file.path, "rb")
    compression = file.compression() if decompress else None
    return pa.CompressedInputStream(raw, compression) if compression else raw


def resolve_span(settings: LogsSettings) -> int:
    """The span to read: the configured one, or the latest that has impressions.

    Raises:
        DataError: the root folder or the span is not there.
    """
    if "://" not in settings.root and not Path(settings.root).is_dir():
        raise DataError(
            f"logs.root={settings.root!r} is not a folder: "
            "point it at the folder that holds the logs"
        )
    pattern = settings.impressions.path
    if "{SPAN}" not in pattern:
        return 0 if settings.span == "latest" else settings.span
    spans = {span for _, _, span in _matches(settings, pattern) if span is not None}
    if not spans:
        raise DataError(
            f"no files match impressions.path={pattern!r} under {settings.root}: "
            "expected folders such as impressions/span-1"
        )
    span = max(spans) if settings.span == "latest" else settings.span
    if span not in spans:
        raise DataError(
            f"span={span} is not there: impressions.path={pattern!r} under {settings.root} "
            f"has the spans {_shortened(sorted(spans))}"
        )
    return span


def stream_files(settings: LogsSettings, stream: str, span: int) -> list[LogFile]:
    """The files of a stream in `span`, by name; none if the log has no such stream.

    Raises:
        DataError: the stream is configured, and no file is there.
    """
    stream_settings = settings.stream(stream)
    if stream_settings is None:
        return []
    matches = _matches(settings, stream_settings.path)
    chosen = sorted((path, size) for path, size, own in matches if own in (None, span))
    if not chosen:
        optional = "" if stream == IMPRESSIONS else f"; set `{stream}: null` if there are none"
        raise DataError(
            f"{stream}: no files match {stream_settings.path!r} for span {span} under "
            f"{settings.root}: put them there or correct `{stream}.path`{optional}"
        )
    prefix = len(settings.root.rstrip("/")) + 1
    return [
        LogFile(stream, path, path[prefix:], size, number)
        for number, (path, size) in enumerate(chosen)
    ]


def input_fingerprint(settings: LogsSettings) -> str:
    """A digest of the names and contents of all files a run would read, 64 hex digits.

    Raises:
        DataError: the root, the span or the files of a stream are not there.
    """
    span = resolve_span(settings)
    digest = hashlib.sha256(f"span {span}\n".encode())
    for stream in STREAMS:
        for file in stream_files(settings, stream, span):
            digest.update(f"{stream} {file.name} {file.size} ".encode())
            with open_bytes(file, decompress=False) as handle:
                while block := handle.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()


def _matches(settings: LogsSettings, pattern: str) -> list[tuple[str, int, int | None]]:
    """(path, bytes, span or None if the pattern names none) of every data file."""
    whole = f"{settings.root.rstrip('/')}/{pattern}"
    translated = re.escape(whole).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    before, *after = translated.split(re.escape("{SPAN}"))
    # A second {SPAN} must repeat the first.
    expression = re.compile(before + "".join(
        (r"(?P<span>\d+)" if place == 0 else "(?P=span)") + part
        for place, part in enumerate(after)
    ))  # fmt: skip
    found = []
    for path, size in _list(whole.replace("{SPAN}", "*")):
        match = expression.fullmatch(path)
        # _SUCCESS, .crc and their like are left by the engines that write logs.
        if match and not path.rsplit("/", 1)[1].startswith(("_", ".")):
            found.append((path, size, int(match["span"]) if after else None))
    return found


def _list(pattern: str) -> list[tuple[str, int]]:
    if "://" in pattern:
        from apache_beam.io.filesystems import FileSystems

        listed: list[Any] = FileSystems.match([pattern])[0].metadata_list
        return [(entry.path, entry.size_in_bytes) for entry in listed]
    return [(path, os.path.getsize(path)) for path in glob.glob(pattern) if os.path.isfile(path)]


def _shortened(values: list[int]) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:3], "…", *shown[-3:]])
