"""One log file → batches of Heft's columns, with every faulty row kept apart."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from heft.errors import DataError
from heft.logs.canonical import canonical_columns
from heft.logs.fields import LIST_KINDS, TEXT_KINDS, Field, Kind
from heft.logs.files import LogFile, open_bytes
from heft.logs.guarding import OPEN, Guard
from heft.logs.json_lines import json_types, parse_json
from heft.logs.lines import (
    Block,
    Parsed,
    parse_csv,
    pick,
    read_blocks,
)
from heft.logs.parquet_files import parquet_columns, parquet_file, parquet_names
from heft.logs.settings import StreamSettings

__all__ = [
    "BOM", "Batch", "Rejected", "csv_header", "damaged", "list_types", "missing_columns",
    "own_names", "read_batches", "refuse_utf16", "text_blocks", "without_first",
]  # fmt: skip

PARQUET_ROWS = 65_536
BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Rejected:
    """One row that cannot be used. `line` counts from 1: of the file for text
    formats, row of the file for Parquet."""

    line: int
    reason: str
    raw: str


@dataclass(frozen=True)
class Batch:
    """`read` rows: the good ones as columns, the others with their reason."""

    columns: dict[str, pa.Array]
    places: np.ndarray  # (good rows,) row number within the file, from 0
    rejected: list[Rejected]
    read: int


def own_names(settings: StreamSettings, fields: Sequence[Field]) -> dict[str, str]:
    """Heft's column name → the log's own."""
    return {field.name: settings.columns.get(field.name, field.name) for field in fields}


def list_types(settings: StreamSettings, fields: Sequence[Field]) -> dict[str, pa.DataType]:
    """The columns that hold lists, by the log's own names, and of what."""
    names = own_names(settings, fields)
    return {
        names[field.name]: pa.list_(pa.float64() if field.kind is Kind.VECTOR else pa.string())
        for field in fields
        if field.kind in LIST_KINDS
    }


def missing_columns(
    file: LogFile,
    settings: StreamSettings,
    fields: Sequence[Field],
    found: Sequence[str],
) -> None:
    """Checks that a file has what it must: required columns, and those mapped on purpose.

    Raises:
        DataError: it has not, or has a column twice that is read.
    """
    names = own_names(settings, fields)
    for name in names.values():
        if (times := list(found).count(name)) > 1:
            raise DataError(
                f"{file.stream}: {file.name} has {times} columns named {name!r}, expected one: "
                "rename the others in the export"
            )
    must = [field.name for field in fields if field.required or field.name in settings.columns]
    for name in must:
        if names[name] not in found:
            raise DataError(
                f"{file.stream}: column {names[name]!r} is not in {file.name}, which has "
                f"{sorted(found)}: if it has another name there, say so under "
                f"`{file.stream}.columns`, as in `{name}: its_name`"
            )


def read_batches(
    file: LogFile, settings: StreamSettings, fields: Sequence[Field], guard: Guard = OPEN
) -> Iterator[Batch]:
    """Reads a file in batches of some megabytes, with what `guard` hides hidden.

    Raises:
        DataError: a required column is missing, or the file is damaged. The
            rows of a file that ends early cannot be counted, hence not kept.
    """
    reader = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_json}
    try:
        yield from reader[file.format(settings)](file, settings, fields, guard)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise damaged(file, error) from error


def _read_parquet(
    file: LogFile, settings: StreamSettings, fields: Sequence[Field], guard: Guard
) -> Iterator[Batch]:
    source = parquet_file(file)
    found = parquet_columns(source.schema_arrow)
    missing_columns(file, settings, fields, parquet_names(source.schema_arrow))
    names = {n: own for n, own in own_names(settings, fields).items() if own in found}
    first = 0
    for batch in source.iter_batches(PARQUET_ROWS, columns=sorted(set(names.values()))):
        table = pa.Table.from_batches([batch])
        raw = {name: pick(table, own) for name, own in names.items()}

        def raw_row(row: int, batch: pa.RecordBatch = batch) -> str:
            return json.dumps(batch.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)

        yield _batch(raw, fields, settings, np.arange(batch.num_rows), {}, _Source(
            batch.num_rows, first, np.arange(first + 1, first + 1 + batch.num_rows), raw_row
        ), guard)  # fmt: skip
        first += batch.num_rows


def _read_csv(
    file: LogFile, settings: StreamSettings, fields: Sequence[Field], guard: Guard
) -> Iterator[Batch]:
    header: list[str] | None = None
    first = 0
    for block in text_blocks(file, settings):
        if header is None:
            header = csv_header(block, file, settings)
            missing_columns(file, settings, fields, header)
            block = without_first(block)
        names = {n: own for n, own in own_names(settings, fields).items() if own in header}
        wanted = sorted(set(names.values()))
        parsed = parse_csv(block, header, wanted, file.delimiter(settings))
        yield _text_batch(block, parsed, names, fields, settings, first, guard)
        first += len(block)


def _read_json(
    file: LogFile, settings: StreamSettings, fields: Sequence[Field], guard: Guard
) -> Iterator[Batch]:
    names = own_names(settings, fields)
    wanted = sorted(set(names.values()))
    lists = list_types(settings, fields)
    texts = {names[field.name] for field in fields if field.kind in TEXT_KINDS}
    types: dict[str, pa.DataType] | None = None
    first = 0
    for block in text_blocks(file, settings):
        if types is None:
            types = json_types(block, wanted, lists, texts)
        parsed = parse_json(block, types, wanted, lists)
        yield _text_batch(block, parsed, names, fields, settings, first, guard)
        first += len(block)


def text_blocks(file: LogFile, settings: StreamSettings) -> Iterator[Block]:
    """The blocks of a CSV or JSON Lines file, without a byte order mark and empty ones."""
    with open_bytes(file) as handle:
        quoted = settings.quoted_newlines and file.format(settings) == "csv"
        for number, block in enumerate(read_blocks(handle, quoted)):
            if not len(block):
                continue
            if number == 0 and block.data.startswith(BOM):
                starts = np.maximum(block.starts, len(BOM))
                some = block.ends > starts
                # Blank out rather than cut: positions stay what they are.
                data = b" " * len(BOM) + block.data[len(BOM) :]
                if some.any():
                    yield Block(data, starts[some], block.ends[some], block.lines[some])
            else:
                yield block


def csv_header(block: Block, file: LogFile, settings: StreamSettings) -> list[str]:
    """The column names on the first line of a CSV file.

    Raises:
        DataError: it cannot be read.
    """
    data = block.record(0)
    refuse_utf16(file, data)
    line = data.decode("utf-8", "replace")
    try:
        return next(csv.reader(io.StringIO(line), delimiter=file.delimiter(settings)))
    except csv.Error as error:
        why = "lines end in a lone carriage return" if "\r" in line else str(error)
        raise DataError(
            f"{file.stream}: the first line of {file.name} cannot be read as names of columns "
            f"({why}): save it as CSV whose lines end in a line feed"
        ) from error


def refuse_utf16(file: LogFile, data: bytes) -> None:
    """Raises:
    DataError: what a file begins with is the mark of UTF-16.
    """
    if data.startswith(_UTF16):
        raise DataError(
            f"{file.stream}: {file.name} is UTF-16, expected UTF-8: convert it, for example by "
            "`iconv -f UTF-16 -t UTF-8`"
        )


def without_first(block: Block) -> Block:
    """The block without its first record."""
    cut = int(block.starts[1]) if len(block) > 1 else len(block.data)
    return Block(block.data[cut:], block.starts[1:] - cut, block.ends[1:] - cut, block.lines[1:])


@dataclass(frozen=True)
class _Source:
    """Where the rows of a batch came from."""

    read: int
    first: int  # row number of the first, in the file
    lines: np.ndarray
    raw: Callable[[int], str]


def _text_batch(
    block: Block, parsed: Parsed, names: dict[str, str], fields: Sequence[Field],
    settings: StreamSettings, first: int, guard: Guard,
) -> Batch:  # fmt: skip
    raw = {name: parsed.columns[own] for name, own in names.items()}

    def raw_row(row: int) -> str:
        return block.record(row).decode("utf-8", "backslashreplace")

    source = _Source(len(block), first, block.lines, raw_row)
    return _batch(raw, fields, settings, parsed.rows, parsed.malformed, source, guard)


def _batch(
    raw: dict[str, pa.Array], fields: Sequence[Field], settings: StreamSettings,
    rows: np.ndarray, malformed: dict[int, str], source: _Source, guard: Guard,
) -> Batch:  # fmt: skip
    columns, faults = canonical_columns(raw, fields, settings.timestamp_unit, len(rows))
    found = faults.reasons()
    reasons = malformed | {int(rows[row]): why for row, why in found.items()}
    kept: Callable[[int], str] = source.raw
    if guard.on:
        hidden = {
            int(rows[row]): guard.row({name: raw[name][row].as_py() for name in raw}, fields)
            for row in found
        }

        def kept(row: int) -> str:
            return hidden[row] if row in hidden else guard.line(len(source.raw(row)))

    rejected = [
        Rejected(int(source.lines[row]), why, kept(row)) for row, why in sorted(reasons.items())
    ]
    good = faults.good
    if not good.all():
        keep = pa.array(good)
        columns = {name: array.filter(keep) for name, array in columns.items()}
    columns = guard.columns(columns) if guard.on else columns
    return Batch(columns, source.first + rows[good], rejected, source.read)


def damaged(file: LogFile, error: BaseException) -> DataError:
    """What to say of a file that cannot be read to its end."""
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(
        f"{file.stream}: {file.name} cannot be read to its end ({why}): "
        "restore the file or take it out of the folder"
    )
