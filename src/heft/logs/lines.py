"""Blocks of whole lines, and CSV in them, parsed by Arrow where it can.

Arrow parses a block in one go. Where it stumbles, or counts other rows than
there are lines, the same block is parsed line by line in Python, so that one
bad line costs that line and its number is known.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

__all__ = [
    "Block",
    "Parsed",
    "parse_csv",
    "pick",
    "read_blocks",
]

BLOCK_BYTES = 8 << 20
# Past this, an open quote is taken for a stray one and lines end at newlines.
RECORD_BYTES = 64 << 20
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


def _arrays(table: pa.Table, wanted: Sequence[str]) -> dict[str, pa.Array]:
    return {name: pick(table, name) for name in wanted}


def pick(table: pa.Table, name: str) -> pa.Array:
    """A column by its own or its dotted name, as one array."""
    head, *path = [name] if name in table.column_names else name.split(".")
    column = table.column(head)
    for part in path:
        column = pa.compute.struct_field(column, part)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
