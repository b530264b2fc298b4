"""What a run would make of a log, by the first rows of some of its files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.errors import DataError
from heft.logs.attribution import conflicts
from heft.logs.fields import CLICKS, CONVERSIONS, IMPRESSIONS, STREAMS
from heft.logs.files import LogFile, stream_files
from heft.logs.guarding import Guard
from heft.logs.hashing import hash_ids
from heft.logs.preflight import Preflight, preflight
from heft.logs.reading import Batch, own_names, read_batches
from heft.logs.settings import LogsSettings
from heft.logs.splitting import RequestTimes, plan_splits, row_places

__all__ = ["LogSample", "StreamSample", "sample_log"]

SAMPLED_FILES = 4  # of a stream: the first, the last, and some between


@dataclass
class StreamSample:
    """The first rows of some files of a stream.

    Attributes:
        files, size: of the whole stream; size in bytes.
        kinds: formats, such as "jsonl gzip".
        columns: Heft's name → the log's own, and the first good value as text, None where
            nothing was found; of persons what leaves.
        sampled: files that were opened.
        read, rejected: rows of them.
        reasons: why rows were rejected.
        first: where the first rejected row lies, by reason.
        problem: what stopped the reading, if something did.
        duplicates, conflicting: impressions of the sample that have the id of another: the same
            one, or one of another page or item.
        orphans: events of the sample without an impression in the sample.
    """

    files: int
    size: int
    kinds: tuple[str, ...]
    columns: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    sampled: int = 0
    read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    duplicates: int = 0
    conflicting: int = 0
    orphans: int = 0

    @property
    def rejected(self) -> int:
        """Rows that cannot be used."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class LogSample:
    """All streams, and what the requests of the sample would be divided into.

    Attributes:
        looked: of the preflight.
        streams: by name.
        requests: of the sample, by split; None where they are too few to be cut.
        why_not: why they are.
        redacted: queries of the sample that the redaction list changes.
    """

    looked: Preflight
    streams: dict[str, StreamSample]
    requests: dict[str, int] | None
    why_not: str
    redacted: int


def sample_log(settings: LogsSettings) -> LogSample:
    """Reads some megabytes of a log, and writes nothing.

    Raises:
        ConfigError: the log has columns of persons, and there is no key to hash them with.
        DataError: what `preflight` finds wrong.
    """
    looked = preflight(settings)
    guard = Guard.of(settings.privacy, looked.persons)
    streams: dict[str, StreamSample] = {}
    requests: list[RequestTimes] = []
    redacted = 0
    shown = pa.array([], pa.string())
    for stream in STREAMS:
        files = stream_files(settings, stream, looked.spans)
        if not files:
            continue
        streams[stream], batches = _sample(files, settings, stream, guard)
        if stream == IMPRESSIONS:
            requests = [_requests(batch, settings) for batch in batches if len(batch.places)]
            redacted = sum(_redacted(batch) for batch in batches)
            shown = _note_ids(streams[stream], batches)
        elif stream in (CLICKS, CONVERSIONS):
            ids = [batch.columns[features.IMPRESSION_ID] for batch in batches]
            known = sum(pc.sum(pc.is_in(own, shown)).as_py() or 0 for own in ids)
            streams[stream].orphans = sum(map(len, ids)) - known
    by_split, why_not = _split(requests, settings)
    return LogSample(looked, streams, by_split, why_not, redacted)


def _sample(
    files: Sequence[LogFile], settings: LogsSettings, stream: str, guard: Guard
) -> tuple[StreamSample, list[Batch]]:
    own = settings.stream(stream)
    assert own is not None
    fields = settings.fields_of(stream)
    kinds = Counter(
        " ".join(part for part in (file.format(own), file.compression()) if part) for file in files
    )
    found = StreamSample(len(files), sum(file.size for file in files), tuple(sorted(kinds)))
    names = own_names(own, fields)
    found.columns = {name: (its, None) for name, its in names.items()}
    batches = []
    for file in _spread(files):
        found.sampled += 1
        try:
            batch = next(read_batches(file, own, fields, guard), None)
        except DataError as error:
            found.problem = found.problem or str(error)
            continue
        if batch is not None:
            batches.append(batch)
            _note(found, file, batch)
    return found, batches


def _note_ids(found: StreamSample, batches: Sequence[Batch]) -> pa.Array:
    """Counts impressions that have the id of another, and returns all ids there are."""
    names = (features.IMPRESSION_ID, features.REQUEST_ID, features.ITEM_ID)
    if not batches:
        return pa.array([], pa.string())
    rows = pa.concat_tables(
        [pa.table({name: batch.columns[name] for name in names}) for batch in batches]
    )
    ids = rows.column(features.IMPRESSION_ID).combine_chunks().dictionary_encode()
    _, first = np.unique(ids.indices.to_numpy(), return_index=True)
    again = rows.num_rows - len(first)
    found.conflicting = conflicts(rows, rows.take(pa.array(first))) if again else 0
    found.duplicates = again - found.conflicting
    return ids.dictionary


def _spread(files: Sequence[LogFile]) -> list[LogFile]:
    if len(files) <= SAMPLED_FILES:
        return list(files)
    step = (len(files) - 1) / (SAMPLED_FILES - 1)
    return [files[round(k * step)] for k in range(SAMPLED_FILES)]


def _note(found: StreamSample, file: LogFile, batch: Batch) -> None:
    found.read += batch.read
    for row in batch.rejected:
        found.reasons[row.reason] += 1
        found.first.setdefault(row.reason, f"{file.name}, line {row.line}")
    for name, array in batch.columns.items():
        own, shown = found.columns[name]
        if shown is None and (values := array.drop_null()):
            first = next((v for v in values.slice(0, 100).to_pylist() if v != ""), None)
            found.columns[name] = (own, None if first is None else str(first))


def _requests(batch: Batch, settings: LogsSettings) -> RequestTimes:
    table = pa.table(batch.columns)
    return RequestTimes.of_rows(
        hash_ids(table.column(features.REQUEST_ID).combine_chunks()),
        row_places(table, settings.splits.by),
        table.column(features.RANDOMISED).to_numpy(),
    )


def _redacted(batch: Batch) -> int:
    return sum(
        any(f"<{kind}>" in query for kind in ("email", "phone", "card"))
        for query in batch.columns[features.QUERY].drop_null().to_pylist()
    )


def _split(
    requests: list[RequestTimes], settings: LogsSettings
) -> tuple[dict[str, int] | None, str]:
    try:
        plan = plan_splits(RequestTimes.merged(requests), settings.splits)
    except DataError as error:
        return None, str(error)
    return plan.requests, ""
