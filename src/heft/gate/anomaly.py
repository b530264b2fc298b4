"""What the gate objects to, one row of its table."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from heft.logs.privacy import REDACTIONS, redact

__all__ = ["ALL", "HIDDEN", "Anomaly", "said", "shown"]

ALL = "all"  # in place of a split, where an anomaly is of the whole span
HIDDEN = "(not shown: a column of persons)"
_LONGEST = 60


@dataclass(frozen=True)
class Anomaly:
    """One way in which a span differs from what was expected.

    Attributes:
        split: of the examples, or `ALL`.
        feature: column, or what was counted.
        kind: of the anomaly, in two or three words.
        expected, came: in words.
        rows: how many it is about; None where rows cannot be counted.
        examples: a few values, redacted.
    """

    split: str
    feature: str
    kind: str
    expected: str
    came: str
    rows: int | None = None
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.split}: {self.feature}: {self.kind}: expected {self.expected}; {self.came}"
        return text if self.rows is None else f"{text}; {self.rows:,} rows"


def shown(value: object) -> str:
    """A value as it may be shown: without addresses and numbers of people, on one line, short."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = redact(text, REDACTIONS)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def said(name: str, values: Iterable[object], pii: Collection[str]) -> tuple[str, ...]:
    """Values of a column as they may be shown; none of a column of persons."""
    found = tuple(shown(value) for value in values)
    return (HIDDEN,) if found and name in pii else found
