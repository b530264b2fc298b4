"""JSON Lines in blocks of whole lines, parsed by Arrow where it can, else line by line."""

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.json

from heft.logs.lines import Block, Parsed, pick

__all__ = ["json_columns", "json_types", "parse_json"]

TYPE_ROWS = 100  # records that tell the types of a file


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


def _either(table: pa.Table, name: str) -> pa.Array:
    """A column of JSON by its whole name, or nested where that is null."""
    whole = pick(table, name)
    if "." not in name or not whole.null_count:
        return whole
    nested = pick(table.drop_columns([name]), name)
    return nested if whole.null_count == len(whole) else pa.compute.coalesce(whole, nested)
