"""CSV and JSON Lines, in blocks of whole lines, parsed by Arrow where it can.

Arrow parses a block in one go. Where it stumbles, or counts other rows than
there are lines, the same block is parsed line by line in Python, so that one
bad line costs that line and its number is known.
"""

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.json

__all__ = [
    "Block",
    "Parsed",
    "json_columns",
    "json_types",
    "parse_csv",
    "parse_json",
    "pick",
    "read_blocks",
]

BLOCK_BYTES = 8 << 20
# Past this, an open quote is taken for a stray one and lines end at newlines.
RECORD_BYTES = 64 << 20
TYPE_ROWS = 100  # records that tell the types of a file of JSON Lines
_NEWLINE, _QUOTE = 0x0A, 0x22

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Block:
    """Whole records; record `i` is `data[starts[i]:ends[i]]` on line `lines[i]` (from 1)."""

    data: bytes
    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, row: int) -> bytes:
        """One record without its line end."""
        return self.data[self.starts[row] : self.ends[row]]


@dataclass(frozen=True)
class Parsed:
    """The records that parsed, as columns, and why the others did not."""

    columns: dict[str, pa.Array]
    rows: np.ndarray  # which record each row of `columns` was
    malformed: dict[int, str]  # record → reason


def read_blocks(stream: pa.NativeFile, quoted_newlines: bool) -> Iterator[Block]:
    """Cuts a stream into blocks of whole records; blank lines are passed over."""
    rest, line = b"", 1
    while data := stream.read(BLOCK_BYTES):
        whole = rest + data
        ends = _record_ends(whole, quoted_newlines)
        if not len(ends) and len(whole) > RECORD_BYTES:
            ends = _record_ends(whole, False)
        cut = int(ends[-1]) + 1 if len(ends) else 0
        if cut:
            yield _block(whole[:cut], ends, line)
            line += whole.count(b"\n", 0, cut)
        rest = whole[cut:]
    if rest:
        ends = _record_ends(rest + b"\n", quoted_newlines)
        if not len(ends):
            ends = _record_ends(rest + b"\n", False)
        yield _block(rest + b"\n", ends, line)


def _record_ends(data: bytes, quoted_newlines: bool) -> np.ndarray:
    buffer = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(buffer == _NEWLINE)
    if quoted_newlines and _QUOTE in data:
        quotes_before = np.searchsorted(np.flatnonzero(buffer == _QUOTE), newlines)
        newlines = newlines[quotes_before % 2 == 0]
    return newlines


def _block(data: bytes, ends: np.ndarray, first_line: int) -> Block:
    starts = np.concatenate([[0], ends[:-1] + 1])
    buffer = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(buffer == _NEWLINE)
    lines = first_line + np.searchsorted(newlines, starts)
    carriage = (ends > starts) & (buffer[np.maximum(ends - 1, 0)] == 0x0D)
    ends = ends - carriage
    some = ends > starts
    return Block(data, starts[some], ends[some], lines[some])


def parse_csv(block: Block, header: Sequence[str], wanted: Sequence[str], delimiter: str) -> Parsed:
    """The `wanted` columns of a block as binary arrays; an empty value is an empty string."""
    if len(block):
        try:
            table = pyarrow.csv.read_csv(
                pa.py_buffer(block.data),
                pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=len(block.data) + 1,
                    column_names=list(header),
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=delimiter,
                    newlines_in_values=True,
                ),
                pyarrow.csv.ConvertOptions(
                    include_columns=list(wanted),
                    column_types=dict.fromkeys(wanted, pa.binary()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return _csv_line_by_line(block, header, wanted, delimiter)
        if table.num_rows == len(block):
            return Parsed(_arrays(table, wanted), np.arange(len(block)), {})
    return _csv_line_by_line(block, header, wanted, delimiter)


def _csv_line_by_line(
    block: Block, header: Sequence[str], wanted: Sequence[str], delimiter: str
) -> Parsed:
    places = [header.index(name) for name in wanted]
    values: list[list[bytes]] = [[] for _ in wanted]
    rows, malformed = [], {}
    for row in range(len(block)):
        record = block.record(row)
        if record.count(b'"') % 2:
            malformed[row] = "malformed: unbalanced quote"
            continue
        text = record.decode("utf-8", "surrogateescape")
        try:
            parsed = list(csv.reader([text], delimiter=delimiter))
        except csv.Error as error:
            malformed[row] = f"malformed: {error}"
            continue
        if len(parsed) != 1 or len(parsed[0]) != len(header):
            found = sum(map(len, parsed))
            malformed[row] = f"malformed: {found} fields, expected {len(header)}"
            continue
        rows.append(row)
        for column, place in zip(values, places, strict=True):
            column.append(parsed[0][place].encode("utf-8", "surrogateescape"))
    columns = {
        name: pa.array(column, pa.binary()) for name, column in zip(wanted, values, strict=True)
    }
    return Parsed(columns, np.array(rows, np.int64), malformed)


def json_types(
    block: Block,
    wanted: Sequence[str],
    lists: Mapping[str, pa.DataType],
    texts: Collection[str] = (),
) -> dict[str, pa.DataType]:
    """The Arrow type each wanted (dotted) column shows in the first records.

    One that nobody has seen counts as text, one of several kinds is left out; `lists` has types.
    So is one of `texts` that has fractions: as float64 its large whole numbers would be rounded.
    """
    kinds: dict[str, set[type]] = {name: set() for name in wanted}
    for row in range(min(TYPE_ROWS, len(block))):
        try:
            record = json.loads(block.record(row))
        except (ValueError, RecursionError):
            continue
        for name in wanted:
            value = _reach(record, name)
            if value is not None:
                kinds[name].add(type(value))
    types = {
        frozenset(): pa.string(), frozenset({str}): pa.string(),
        frozenset({bool}): pa.bool_(), frozenset({int}): pa.int64(),
        frozenset({float}): pa.float64(), frozenset({int, float}): pa.float64(),
    }  # fmt: skip
    found = {
        name: types[frozenset(seen)] for name, seen in kinds.items()
        if frozenset(seen) in types and not (name in texts and float in seen)
    }  # fmt: skip
    return found | {n: kind for n, kind in lists.items() if kinds[n] <= {list}}


def json_columns(block: Block) -> set[str]:
    """Every name a config may use for a value of these records, nested ones dotted."""
    found: set[str] = set()
    for row in range(len(block)):
        try:
            found |= _names(json.loads(block.record(row)))
        except (ValueError, RecursionError):
            continue
    return found


def _names(record: object) -> set[str]:
    if not isinstance(record, dict):
        return set()
    inner = {f"{name}.{tail}" for name, value in record.items() for tail in _names(value)}
    return set(record) | inner


def parse_json(
    block: Block, types: dict[str, pa.DataType], wanted: Sequence[str], lists: Collection[str] = ()
) -> Parsed:
    """The `wanted` columns of a block, lists only in `lists`; a column that is absent is null.

    `types` is what `json_types` saw. Arrow does not cast JSON: it is asked
    only if each wanted column is of one kind.
    """
    if len(types) == len(wanted) and len(block):
        try:
            table = pyarrow.json.read_json(
                pa.BufferReader(block.data),
                pyarrow.json.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
                pyarrow.json.ParseOptions(
                    explicit_schema=_schema(types),
                    unexpected_field_behavior="ignore",
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return _json_line_by_line(block, wanted, lists)
        if table.num_rows == len(block):
            columns = {name: _either(table, name) for name in wanted}
            return Parsed(columns, np.arange(len(block)), {})
    return _json_line_by_line(block, wanted, lists)


def _schema(types: dict[str, pa.DataType]) -> pa.Schema:
    """Every column by its whole name, and a dotted one nested as well: logs have either."""
    dotted = {name: kind for name, kind in types.items() if "." in name}
    return pa.schema([*types.items(), *_nested_schema(dotted)])


def _nested_schema(types: dict[str, pa.DataType]) -> pa.Schema:
    flat = [(name, kind) for name, kind in types.items() if "." not in name]
    nested: dict[str, dict[str, pa.DataType]] = {}
    for name, kind in types.items():
        if "." in name:
            head, tail = name.split(".", 1)
            nested.setdefault(head, {})[tail] = kind
    return pa.schema(flat + [(h, pa.struct(list(_nested_schema(t)))) for h, t in nested.items()])


def _json_line_by_line(block: Block, wanted: Sequence[str], lists: Collection[str]) -> Parsed:
    values: list[list[bytes | None]] = [[] for _ in wanted]
    rows, malformed = [], {}
    for row in range(len(block)):
        try:
            record = json.loads(block.record(row).decode("utf-8", "surrogateescape"))
            if not isinstance(record, dict):
                malformed[row] = f"malformed: {type(record).__name__}, expected an object"
                continue
            scalars = [_scalar(_reach(record, name), name, name in lists) for name in wanted]
        except (ValueError, RecursionError) as error:
            malformed[row] = f"malformed: {str(error).split(':', 1)[0]}"
            continue
        rows.append(row)
        for column, value in zip(values, scalars, strict=True):
            column.append(value)
    columns = {
        name: pa.array(column, pa.binary()) for name, column in zip(wanted, values, strict=True)
    }
    return Parsed(columns, np.array(rows, np.int64), malformed)


def _reach(record: object, name: str) -> object:
    """The value of a dotted name, of the whole or else nested; None if it is not there."""
    if isinstance(record, dict) and record.get(name) is not None:
        return record[name]
    for part in name.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(part)
    return record


def _scalar(value: object, name: str, is_list: bool) -> bytes | None:
    if value is None:
        return None
    if is_list and not isinstance(value, str):
        return json.dumps(value).encode()
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a surrogate pair; judged as invalid UTF-8 later
            return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        whole = isinstance(value, float) and value.is_integer()
        return repr(int(value) if whole else value).encode()
    raise ValueError(f"{name} is a {type(value).__name__}")


def _arrays(table: pa.Table, wanted: Sequence[str]) -> dict[str, pa.Array]:
    return {name: pick(table, name) for name in wanted}


def _either(table: pa.Table, name: str) -> pa.Array:
    """A column of JSON by its whole name, or nested where that is null."""
    whole = pick(table, name)
    if "." not in name or not whole.null_count:
        return whole
    nested = pick(table.drop_columns([name]), name)
    return nested if whole.null_count == len(whole) else pa.compute.coalesce(whole, nested)


def pick(table: pa.Table, name: str) -> pa.Array:
    """A column by its own or its dotted name, as one array."""
    head, *path = [name] if name in table.column_names else name.split(".")
    column = table.column(head)
    for part in path:
        column = pa.compute.struct_field(column, part)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
