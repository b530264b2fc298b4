"""Which files make up a span, and how to open them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from heft.errors import DataError
from heft.logs.fields import IMPRESSIONS, STREAMS
from heft.logs.privacy import key_id_here
from heft.logs.settings import LogsSettings, StreamSettings
from heft.logs.spans import SpanPattern, shortened
from heft.logs.storage import content_digest, is_remote, listed, opened

__all__ = ["LogFile", "input_fingerprint", "open_bytes", "resolve_spans", "stream_files"]

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
        suffix = _suffix(self)
        if suffix not in _FORMATS:
            raise DataError(
                f"{self.stream}: cannot tell the format of {self.name}: expected a name ending in "
                f"one of {sorted(_FORMATS)} (and .gz or .zst); set `{self.stream}.format`"
            )
        return _FORMATS[suffix]

    def delimiter(self, settings: StreamSettings) -> str:
        """What divides the values of a CSV file: as configured, else as its name tells."""
        return settings.delimiter or ("\t" if _suffix(self) == ".tsv" else ",")


def _suffix(file: LogFile) -> str:
    """What a file is named after, without its compression; "" if nothing."""
    suffixes = [suffix.lower() for suffix in Path(file.name).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSION:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def open_bytes(file: LogFile, decompress: bool = True) -> pa.NativeFile:
    """The bytes of a file, decompressed on the way unless told otherwise."""
    raw = opened(file.path)
    compression = file.compression() if decompress else None
    return pa.CompressedInputStream(raw, compression) if compression else raw


def resolve_spans(settings: LogsSettings) -> tuple[int, ...]:
    """The spans to read, ascending: `window` of them up to the configured one, or the latest
    that has impressions.

    Raises:
        DataError: the root folder or a span is not there.
    """
    if not is_remote(settings.root) and not Path(settings.root).is_dir():
        raise DataError(
            f"logs.root={settings.root!r} is not a folder: "
            "point it at the folder that holds the logs"
        )
    pattern = SpanPattern(settings.impressions.path)
    if not pattern.has_span:
        return (0 if settings.span == "latest" else settings.span,)
    spans = {span for _, _, span in _matches(settings, pattern.path) if span is not None}
    if not spans:
        raise DataError(
            f"no files match impressions.path={pattern.path!r} under {settings.root}: "
            "expected folders such as impressions/span-1"
        )
    last = max(spans) if settings.span == "latest" else settings.span
    window = pattern.window(last, settings.window)
    missing = [pattern.shown(span) for span in window if span not in spans]
    if missing:
        there = shortened([pattern.shown(span) for span in sorted(spans)])
        asked = f"span={pattern.shown(last)}"
        asked += f" with window={settings.window} wants {shortened(missing)}, which"
        said = asked if settings.window > 1 else f"span={pattern.shown(last)}"
        raise DataError(
            f"{said} is not there: impressions.path={pattern.path!r} under {settings.root} "
            f"has the spans {there}"
        )
    return window


def stream_files(settings: LogsSettings, stream: str, spans: Sequence[int]) -> list[LogFile]:
    """The files of a stream in `spans`, by span and name; none if the log has no such stream.

    Raises:
        DataError: the stream is configured, and no file is there, or none of a span.
    """
    stream_settings = settings.stream(stream)
    if stream_settings is None:
        return []
    pattern = SpanPattern(stream_settings.path)
    matches = _matches(settings, pattern.path)
    chosen = sorted(
        (own if own is not None else 0, path, size)
        for path, size, own in matches
        if own is None or own in spans
    )
    found = {span for span, _, _ in chosen}
    missing = [span for span in spans if pattern.has_span and span not in found]
    if not chosen or missing:
        optional = "" if stream == IMPRESSIONS else f"; set `{stream}: null` if there are none"
        which = shortened([pattern.shown(span) for span in missing or spans])
        raise DataError(
            f"{stream}: no files match {stream_settings.path!r} for span {which} under "
            f"{settings.root}: put them there or correct `{stream}.path`{optional}"
        )
    prefix = len(settings.root.rstrip("/")) + 1
    return [
        LogFile(stream, path, path[prefix:], size, number)
        for number, (_, path, size) in enumerate(chosen)
    ]


def input_fingerprint(settings: LogsSettings) -> str:
    """A digest of the names and contents of all files a run would read, and of the key that
    hashes persons, 64 hex digits.

    Raises:
        DataError: the root, the span or the files of a stream are not there.
    """
    spans = resolve_spans(settings)
    key = key_id_here(settings.privacy)
    digest = hashlib.sha256(f"spans {spans} key {key}\n".encode())
    for stream in STREAMS:
        for file in stream_files(settings, stream, spans):
            content = content_digest(file.path)
            digest.update(f"{stream} {file.name} {file.size} {content}\n".encode())
    return digest.hexdigest()


def _matches(settings: LogsSettings, pattern: str) -> list[tuple[str, int, int | None]]:
    """(path, bytes, span or None if the pattern names none) of every data file."""
    whole = SpanPattern(pattern, f"{settings.root.rstrip('/')}/")
    expression = whole.regex()
    found = []
    for path, size in listed(whole.glob()):
        match = expression.fullmatch(path)
        # _SUCCESS, .crc and their like are left by the engines that write logs.
        if not match or path.rsplit("/", 1)[1].startswith(("_", ".")):
            continue
        span = whole.span_of(match)
        if whole.is_span(span):
            found.append((path, size, span))
    return found
