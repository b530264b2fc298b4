"""The cheap look at a log before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from heft import features
from heft.errors import DataError
from heft.logs.column_checks import check_samples, check_types
from heft.logs.fields import CATALOGUE, IMPRESSIONS, LIST_KINDS, STREAMS, Field
from heft.logs.files import LogFile, open_bytes, resolve_spans, stream_files
from heft.logs.guarding import person_columns
from heft.logs.json_lines import json_columns, parse_json
from heft.logs.lines import Block, Parsed, parse_csv, pick
from heft.logs.parquet_files import parquet_columns, parquet_file, parquet_names
from heft.logs.privacy import need_key
from heft.logs.reading import (
    BOM,
    csv_header,
    damaged,
    list_types,
    missing_columns,
    own_names,
    refuse_utf16,
    text_blocks,
    without_first,
)
from heft.logs.settings import LogsSettings, StreamSettings

__all__ = ["Preflight", "preflight"]

SAMPLE_ROWS = 100
_BUCKET_ROWS = 250_000
_FEWEST_BUCKETS, _MOST_BUCKETS = 8, 10_000
_ROW_BYTES, _PACKED_ROW_BYTES = 160, 32  # of a row of text, by experience
# A stream may be there and have nothing to say, but not these two.
_NEVER_EMPTY = (IMPRESSIONS, CATALOGUE)


@dataclass(frozen=True)
class Preflight:
    """What a run would read: the spans, and by stream its files and bytes."""

    spans: tuple[int, ...]
    files: dict[str, int]
    size: dict[str, int]
    rows: int = 0  # of the impressions; of text files, guessed from their size
    persons: tuple[str, ...] = ()  # columns that leave as keyed hashes
    columns: frozenset[str] = frozenset()  # that impressions or catalogue have, by Heft's names

    @property
    def span(self) -> int:
        """The newest."""
        return self.spans[-1]

    @property
    def buckets(self) -> int:
        """How many to divide the impressions into, so that one fits in some 300 MB."""
        return min(max(-(-self.rows // _BUCKET_ROWS), _FEWEST_BUCKETS), _MOST_BUCKETS)


@dataclass(frozen=True)
class _Look:
    """The columns of one file, and its first rows if they had to be parsed."""

    found: list[str]
    rows: int  # looked at: none means that the file is empty
    sample: dict[str, pa.Array]  # by Heft's name
    types: dict[str, pa.DataType]  # by the log's own name, where the file states them
    states_rows: bool = False  # of the whole file
    states_columns: bool = True  # not so JSON, where a row may leave out what it lacks


_NOTHING = _Look([], 0, {}, {}, states_columns=False)


def preflight(settings: LogsSettings) -> Preflight:
    """Lists the files of a run and looks at the head of each.

    Raises:
        ConfigError: the log has columns of persons, and there is no key to hash them with.
        DataError: the root, the span, files or rows are missing, or a column
            is, or its values are of another type than they must be.
    """
    spans = resolve_spans(settings)
    files, size, rows = {}, {}, 0
    provided: set[str] = set()
    for stream in STREAMS:
        own = settings.stream(stream)
        if own is None:
            continue
        fields = settings.fields_of(stream)
        listed = stream_files(settings, stream, spans)
        looks = _checked_stream(listed, own, fields, _hides(settings, provided))
        if stream in _NEVER_EMPTY and not any(look.rows for look in looks):
            raise DataError(
                f"{stream}: the {len(listed)} files for span {spans[-1]} under {settings.root} "
                "hold no rows: check that the export finished, or choose another span"
            )
        names = own_names(own, fields)
        provided |= {name for name, its in names.items() if any(its in lk.found for lk in looks)}
        if stream == IMPRESSIONS:
            rows = sum(
                look.rows if look.states_rows else _guessed_rows(file)
                for file, look in zip(listed, looks, strict=True)
            )
        files[stream], size[stream] = len(listed), sum(file.size for file in listed)
    for name in (*settings.categorical, *settings.numeric, *settings.vectors):
        if name not in provided:
            where = "`vectors`" if name in settings.vectors else "`categorical` or `numeric`"
            raise DataError(
                f"column {name!r} is named in {where}, but neither the "
                "impressions nor the catalogue have it: map it under their `columns`, "
                "or take it out of the list"
            )
    if features.USER_ID not in provided:
        _refuse_users(settings)
    for name in settings.privacy.pii:
        if name not in provided:
            raise DataError(
                f"column {name!r} is named in `privacy.pii`, and no stream has it: map it under "
                "`columns`, or take it out of the list"
            )
    persons = person_columns(settings.privacy, sorted(provided))
    if persons:
        need_key(settings.privacy, persons)
    return Preflight(spans, files, size, rows, persons, frozenset(provided))


def _hides(settings: LogsSettings, provided: set[str]) -> bool:
    return bool(settings.privacy.pii or settings.privacy.redact or features.USER_ID in provided)


def _guessed_rows(file: LogFile) -> int:
    return file.size // (_PACKED_ROW_BYTES if file.compression() else _ROW_BYTES)


def _refuse_users(settings: LogsSettings) -> None:
    wants = {
        f"history={settings.history} is what a user clicked": (
            settings.computes_history, "set `history: 0`"),
        "splits.by=user": (settings.splits.by == "user", "split by request"),
    }  # fmt: skip
    for what, (asked, instead) in wants.items():
        if asked:
            raise DataError(
                f"{what}, and the impressions have no column 'user_id': map it under "
                f"`impressions.columns`, or {instead}"
            )


def _checked_stream(
    files: Sequence[LogFile], settings: StreamSettings, fields: Sequence[Field], hide: bool
) -> list[_Look]:
    """A column is judged by the heads of all files: a bad row in a small file is
    for the quarantine, not a reason to stop. `hide` keeps values out of messages."""
    looks = []
    for file in files:
        try:
            look = _LOOKS[file.format(settings)](file, settings, fields)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise damaged(file, error) from error
        if look.states_columns:
            missing_columns(file, settings, fields, look.found)
        check_types(file, settings, fields, look.types)
        looks.append(look)
    objects = [(file, look) for file, look in zip(files, looks, strict=True)
               if look.rows and not look.states_columns]  # fmt: skip
    if objects:
        found = {name for _, look in objects for name in look.found}
        if not found:
            _refuse_no_object(objects[0][0])
        missing_columns(objects[0][0], settings, fields, sorted(found))
    users = any(own_names(settings, fields).get(features.USER_ID) in look.found for look in looks)
    check_samples(files, settings, fields, [look.sample for look in looks], hide or users)
    return looks


def _refuse_no_object(file: LogFile) -> None:
    """Raises:
    DataError: a file without an object in its first lines is told by what it begins with.
    """
    with open_bytes(file) as handle:
        data = handle.read(64)
    refuse_utf16(file, data)
    if data.removeprefix(BOM).lstrip().startswith(b"["):
        raise DataError(
            f"{file.stream}: {file.name} is one JSON array, expected JSON Lines: an object on "
            "each line; convert it, for example by `jq -c '.[]'`"
        )


def _look_parquet(file: LogFile, settings: StreamSettings, fields: Sequence[Field]) -> _Look:
    source = parquet_file(file)
    types = parquet_columns(source.schema_arrow)
    names = parquet_names(source.schema_arrow)
    missing_columns(file, settings, fields, names)
    # What the file's types do not tell is how long lists are.
    own = {n: its for n, its in own_names(settings, fields).items() if its in types}
    lists = {f.name: own[f.name] for f in fields if f.kind in LIST_KINDS and f.name in own}
    sample = {}
    if lists and source.metadata.num_rows:
        head = next(source.iter_batches(SAMPLE_ROWS, columns=sorted(lists.values())))
        table = pa.Table.from_batches([head])
        sample = {name: pick(table, its) for name, its in lists.items()}
    return _Look(names, source.metadata.num_rows, sample, types, states_rows=True)


def _look_csv(file: LogFile, settings: StreamSettings, fields: Sequence[Field]) -> _Look:
    block = next(text_blocks(file, settings), None)
    if block is None:
        return _NOTHING
    header = csv_header(block, file, settings)
    head = _head(without_first(block))
    names = {n: own for n, own in own_names(settings, fields).items() if own in header}
    parsed = parse_csv(head, header, sorted(set(names.values())), file.delimiter(settings))
    return _Look(header, len(head), _sample(parsed, names), {})


def _look_json(file: LogFile, settings: StreamSettings, fields: Sequence[Field]) -> _Look:
    block = next(text_blocks(file, settings), None)
    if block is None:
        return _NOTHING
    head = _head(block)
    found = json_columns(head)
    names = {n: own for n, own in own_names(settings, fields).items() if own in found}
    parsed = parse_json(head, {}, sorted(set(names.values())), list_types(settings, fields))
    return _Look(sorted(found), len(head), _sample(parsed, names), {}, states_columns=False)


_LOOKS = {"parquet": _look_parquet, "csv": _look_csv, "jsonl": _look_json}


def _head(block: Block) -> Block:
    if len(block) <= SAMPLE_ROWS:
        return block
    cut = int(block.starts[SAMPLE_ROWS])
    return Block(
        block.data[:cut], block.starts[:SAMPLE_ROWS], block.ends[:SAMPLE_ROWS],
        block.lines[:SAMPLE_ROWS],
    )  # fmt: skip


def _sample(parsed: Parsed, names: dict[str, str]) -> dict[str, pa.Array]:
    return {name: parsed.columns[own] for name, own in names.items()}
