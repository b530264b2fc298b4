"""Parquet files: how one is opened, and the names of its columns."""

import pyarrow as pa
import pyarrow.parquet as pq

from heft.logs.files import LogFile, open_bytes

__all__ = ["parquet_columns", "parquet_file", "parquet_names"]


def parquet_file(file: LogFile) -> pq.ParquetFile:
    """Opens a Parquet file; one compressed as a whole is decompressed in memory."""
    if file.compression():
        with open_bytes(file) as handle:
            return pq.ParquetFile(pa.BufferReader(handle.read()))
    return pq.ParquetFile(open_bytes(file))


def parquet_columns(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Every column a config may name, nested ones dotted, with its type."""
    found: dict[str, pa.DataType] = {}
    for field in schema:
        found[field.name] = field.type
        if pa.types.is_struct(field.type):
            inner = parquet_columns(pa.schema(list(field.type)))
            found |= {f"{field.name}.{name}": kind for name, kind in inner.items()}
    return found


def parquet_names(schema: pa.Schema) -> list[str]:
    """The names of `parquet_columns`, as often as they are there."""
    own = [field.name for field in schema]
    nested = [
        f"{field.name}.{name}"
        for field in schema if pa.types.is_struct(field.type)
        for name in parquet_names(pa.schema(list(field.type)))
    ]  # fmt: skip
    # A column whose own name has the dot goes before a nested one.
    return own + [name for name in nested if name not in own]
