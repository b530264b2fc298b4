"""Which columns each stream has, and what a good value of each is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from heft import features

__all__ = [
    "CLICKS", "CONVERSIONS", "GRADES", "IMPRESSIONS", "STREAMS", "Field", "Kind", "stream_fields",
]  # fmt: skip

IMPRESSIONS, CLICKS, CONVERSIONS = "impressions", "clicks", "conversions"
CATALOGUE, GRADES = "catalogue", "grades"
STREAMS = (IMPRESSIONS, CLICKS, CONVERSIONS, CATALOGUE, GRADES)

VALUE = "value"


class Kind(StrEnum):
    """What a value must look like."""

    ID = "id"  # text that may not be empty; a whole number has one form
    WORDS = "words"  # text that may not be empty
    TEXT = "text"
    POSITION = "position"  # whole, from 1
    TIME = "time"
    FLAG = "flag"
    NUMBER = "number"
    PROPENSITY = "propensity"  # in (0, 1]
    GRADE = "grade"  # from 0
    VECTOR = "vector"  # a list of finite numbers
    TEXTS = "texts"  # a list of texts


# Kinds whose values may not be missing in a row.
NEVER_MISSING = (Kind.ID, Kind.WORDS, Kind.POSITION, Kind.TIME, Kind.GRADE)
TEXT_KINDS = (Kind.ID, Kind.WORDS, Kind.TEXT)
LIST_KINDS = (Kind.VECTOR, Kind.TEXTS)
NUMERIC_KINDS = (Kind.POSITION, Kind.NUMBER, Kind.PROPENSITY, Kind.GRADE)


@dataclass(frozen=True)
class Field:
    """One column of a stream; `required` columns must exist in every file. `width` is that of
    a vector, or the most texts of a list."""

    name: str
    kind: Kind
    required: bool = True
    width: int = 0


_ITEM = (
    Field(features.TITLE, Kind.TEXT, required=False),
    Field(features.CATEGORY, Kind.TEXT, required=False),
    Field(features.BRAND, Kind.TEXT, required=False),
    Field(features.PRICE, Kind.NUMBER, required=False),
)

_FIELDS: dict[str, tuple[Field, ...]] = {
    IMPRESSIONS: (
        Field(features.IMPRESSION_ID, Kind.ID),
        Field(features.REQUEST_ID, Kind.ID),
        Field(features.USER_ID, Kind.TEXT, required=False),
        Field(features.ITEM_ID, Kind.ID),
        Field(features.QUERY, Kind.TEXT),
        Field(features.POSITION, Kind.POSITION),
        Field(features.TIMESTAMP, Kind.TIME),
        Field(features.RANDOMISED, Kind.FLAG, required=False),
        Field(features.PROPENSITY, Kind.PROPENSITY, required=False),
        *_ITEM,
    ),
    CLICKS: (
        Field(features.IMPRESSION_ID, Kind.ID),
        Field(features.TIMESTAMP, Kind.TIME),
    ),
    CONVERSIONS: (
        Field(features.IMPRESSION_ID, Kind.ID),
        Field(features.TIMESTAMP, Kind.TIME),
        Field(VALUE, Kind.NUMBER, required=False),
    ),
    CATALOGUE: (
        Field(features.ITEM_ID, Kind.ID),
        Field(features.TITLE, Kind.TEXT),
        *_ITEM[1:],
    ),
    GRADES: (
        Field(features.QUERY, Kind.WORDS),
        Field(features.ITEM_ID, Kind.ID),
        Field(features.GRADE, Kind.GRADE),
    ),
}


def stream_fields(
    stream: str,
    categorical: tuple[str, ...],
    numeric: tuple[str, ...],
    vectors: Mapping[str, int] = MappingProxyType({}),
    history: int = 0,
    flags: tuple[str, ...] = (),
) -> tuple[Field, ...]:
    """The columns of a stream; the configured extra ones may lie with the
    impressions (context) or in the catalogue (item), a `history` and `flags` of what
    happened with the impressions."""
    fields = _FIELDS[stream]
    if stream not in (IMPRESSIONS, CATALOGUE):
        return fields
    known = {field.name for field in fields}
    extra = [Field(name, Kind.TEXT, required=False) for name in categorical]
    extra += [Field(name, Kind.NUMBER, required=False) for name in numeric]
    extra += [Field(name, Kind.VECTOR, False, width) for name, width in vectors.items()]
    if stream == IMPRESSIONS:
        extra += [Field(name, Kind.FLAG) for name in flags]
        if features.CONVERSION in flags:
            extra.append(Field(features.CONVERSION_VALUE, Kind.NUMBER, required=False))
    if history and stream == IMPRESSIONS:
        extra.append(Field(features.HISTORY, Kind.TEXTS, False, history))
    return fields + tuple(field for field in extra if field.name not in known)
