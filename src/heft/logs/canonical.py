"""Raw columns of a log → Heft's columns, with a reason for each row that fails.

Times become int64 milliseconds since the epoch, UTC. Text stays text, down to
its case and spaces. A row keeps the first reason found.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from heft import features
from heft.logs.fields import NEVER_MISSING, TEXT_KINDS, Field, Kind
from heft.logs.lists import text_lists, vectors

__all__ = ["LATEST_TIME", "Faults", "canonical_columns", "is_text"]

LATEST_TIME = 4_102_444_800_000  # 2100-01-01, ms
# Whole numbers as pandas and others write them once a column had a gap: 123.0, 1.5e+16. What
# only looks like a number, such as 00123 or 12e45, is none.
_POINT = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
_EXPONENT = r"^-?[1-9](\.[0-9]+)?e\+[0-9]{2}$"
_TRUE, _FALSE = ("true", "t", "yes", "1", "1.0"), ("false", "f", "no", "0", "0.0", "")


class Faults:
    """What is wrong with the rows of a batch, at most one reason a row."""

    def __init__(self, rows: int) -> None:
        self._code = np.zeros(rows, np.int16)
        self._reasons: list[str] = []

    def mark(self, mask: np.ndarray, reason: str) -> None:
        """Gives `reason` to the rows of `mask` (rows,) that have none yet."""
        fresh = mask & (self._code == 0)
        if fresh.any():
            self._reasons.append(reason)
            self._code[fresh] = len(self._reasons)

    @property
    def good(self) -> np.ndarray:
        """Boolean (rows,): rows nothing is wrong with."""
        return np.equal(self._code, 0)

    def reasons(self) -> dict[int, str]:
        """Row → reason, for the faulty rows."""
        rows = np.flatnonzero(self._code)
        return {int(row): self._reasons[self._code[row] - 1] for row in rows}


def canonical_columns(
    raw: Mapping[str, pa.Array], fields: Sequence[Field], timestamp_unit: str, rows: int
) -> tuple[dict[str, pa.Array], Faults]:
    """Converts the columns of one batch.

    Args:
        raw: by Heft's name; an optional column may be left out and is null then.
        fields: the columns of the stream.
        timestamp_unit: s, ms, us or iso; a Parquet timestamp knows its own.
        rows: rows in the batch.

    Returns:
        One array of shape (rows,) per field (string, int64, float64 or lists of
        float32 or string), where faulty rows hold anything, and the faults.
    """
    faults = Faults(rows)
    columns = {}
    for field in fields:
        array = raw.get(field.name)
        if array is None:
            array = pa.nulls(rows, pa.string())
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        columns[field.name] = _convert(array, field, timestamp_unit, faults)
    return columns, faults


def _convert(array: pa.Array, field: Field, unit: str, faults: Faults) -> pa.Array:
    if field.kind in TEXT_KINDS:
        return _text(array, field, faults)
    if field.kind is Kind.TIME:
        return _time(array, field, unit, faults)
    if field.kind is Kind.FLAG:
        return _flag(array, field, faults)
    if field.kind is Kind.VECTOR:
        return vectors(array, field.name, field.width, faults)
    if field.kind is Kind.TEXTS:
        return text_lists(array, field.name, field.width, faults)
    return _number(array, field, faults)


def _text(array: pa.Array, field: Field, faults: Faults) -> pa.Array:
    text = _as_string(array, field, faults)
    if field.kind is Kind.ID or field.name == features.USER_ID:
        text = _whole_ids(text)
    if field.kind in NEVER_MISSING:
        empty = pc.equal(pc.utf8_trim_whitespace(text), "").fill_null(True)
        faults.mark(_mask(empty), f"{field.name}: missing value")
    faults.mark(_mask(pc.match_substring(text, "\0")), f"{field.name}: NUL character")
    return text


def _whole_ids(text: pa.Array) -> pa.Array:
    """Ids that are whole numbers, without a fraction or an exponent; others as they are."""
    _, _, data = text.buffers()
    letters = data.to_pybytes() if data is not None else b""
    if b".0" in letters:  # a search of all letters at once, before one row by row
        text = pc.replace_substring_regex(text, _POINT, r"\1")
    if b"e+" not in letters:
        return text
    scientific = _mask(pc.match_substring_regex(text, _EXPONENT))
    exact = [_digits(float(value)) for value in text.filter(pa.array(scientific)).to_pylist()]
    return pc.replace_with_mask(text, pa.array(scientific), pa.array(exact, pa.string()))


def _digits(value: float) -> str:
    """A number as text: a whole one by its digits alone."""
    return str(int(value)) if value.is_integer() else repr(value)


def _as_string(array: pa.Array, field: Field, faults: Faults) -> pa.Array:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = array.cast(pa.large_binary())
    elif not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
        if pa.types.is_floating(array.type):  # Arrow would round: 1.23456789012345e+14
            values = array.cast(pa.float64()).to_pylist()
            return pa.array([None if v is None else _digits(v) for v in values], pa.string())
        return array.cast(pa.string())
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        values = array.to_pylist()
        bad = np.array([value is not None and not _is_utf8(value) for value in values])
        faults.mark(bad, f"{field.name}: invalid UTF-8")
        good = [None if b else value for b, value in zip(bad, values, strict=True)]
        return pa.array(good, pa.binary()).cast(pa.string())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _number(array: pa.Array, field: Field, faults: Faults) -> pa.Array:
    values, missing = _as_float(array, field, faults)
    if field.kind in NEVER_MISSING:
        faults.mark(missing, f"{field.name}: missing value")
    # What float32 cannot hold would leave as infinity.
    finite = np.abs(values) <= np.finfo(np.float32).max
    faults.mark(~missing & ~finite, f"{field.name}: not a finite number")
    if field.kind is Kind.POSITION:
        faults.mark(values != np.floor(values), f"{field.name}: not a whole number")
        faults.mark(values < 1, f"{field.name}: below 1")
        faults.mark(values > 2**31, f"{field.name}: above 2^31")
        whole = np.where(faults.good, values, 0).astype(np.int64)
        return pa.array(whole)
    if field.kind is Kind.PROPENSITY:
        outside = (values <= 0) | (values > 1)
        faults.mark(outside, f"{field.name}: outside (0, 1]")
    if field.kind is Kind.GRADE:
        faults.mark(values < 0, f"{field.name}: below 0")
    return pa.array(values, mask=missing)


def _as_float(array: pa.Array, field: Field, faults: Faults) -> tuple[np.ndarray, np.ndarray]:
    """Values (rows,) as float64, NaN where missing or unreadable; and what is missing."""
    if is_text(array.type):
        text = pc.utf8_trim_whitespace(_as_string(array, field, faults))
        missing = _mask(pc.equal(text, "").fill_null(True))
        text = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), text)
        try:
            values = text.cast(pa.float64())
        except pa.ArrowInvalid:
            values = pa.array(pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy(float))
            unread = _mask(pc.is_nan(values)) | ~_mask(values.is_valid())
            named = _mask(pc.equal(pc.utf8_lower(text), "nan"))
            faults.mark(unread & ~missing & ~named, f"{field.name}: not a number")
    else:
        missing = _mask(array.is_null())
        values = array.cast(pa.float64(), safe=False)
    return values.fill_null(float("nan")).to_numpy(zero_copy_only=False), missing


def _time(array: pa.Array, field: Field, unit: str, faults: Faults) -> pa.Array:
    if pa.types.is_timestamp(array.type):
        missing = _mask(array.is_null())
        # Not cast to ms, where large seconds would come round to good times again.
        ticks = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        many = {"s": 1, "ms": 1, "us": 1_000, "ns": 1_000_000}[array.type.unit]
        values = (ticks // many).astype(float) * (1_000 if array.type.unit == "s" else 1)
    elif unit == "iso":
        values, missing = _iso_time(array, field, faults)
    else:
        values, missing = _as_float(array, field, faults)
        # Decimal fractions of a second have no exact double: round, not floor.
        values = np.rint(values * 1_000) if unit == "s" else values
        values = np.floor(values / 1_000 if unit == "us" else values)
    faults.mark(missing, f"{field.name}: missing value")
    faults.mark(~np.isfinite(values), f"{field.name}: not a time")
    outside = (values < 0) | (values >= LATEST_TIME)
    faults.mark(outside, f"{field.name}: outside the years 1970 to 2099")
    return pa.array(np.where(np.isfinite(values) & ~outside, values, 0).astype(np.int64))


def _iso_time(array: pa.Array, field: Field, faults: Faults) -> tuple[np.ndarray, np.ndarray]:
    text = pc.utf8_trim_whitespace(_as_string(array, field, faults))
    missing = _mask(pc.equal(text, "").fill_null(True))
    # As databases write it: "2026-03-01 12:00:00,5+00", "… UTC".
    text = pc.replace_substring_regex(pc.utf8_upper(text), r"\s*(UTC|GMT)$", "Z")
    text = pc.replace_substring_regex(text, r"(\d),(\d)", r"\1.\2")
    zoned = _mask(pc.match_substring_regex(text, r"\d[T ]\d.*(Z|[+-]\d\d(:?\d\d)?)$"))
    faults.mark(~missing & ~zoned, f"{field.name}: no time zone")
    usable = text.to_pandas().where(pd.Series(zoned))
    parsed = pd.to_datetime(usable, utc=True, format="ISO8601", errors="coerce")
    ns = parsed.to_numpy("datetime64[ns]")
    ms = ns.astype("datetime64[ms]").astype(np.int64).astype(float)
    return np.where(np.isnat(ns), np.nan, ms), missing


def _flag(array: pa.Array, field: Field, faults: Faults) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int64()).fill_null(0)
    text = pc.utf8_lower(pc.utf8_trim_whitespace(_as_string(array, field, faults))).fill_null("")
    true = _mask(pc.is_in(text, pa.array(_TRUE)))
    false = _mask(pc.is_in(text, pa.array(_FALSE)))
    faults.mark(~true & ~false, f"{field.name}: neither true nor false")
    return pa.array(true.astype(np.int64))


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of text or bytes."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )  # fmt: skip


def _mask(array: pa.Array) -> np.ndarray:
    """A boolean Arrow array as numpy, null being False."""
    return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
