"""Whether the columns of a log hold what they must, judged by types and first rows."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from heft.errors import DataError
from heft.logs.canonical import canonical_columns, is_text
from heft.logs.fields import LIST_KINDS, NUMERIC_KINDS, Field, Kind
from heft.logs.files import LogFile
from heft.logs.guarding import plain
from heft.logs.lists import is_list
from heft.logs.reading import own_names
from heft.logs.settings import StreamSettings

__all__ = ["check_samples", "check_types"]


def check_types(
    file: LogFile, settings: StreamSettings, fields: Sequence[Field],
    types: Mapping[str, pa.DataType],
) -> None:  # fmt: skip
    """Refuses a file whose columns have a type that cannot be what they must hold.

    Args:
        file: for messages.
        settings, fields: of its stream.
        types: by the log's own names; of those alone that the file states.

    Raises:
        DataError: a column is of another type.
    """
    names = own_names(settings, fields)
    for field in fields:
        kind = types.get(names[field.name])
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
        return None if pa.types.is_timestamp(kind) else _expected_time(kind, unit)
    if field.kind in NUMERIC_KINDS:
        return None if number else "a number: cast it in the export"
    if number or text or pa.types.is_boolean(kind):
        return None
    if field.kind is Kind.FLAG:
        return "true or false"
    return "text: name a nested column as `outer.inner` under `columns`"


def _expected_time(kind: pa.DataType, unit: str) -> str | None:
    number, text = _is_number(kind), is_text(kind)
    if pa.types.is_date(kind):
        return "a time and not a day: export a timestamp with its time of day"
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


def check_samples(
    files: Sequence[LogFile], settings: StreamSettings, fields: Sequence[Field],
    samples: Sequence[Mapping[str, pa.Array]], hide: bool,
) -> None:  # fmt: skip
    """Refuses a column none of whose first values can be used: it is another one than it should be.

    Args:
        files: of a stream.
        settings, fields: of it.
        samples: of each file, by Heft's names.
        hide: the log has people in it, whom no message may show.

    Raises:
        DataError: there is such a column.
    """
    for field in fields:
        problem: DataError | None = None
        for file, sample in zip(files, samples, strict=True):
            array = sample.get(field.name)
            if array is None or not len(array):
                continue
            _, faults = canonical_columns(
                {field.name: array}, [field], settings.timestamp_unit, len(array)
            )
            if faults.good.any():
                break
            reason = faults.reasons()[0].split(": ", 1)[1]
            problem = problem or _unusable(file, settings, field, array, reason, hide)
        else:
            if problem is not None:
                raise problem


def _unusable(
    file: LogFile, settings: StreamSettings, field: Field, array: pa.Array, reason: str, hide: bool
) -> DataError:
    first = array[0].as_py() or ""
    shown = first.decode("utf-8", "backslashreplace") if isinstance(first, bytes) else str(first)
    shown = (
        repr(shown[:60]) if not hide or plain(shown[:60]) else f"text of {len(shown)} characters"
    )
    own = settings.columns.get(field.name, field.name)
    check = "`timestamp_unit`"
    if field.kind is Kind.VECTOR:
        check = f"`vectors`, which says {field.name}: {field.width}"
    return DataError(
        f"{file.stream}: column {own!r} of {file.name} cannot be read as {field.name}: "
        f"none of the first {len(array)} rows has a good value ({reason}; the first is "
        f"{shown}): check `{file.stream}.columns` and {check}"
    )
