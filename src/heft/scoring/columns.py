"""Which columns a file of candidates has."""

import pyarrow as pa

from heft.logs.files import LogFile
from heft.logs.json_lines import json_columns
from heft.logs.parquet_files import parquet_columns, parquet_file
from heft.logs.reading import (
    csv_header,
    damaged,
    own_names,
    text_blocks,
)
from heft.scoring.settings import ScoreSettings

__all__ = ["columns_of"]


def columns_of(file: LogFile, settings: ScoreSettings) -> set[str]:
    """By Heft's names; of JSON those of its first rows.

    Raises:
        DataError: the file is damaged, or of no known format.
    """
    try:
        found = _found(file, settings)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise damaged(file, error) from error
    names = own_names(settings.stream, settings.fields)
    return {name for name, its in names.items() if its in found}


def _found(file: LogFile, settings: ScoreSettings) -> set[str]:
    kind = file.format(settings.stream)
    if kind == "parquet":
        return set(parquet_columns(parquet_file(file).schema_arrow))
    block = next(text_blocks(file, settings.stream), None)
    if block is None:
        return set()
    return set(csv_header(block, file, settings.stream) if kind == "csv" else json_columns(block))
