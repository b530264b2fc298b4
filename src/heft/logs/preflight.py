"""The cheap look at a log before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from heft import features
from heft.errors import DataError
from heft.logs.canonical import canonical_columns, is_text
from heft.logs.fields import CATALOGUE, IMPRESSIONS, LIST_KINDS, NUMERIC_KINDS, STREAMS, Field, Kind
from heft.logs.files import LogFile, resolve_spans, stream_files
from heft.logs.guarding import person_columns
from heft.logs.lines import Block, Parsed, json_columns, parse_csv, parse_json, pick
from heft.logs.lists import is_list
from heft.logs.privacy import need_key
from heft.logs.reading import (
    csv_header,
    damaged,
    list_types,
    missing_columns,
    own_names,
    parquet_columns,
    parquet_file,
    text_blocks,
    without_first,
)
from heft.logs.settings import LogsSettings, StreamSettings

__all__ = ["Preflight", "preflight"]

SAMPLE_ROWS = 100
# A stream may be there and have nothing to say, but not these two.
_NEVER_EMPTY = (IMPRESSIONS, CATALOGUE)


@dataclass(frozen=True)
class Preflight:
    """What a run would read: the spans, and by stream its files and bytes."""

    spans: tuple[int, ...]
    files: dict[str, int]
    size: dict[str, int]
    persons: tuple[str, ...] = ()  # columns that leave as keyed hashes

    @property
    def span(self) -> int:
        """The newest."""
        return self.spans[-1]


@dataclass(frozen=True)
class _Look:
    """The columns of one file, and its first rows if they had to be parsed."""

    found: list[str]
    rows: int  # looked at: none means that the file is empty
    sample: dict[str, pa.Array]  # by Heft's name
    types: dict[str, pa.DataType]  # by the log's own name, where the file states them
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
    files, size = {}, {}
    provided: set[str] = set()
    for stream in STREAMS:
        own = settings.stream(stream)
        if own is None:
            continue
        fields = settings.fields_of(stream)
        listed = stream_files(settings, stream, spans)
        looks = _checked_stream(listed, own, fields)
        if stream in _NEVER_EMPTY and not any(look.rows for look in looks):
            raise DataError(
                f"{stream}: the {len(listed)} files for span {spans[-1]} under {settings.root} "
                "hold no rows: check that the export finished, or choose another span"
            )
        names = own_names(own, fields)
        provided |= {name for name, its in names.items() if any(its in lk.found for lk in looks)}
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
    return Preflight(spans, files, size, persons)


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
    files: Sequence[LogFile], settings: StreamSettings, fields: Sequence[Field]
) -> list[_Look]:
    """A column is judged by the heads of all files: a bad row in a small file is
    for the quarantine, not a reason to stop."""
    looks = []
    for file in files:
        try:
            look = _LOOKS[file.format(settings)](file, settings, fields)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise damaged(file, error) from error
        if look.states_columns:
            missing_columns(file, settings, fields, look.found)
        _check_types(file, settings, fields, look)
        looks.append(look)
    objects = [(file, look) for file, look in zip(files, looks, strict=True)
               if look.rows and not look.states_columns]  # fmt: skip
    if objects:
        found = {name for _, look in objects for name in look.found}
        missing_columns(objects[0][0], settings, fields, sorted(found))
    _check_samples(files, settings, fields, looks)
    return looks


def _look_parquet(file: LogFile, settings: StreamSettings, fields: Sequence[Field]) -> _Look:
    source = parquet_file(file)
    types = parquet_columns(source.schema_arrow)
    # What the file's types do not tell is how long lists are.
    own = {n: its for n, its in own_names(settings, fields).items() if its in types}
    lists = {f.name: own[f.name] for f in fields if f.kind in LIST_KINDS and f.name in own}
    sample = {}
    if lists and source.metadata.num_rows:
        head = next(source.iter_batches(SAMPLE_ROWS, columns=sorted(lists.values())))
        table = pa.Table.from_batches([head])
        sample = {name: pick(table, its) for name, its in lists.items()}
    return _Look(list(types), source.metadata.num_rows, sample, types)


def _look_csv(file: LogFile, settings: StreamSettings, fields: Sequence[Field]) -> _Look:
    block = next(text_blocks(file, settings), None)
    if block is None:
        return _NOTHING
    header = csv_header(block, settings)
    head = _head(without_first(block))
    names = {n: own for n, own in own_names(settings, fields).items() if own in header}
    parsed = parse_csv(head, header, sorted(set(names.values())), settings.delimiter)
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


def _check_types(
    file: LogFile, settings: StreamSettings, fields: Sequence[Field], look: _Look
) -> None:
    names = own_names(settings, fields)
    for field in fields:
        kind = look.types.get(names[field.name])
        if kind is None or pa.types.is_null(kind):
            continue
        expected = _expected(field, kind, settings.timestamp_unit)
        if expected is not None:
            raise DataError(
                f"{file.stream}: column {names[field.name]!r} of {file.name} is {kind}, "
                f"expected {expected} for {field.name}"
            )


def _expected(field: Field, kind: pa.DataType, unit: str) -> str | None:
    """What a column should be, None if it is that."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if field.kind in LIST_KINDS:
        return _expected_list(field, kind)
    number, text = _is_number(kind), is_text(kind)
    if field.kind is Kind.TIME:
        return None if pa.types.is_timestamp(kind) else _expected_time(unit, number, text)
    if field.kind in NUMERIC_KINDS:
        return None if number else "a number: cast it in the export"
    if number or text or pa.types.is_boolean(kind):
        return None
    if field.kind is Kind.FLAG:
        return "true or false"
    return "text: name a nested column as `outer.inner` under `columns`"


def _expected_time(unit: str, number: bool, text: bool) -> str | None:
    if unit == "iso":
        said = "ISO 8601 text, since timestamp_unit is 'iso': set it to s, ms or us"
        return None if text else said
    said = f"a number, since timestamp_unit is {unit!r}: set it to 'iso' if these are dates"
    return None if number else said


def _expected_list(field: Field, kind: pa.DataType) -> str | None:
    inner = kind.value_type if is_list(kind) else None
    good = _is_number if field.kind is Kind.VECTOR else is_text
    if is_text(kind) or (inner is not None and (good(inner) or pa.types.is_null(inner))):
        return None
    return f"a list of {field.width} numbers" if field.kind is Kind.VECTOR else "a list of texts"


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _check_samples(
    files: Sequence[LogFile], settings: StreamSettings, fields: Sequence[Field],
    looks: Sequence[_Look],
) -> None:  # fmt: skip
    """A column none of whose first values can be used is of another type than it should be."""
    for field in fields:
        problem: DataError | None = None
        for file, look in zip(files, looks, strict=True):
            array = look.sample.get(field.name)
            if array is None or not len(array):
                continue
            _, faults = canonical_columns(
                {field.name: array}, [field], settings.timestamp_unit, len(array)
            )
            if faults.good.any():
                break
            reason = faults.reasons()[0].split(": ", 1)[1]
            problem = problem or _unusable(file, settings, field, array, reason)
        else:
            if problem is not None:
                raise problem


def _unusable(
    file: LogFile, settings: StreamSettings, field: Field, array: pa.Array, reason: str
) -> DataError:
    first = array[0].as_py() or ""
    shown = first.decode("utf-8", "backslashreplace") if isinstance(first, bytes) else str(first)
    own = settings.columns.get(field.name, field.name)
    check = "`timestamp_unit`"
    if field.kind is Kind.VECTOR:
        check = f"`vectors`, which says {field.name}: {field.width}"
    return DataError(
        f"{file.stream}: column {own!r} of {file.name} cannot be read as {field.name}: "
        f"none of the first {len(array)} rows has a good value ({reason}; the first is "
        f"{shown[:60]!r}): check `{file.stream}.columns` and {check}"
    )
