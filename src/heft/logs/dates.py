"""Days and times as a config names them."""

import datetime
from typing import Any

__all__ = ["as_end", "as_span", "end_time"]


def as_span(value: Any) -> Any:
    """A date, as YAML or text has it, as the number 20260301."""
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value)
        except ValueError:
            return int(value) if value.isdecimal() else value
    if isinstance(value, datetime.date):
        return value.year * 10_000 + value.month * 100 + value.day
    return value


def as_end(value: Any) -> Any:
    """A date or a time, as YAML or text has it, as ISO 8601 text."""
    return value.isoformat() if isinstance(value, datetime.date) else value


def end_time(text: str) -> datetime.datetime:
    """The time that `end` names; of a day, its last millisecond, UTC.

    Raises:
        ValueError: it is none.
    """
    try:
        if len(text) == len("2026-03-01"):
            day = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
            return day + datetime.timedelta(days=1, milliseconds=-1)
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time
    except ValueError:
        pass
    raise ValueError(
        f"end={text!r} is no time: expected a day such as 2026-03-01, which counts to its last "
        "moment in UTC, or a time with its zone such as 2026-03-01T12:00:00Z"
    )
