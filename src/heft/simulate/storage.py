"""Tables to files, and a folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from heft.errors import DataError

__all__ = ["MARKER", "whole_folder", "write_table"]

MARKER = "simulation.json"


def write_table(table: pa.Table, folder: Path, kind: str) -> None:
    """Writes `folder/part-00000.<kind>`; kind is parquet, jsonl or csv."""
    folder.mkdir(parents=True, exist_ok=True)
    _WRITERS[kind](table, folder / f"part-00000.{kind}")


def _write_parquet(table: pa.Table, path: Path) -> None:
    pa.parquet.write_table(table, path, row_group_size=65_536)


def _write_csv(table: pa.Table, path: Path) -> None:
    pa.csv.write_csv(table, path)


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches(max_chunksize=65_536):
            batch.to_pandas().to_json(file, orient="records", lines=True, force_ascii=False)


_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that becomes `out` at the end, unless an error came first.

    An earlier simulation at `out` is replaced; anything else there is kept.

    Raises:
        DataError: `out` holds something that is not a simulation, or cannot be made.
    """
    if out.exists() and not _replaceable(out):
        raise DataError(
            f"{out} holds something other than a simulation (no {MARKER}): nothing was written; "
            "name a new or empty folder"
        )
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}): name a folder that may be made"
        ) from error
    try:
        yield partial
        _swap(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, out: Path) -> None:
    earlier = out.with_name(f".{out.name}.earlier-{os.getpid()}")
    if out.exists():
        out.rename(earlier)
    partial.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)


def _replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))
