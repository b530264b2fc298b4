"""Hides people in what is read: in the columns that go on, and in the rows that do not."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from heft import features
from heft.logs.fields import LIST_KINDS, Field, Kind
from heft.logs.privacy import (
    REDACTIONS,
    PrivacySettings,
    need_key,
    pseudonym,
    pseudonyms,
    redact,
    redacted,
)

__all__ = ["OPEN", "Guard", "person_columns", "plain"]

_WITHHELD = "<withheld>"
# What a number, a time or a flag may look like without being shown to be something else.
_PLAIN = re.compile(r"[\d.,:TZ+\-eE \[\]]{0,60}|true|false|yes|no|nan|[+-]?inf(inity)?|null", re.I)
_NUMBERS = (Kind.POSITION, Kind.TIME, Kind.FLAG, Kind.NUMBER, Kind.PROPENSITY, Kind.GRADE)


def person_columns(settings: PrivacySettings, provided: Sequence[str]) -> tuple[str, ...]:
    """Which columns of a log name persons: `user_id`, and those the config marks."""
    return tuple(name for name in (features.USER_ID, *settings.pii) if name in provided)


@dataclass(frozen=True)
class Guard:
    """Stands between what is read and what is kept.

    Attributes:
        persons: columns that leave as keyed hashes.
        redact: what is taken out of queries.
        key: the secret; not shown.
    """

    persons: tuple[str, ...] = ()
    redact: tuple[str, ...] = ()
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, settings: PrivacySettings, persons: tuple[str, ...]) -> "Guard":
        """The guard of a log that has these columns of persons.

        Raises:
            ConfigError: it needs a key, and there is none.
        """
        return cls(persons, settings.redact, need_key(settings, persons) if persons else b"")

    @property
    def on(self) -> bool:
        """Whether there is something to hide, so that no line is kept as it was."""
        return bool(self.persons or self.redact)

    def columns(self, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """Good rows as they may go on."""
        kept = dict(columns)
        for name in self.persons:
            if name in kept:
                kept[name] = pseudonyms(kept[name], self.key)
        if features.QUERY in kept:
            kept[features.QUERY] = redacted(kept[features.QUERY], self.redact)
        return kept

    def row(self, values: Mapping[str, object], fields: Sequence[Field]) -> str:
        """A rejected row as JSON: the columns that Heft reads, with nobody to be told by them."""
        shown = {f.name: self._shown(values[f.name], f) for f in fields if f.name in values}
        return json.dumps(shown, ensure_ascii=False)

    def line(self, length: int) -> str:
        """A line that could not be told apart into columns."""
        return f"<withheld: {length} bytes>"

    def _shown(self, value: object, column: Field) -> object:
        if value is None or isinstance(value, bool | int | float):
            return _WITHHELD if value is not None and column.name in self.persons else value
        if column.name in self.persons:
            data = value if isinstance(value, bytes) else str(value).encode()
            return pseudonym(data, self.key)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        text = str(value)
        if column.kind in _NUMBERS and not plain(text):
            return f"<{len(text)} characters>"
        if column.kind in LIST_KINDS:
            return f"<{len(text)} characters>"
        return redact(text, REDACTIONS) if column.kind in (Kind.TEXT, Kind.WORDS) else text


def plain(text: str) -> bool:
    """Whether a value looks like a number, a time or a flag, and so is not a person's."""
    return _PLAIN.fullmatch(text) is not None


OPEN = Guard()
