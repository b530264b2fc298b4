"""Which spans of a log there are, and which of them a run reads.

A path names its span by `{SPAN}`, a number, or by a date of `{YYYY}`, `{MM}` and `{DD}`, which
is the number 20260301 of 1 March 2026. What follows upon a span is the next number, or the
next day.
"""

import datetime
import glob
import re
from dataclasses import dataclass

from heft.errors import DataError

__all__ = ["SpanPattern", "shortened"]

_TOKEN = re.compile(r"\{([A-Z]+)\}")
_DIGITS = {"SPAN": r"\d+", "YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}"}
_DATE = ("YYYY", "MM", "DD")


@dataclass(frozen=True)
class SpanPattern:
    """A path with `*` and `?`, and marks of a span; `root` goes before it, letter by letter."""

    path: str
    root: str = ""

    def check(self) -> None:
        """Raises:
        ValueError: an unknown mark, or a part of a date alone.
        """
        marks = set(_TOKEN.findall(self.path))
        if unknown := sorted(marks - set(_DIGITS)):
            raise ValueError(
                f"path={self.path!r} has {{{unknown[0]}}}: expected {{SPAN}}, or {{YYYY}}, {{MM}} "
                "and {DD}; hours and the like are matched by *"
            )
        dated = marks & set(_DATE)
        if dated and ("SPAN" in marks or len(dated) < len(_DATE)):
            raise ValueError(
                f"path={self.path!r} names a span by {sorted(marks)}: expected {{SPAN}} alone, or "
                "{YYYY}, {MM} and {DD} together"
            )

    @property
    def has_span(self) -> bool:
        """Whether the path names a span at all."""
        return bool(_TOKEN.search(self.path))

    @property
    def dated(self) -> bool:
        """Whether spans are days."""
        return "{YYYY}" in self.path

    def glob(self) -> str:
        """The path with `*` for every mark; brackets stand for themselves."""
        return glob.escape(self.root) + _TOKEN.sub("*", self.path).replace("[", "[[]")

    def regex(self) -> re.Pattern[str]:
        """Matches paths; a mark that is repeated must repeat what it stands for."""
        seen: set[str] = set()

        def mark(found: re.Match[str]) -> str:
            name = found[1]
            first = name not in seen
            seen.add(name)
            return f"(?P<{name}>{_DIGITS[name]})" if first else f"(?P={name})"

        parts = _TOKEN.split(self.path)
        out = [re.escape(self.root)]
        for place, part in enumerate(parts):
            if place % 2:
                out.append(_TOKEN.sub(mark, f"{{{part}}}"))
            else:
                out.append(re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]"))
        return re.compile("".join(out))

    def span_of(self, match: re.Match[str]) -> int | None:
        """The span of a path that matched; None if it names none."""
        found = match.groupdict()
        return int(found["SPAN"] if "SPAN" in found else "".join(found[name] for name in _DATE)) \
            if found else None  # fmt: skip

    def is_span(self, span: int | None) -> bool:
        """Whether it is one: 20261399 is no day."""
        return span is None or not self.dated or _day(span) is not None

    def shown(self, span: int) -> str:
        """A span as people write it."""
        day = _day(span) if self.dated else None
        return str(span) if day is None else day.isoformat()

    def window(self, last: int, count: int) -> tuple[int, ...]:
        """The `count` spans up to `last`, ascending.

        Raises:
            DataError: `last` is no day where spans are days.
        """
        if not self.dated:
            return tuple(range(last - count + 1, last + 1))
        day = _day(last)
        if day is None:
            raise DataError(
                f"span={last} is no day, and the path {self.path!r} names days: expected a date "
                "such as 2026-03-01"
            )
        days = (day - datetime.timedelta(days=k) for k in reversed(range(count)))
        return tuple(d.year * 10_000 + d.month * 100 + d.day for d in days)


def _day(span: int) -> datetime.date | None:
    try:
        return datetime.date(span // 10_000, span // 100 % 100, span % 100)
    except ValueError:
        return None


def shortened(values: list[str]) -> str:
    """Many values as the first and the last few."""
    return ", ".join(values if len(values) <= 8 else [*values[:3], "…", *values[-3:]])
