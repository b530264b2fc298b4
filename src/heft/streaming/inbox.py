"""Files that land become spans of a log.

The log's folders say all that there is to know: a span is there once its impressions are, which
are moved last. A process that is killed while it moves files goes on with the same span.
"""

import contextlib
import errno
import itertools
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.logs.fields import CLICKS, CONVERSIONS, IMPRESSIONS, Kind
from heft.logs.files import LogFile, stream_files
from heft.logs.reading import own_names, read_batches
from heft.logs.settings import LogsSettings, StreamSettings
from heft.logs.spans import SpanPattern
from heft.logs.storage import is_remote
from heft.streaming.settings import StreamingSettings

__all__ = ["REJECTED", "Inbox", "MicroBatch"]

# Moved in this order: impressions make a span of it.
_STREAMS = (CONVERSIONS, CLICKS, IMPRESSIONS)
REJECTED = "rejected"  # folder of the inbox for files that cannot be read
_NOTHING = "none"  # name of a file that says that a stream has nothing to say
_ARROW = {Kind.TIME: pa.int64(), Kind.NUMBER: pa.float64()}


@dataclass(frozen=True)
class MicroBatch:
    """What was taken at a time.

    Attributes:
        span: of the log that it became.
        files: by stream.
        rows: by stream, those that can be used.
        conversions: among them.
        rejected: files that cannot be read, and why.
    """

    span: int
    files: dict[str, int]
    rows: dict[str, int]
    conversions: int
    rejected: dict[str, str]


class Inbox:
    """A folder that is watched.

    Args:
        logs: where files go; its paths name spans by `{SPAN}`.
        settings: see there.

    Raises:
        ConfigError: the log or the inbox cannot be used for this.
    """

    def __init__(self, logs: LogsSettings, settings: StreamingSettings) -> None:
        if settings.inbox is None:
            raise ConfigError("stream.inbox is not set: name the folder that log files land in")
        for place in (logs.root, settings.inbox):
            if is_remote(place):
                raise ConfigError(f"{place!r}: a stream moves files, and needs folders of a disk")
        pattern = SpanPattern(logs.impressions.path)
        if not pattern.has_span or pattern.dated:
            raise ConfigError(
                f"logs.impressions.path={logs.impressions.path!r}: a stream numbers its spans; "
                "write {SPAN} where the number stands"
            )
        self._logs, self._settings = logs, settings
        self._folder = Path(settings.inbox)
        self._streams = {
            name: stream for name in _STREAMS if (stream := logs.stream(name)) is not None
        }
        for name, stream in self._streams.items():
            base = _base(stream.path)
            wild = set("*?") & set(stream.path.removesuffix(base))
            if "{SPAN}" in base or "*" not in base or wild:
                raise ConfigError(
                    f"logs.{name}.path={stream.path!r}: a stream makes the folders, and files keep "
                    "their names there; expected {SPAN} in a folder's name alone, and a pattern "
                    "at the end alone, such as span-{SPAN}/*"
                )
        for name in self._streams:
            (self._folder / name).mkdir(parents=True, exist_ok=True)

    def take(self, now: float | None = None) -> MicroBatch | None:
        """Moves what has settled into the next span; None where no impressions have.

        Clicks and conversions wait for the next impressions: a span needs some.
        """
        now = time.time() if now is None else now
        landed = {name: self._settled(name, now) for name in self._streams}
        rejected: dict[str, str] = {}
        rows: dict[str, int] = {}
        conversions = 0
        for name, paths in landed.items():
            good = []
            for path in paths:
                try:
                    count, converted = self._count(name, path)
                except DataError as error:
                    if path.exists():  # or somebody took it away
                        rejected[f"{name}/{path.name}"] = str(error)
                        self._reject(name, path, str(error))
                    continue
                good.append(path)
                rows[name] = rows.get(name, 0) + count
                conversions += converted
            landed[name] = good
        if not rows.get(IMPRESSIONS):
            return MicroBatch(-1, {}, {}, 0, rejected) if rejected else None
        span = self.next_span()
        for name, paths in landed.items():
            self._move(name, paths, span)
        files = {name: len(paths) for name, paths in landed.items()}
        return MicroBatch(span, files, rows, conversions, rejected)

    def spans(self) -> list[int]:
        """Those of the log, ascending."""
        root, pattern = Path(self._logs.root), SpanPattern(self._logs.impressions.path)
        expression, found = pattern.regex(), set()
        for path in root.rglob("*"):
            match = expression.fullmatch(str(path.relative_to(root))) if path.is_file() else None
            if match and not path.name.startswith(("_", ".")):
                found.add(pattern.span_of(match))
        return sorted(span for span in found if span is not None)

    def next_span(self) -> int:
        """The number of the span to come."""
        spans = self.spans()
        return spans[-1] + 1 if spans else 1

    def conversions_after(self, span: int | None) -> int:
        """Conversions in the spans that came later."""
        later = [one for one in self.spans() if span is None or one > span]
        name = CONVERSIONS if CONVERSIONS in self._streams else IMPRESSIONS
        try:
            files = stream_files(self._logs, name, later) if later else []
        except DataError:
            return 0
        return sum(self._counted(name, file)[1] for file in files)

    def _settled(self, name: str, now: float) -> list[Path]:
        settled = []
        for path in sorted((self._folder / name).iterdir()):
            if path.name.startswith(("_", ".")) or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):  # it has got another name meanwhile
                if now - path.stat().st_mtime >= self._settings.settle_seconds:
                    settled.append(path)
        return settled

    def _count(self, name: str, path: Path) -> tuple[int, int]:
        """Usable rows of a file, and conversions among them.

        Raises:
            DataError: it cannot be read, holds nothing but rows that cannot be used, or the log
                would not look at a file of its name.
        """
        base = _base(self._streams[name].path)
        if not _matches(path.name, base):
            raise DataError(
                f"{name}: {path.name} is none of logs.{name}.path={self._streams[name].path!r}: "
                f"expected a name like {base}"
            )
        file = LogFile(name, str(path), path.name, path.stat().st_size, 0)
        rows, conversions, faults = self._counted(name, file)
        if faults and not rows:
            raise DataError(f"{name}: no row of {path.name} can be used: {faults[0]}")
        return rows, conversions

    def _counted(self, name: str, file: LogFile) -> tuple[int, int, list[str]]:
        """Usable rows, conversions among them, and the first reasons of rows that are not."""
        rows, conversions, faults = 0, 0, list[str]()
        for batch in read_batches(file, self._streams[name], self._logs.fields_of(name)):
            rows += len(batch.places)
            faults += [row.reason for row in batch.rejected[: 1 - len(faults)]]
            if name == CONVERSIONS:
                conversions += len(batch.places)
            elif name == IMPRESSIONS and f.CONVERSION in self._logs.flags:
                flags = batch.columns[f.CONVERSION]
                conversions += int(pc.sum(flags.cast(pa.int64())).as_py() or 0)
        return rows, conversions, faults

    def _reject(self, name: str, path: Path, why: str) -> None:
        folder = self._folder / REJECTED / name
        folder.mkdir(parents=True, exist_ok=True)
        target = _free(folder, path.name)
        (folder / f"{target.name}.reason.txt").write_text(why + "\n")
        _moved(path, target)

    def _move(self, name: str, paths: Sequence[Path], span: int) -> None:
        stream = self._streams[name]
        pattern, base = stream.path.replace("{SPAN}", str(span)), _base(stream.path)
        folder = (Path(self._logs.root) / pattern).parent
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            _moved(path, _free(folder, path.name, base, str(span)))
        if "{SPAN}" in stream.path and not any(
            p for p in folder.iterdir() if p.name[0] not in "_."
        ):
            self._write_nothing(name, stream, folder, base)

    def _write_nothing(self, name: str, stream: StreamSettings, folder: Path, base: str) -> None:
        """A span has a file of every stream; this one has no rows."""
        wanted = ("parquet", "jsonl", "csv") if stream.format == "auto" else (stream.format,)
        kind = next((k for k in ("jsonl", "csv", "parquet")
                     if k in wanted and _matches(f"{_NOTHING}.{k}", base)), None)  # fmt: skip
        if kind is None:
            raise ConfigError(
                f"logs.{name}.path={stream.path!r}: a span without {name} needs a file that says "
                f"so, such as {_NOTHING}.jsonl; let the path end in *"
            )
        place = folder / f"{_NOTHING}.{kind}"
        if kind != "parquet":
            place.touch()
            return
        fields = self._logs.fields_of(name)
        own = own_names(stream, fields)
        columns = {own[x.name]: pa.array([], _ARROW.get(x.kind, pa.string())) for x in fields}
        pq.write_table(pa.table(columns), place)


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _matches(name: str, base: str) -> bool:
    return SpanPattern(base).regex().fullmatch(name) is not None


def _free(folder: Path, name: str, base: str = "*", tag: str = "1") -> Path:
    """A place for a file, beside what has its name already: one that the log looks at too.

    `base` is the pattern that the log looks for; its first `*` matches the tag too.
    """
    begin = base.index("*")
    numbers = (f"{tag}-{number}" for number in itertools.count(2))
    others = (f"{name[:begin]}{one}-{name[begin:]}" for one in itertools.chain([tag], numbers))
    names = itertools.chain([name], others)
    return next(place for one in names if not (place := folder / one).exists())


def _moved(source: Path, target: Path) -> None:
    """Moves a file so that nobody sees half of it, to another disk too."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = target.with_name(f".draft-{target.name}")
        shutil.copy2(source, draft)
        draft.rename(target)
        source.unlink()
