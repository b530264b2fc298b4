"""The cheap look at a log before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from heft.errors import DataError
from heft.logs.canonical import canonical_columns
from heft.logs.fields import CATALOGUE, IMPRESSIONS, NUMERIC_KINDS, STREAMS, Field, Kind
from heft.logs.fields import stream_fields as fields_of
from heft.logs.files import LogFile, resolve_span, stream_files
from heft.logs.lines import Block, Parsed, json_columns, parse_csv, parse_json
from heft.logs.reading import (
    csv_header,
    damaged,
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
    """What a run would read: the span, and by stream its files and bytes."""

    span: int
    files: dict[str, int]
    size: dict[str, int]


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
        DataError: the root, the span, files or rows are missing, or a column
            is, or its values are of another type than they must be.
    """
    span = resolve_span(settings)
    files, size = {}, {}
    provided: set[str] = set()
    for stream in STREAMS:
        own = settings.stream(stream)
        if own is None:
            continue
        fields = fields_of(stream, settings.categorical, settings.numeric)
        listed = stream_files(settings, stream, span)
        looks = _checked_stream(listed, own, fields)
        if stream in _NEVER_EMPTY and not any(look.rows for look in looks):
            raise DataError(
                f"{stream}: the {len(listed)} files for span {span} under {settings.root} hold "
                "no rows: check that the export finished, or choose another span"
            )
        names = own_names(own, fields)
        provided |= {name for name, its in names.items() if any(its in lk.found for lk in looks)}
        files[stream], size[stream] = len(listed), sum(file.size for file in listed)
    for name in (*settings.categorical, *settings.numeric):
        if name not in provided:
            raise DataError(
                f"column {name!r} is named in `categorical` or `numeric`, but neither the "
                "impressions nor the catalogue have it: map it under their `columns`, "
                "or take it out of the list"
            )
    return Preflight(span, files, size)


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
    return _Look(list(types), source.metadata.num_rows, {}, types)


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
    parsed = parse_json(head, {}, sorted(set(names.values())))
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
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    text = any(
        is_kind(kind) for is_kind in (
            pa.types.is_string, pa.types.is_large_string,
            pa.types.is_binary, pa.types.is_large_binary,
        )
    )  # fmt: skip
    if field.kind is Kind.TIME:
        if pa.types.is_timestamp(kind):
            return None
        if unit == "iso":
            return None if text else (
                "ISO 8601 text, since timestamp_unit is 'iso': set it to s, ms or us"
            )  # fmt: skip
        return None if number else (
            f"a number, since timestamp_unit is {unit!r}: set it to 'iso' if these are dates"
        )  # fmt: skip
    if field.kind in NUMERIC_KINDS:
        return None if number else "a number: cast it in the export"
    if field.kind is Kind.FLAG:
        return None if number or text or pa.types.is_boolean(kind) else "true or false"
    plain = number or text or pa.types.is_boolean(kind)
    return None if plain else "text: name a nested column as `outer.inner` under `columns`"


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
    first = array[0].as_py()
    shown = first.decode("utf-8", "backslashreplace")[:60] if first else ""
    own = settings.columns.get(field.name, field.name)
    return DataError(
        f"{file.stream}: column {own!r} of {file.name} cannot be read as {field.name}: "
        f"none of the first {len(array)} rows has a good value ({reason}; the first is "
        f"{shown!r}): check `{file.stream}.columns` and `timestamp_unit`"
    )
