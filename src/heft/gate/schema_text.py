"""A schema's text, changed only where it must be: what people wrote around it stays.

Protobuf's own printer would lose comments and lay every line anew, and a change of one
feature would be one of the whole file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from heft.errors import DataError, HeftError

__all__ = ["changed_text", "parsed", "pieces", "printed"]

# What is said of every feature comes first, in this order; the rest as the message has it.
_FIRST = ("name", "type", "lifecycle_stage", "presence", "value_count", "shape")
_OPEN, _CLOSE = "{<", "}>"


@dataclass(frozen=True)
class Piece:
    """A stretch of the text.

    Attributes:
        lead: comments, blank lines and single fields before the message; the end of the file is
            a piece of nothing else.
        body: the message, whole lines.
    """

    lead: str
    body: str


def parsed(text: str, path: str = "the schema") -> schema_pb2.Schema:
    """Reads a schema.

    Raises:
        DataError: it is none.
    """
    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise DataError(f"{path} is not a schema: {error}") from error


def pieces(text: str) -> list[Piece]:
    """The text as pieces that make it again when they are put together."""
    found, start, begun, depth, place = [], 0, -1, 0, 0
    while place < len(text):
        letter = text[place]
        if letter == "#":
            place = _line_end(text, place)
            continue
        if letter in "\"'":
            place = _string_end(text, place)
            continue
        if letter in _OPEN:
            if depth == 0:
                begun = _word_start(text, place)
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
            if depth == 0:
                end = _rest_of_line(text, place + 1)
                found.append(Piece(text[start:begun], text[begun:end]))
                start = place = end
                continue
        place += 1
    if start < len(text):
        found.append(Piece(text[start:], ""))
    return found


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end + 1


def _string_end(text: str, place: int) -> int:
    quote, place = text[place], place + 1
    while place < len(text) and text[place] != quote:
        place += 2 if text[place] == "\\" else 1
    return place + 1


def _word_start(text: str, place: int) -> int:
    """Where the field's name begins that stands before an opening bracket."""
    while place > 0 and (text[place - 1].isspace() or text[place - 1] == ":"):
        place -= 1
    while place > 0 and (text[place - 1].isalnum() or text[place - 1] == "_"):
        place -= 1
    return place


def _rest_of_line(text: str, place: int) -> int:
    """Past the end of the line, if nothing but a comment follows on it."""
    end = _line_end(text, place)
    rest = text[place:end].strip()
    return end if not rest or rest.startswith("#") else place


def changed_text(
    text: str,
    features: Mapping[str, schema_pb2.Feature],
    domains: Mapping[str, schema_pb2.StringDomain] | None = None,
) -> str:
    """The text with other features, and other domains that features share.

    A feature that is there is printed anew in its place, a new one at the end, in the order
    that is given.

    Args:
        text: of a schema.
        features, domains: by name.
    """
    wanted: dict[tuple[str, str], Any] = {("feature", name): x for name, x in features.items()}
    wanted |= {("string_domain", name): x for name, x in (domains or {}).items()}
    out = []
    for piece in pieces(text):
        found = next((key for key in _keys(piece) if key in wanted), None)
        body = piece.body if found is None else printed(found[0], wanted.pop(found))
        out.append(piece.lead + body)
    new = "".join(out)
    if wanted and new and not new.endswith("\n"):
        new += "\n"
    new += "".join(printed(kind, message) for (kind, _), message in wanted.items())
    _check(text, new, features)
    return new


def _keys(piece: Piece) -> Iterator[tuple[str, str]]:
    if piece.body:
        own = parsed(piece.body)
        yield from (("feature", feature.name) for feature in own.feature)
        yield from (("string_domain", domain.name) for domain in own.string_domain)


def _check(before: str, after: str, features: Mapping[str, schema_pb2.Feature]) -> None:
    """What was not to be changed is what it was, and the rest is what it was to be."""
    was = {feature.name: feature for feature in parsed(before).feature} | dict(features)
    if {feature.name: feature for feature in parsed(after).feature} != was:
        raise HeftError("a schema cannot be written as it must be; please report this with it")


def printed(kind: str, message: Any) -> str:
    """`feature` or `string_domain` with a line for each field, and each text of a domain."""
    fields = {field.name: value for field, value in message.ListFields()}
    names = [name for name in _FIRST if name in fields]
    names += [name for name in fields if name not in _FIRST]
    lines = [line for name in names for line in _field(message, name)]
    return f"{kind} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _field(message: Any, name: str) -> list[str]:
    value = getattr(message, name)
    if isinstance(value, schema_pb2.StringDomain):
        inside = [f'name: "{_escaped(value.name)}"'] if value.name else []
        inside += [f'value: "{_escaped(text)}"' for text in value.value]
        rest = schema_pb2.StringDomain()
        rest.CopyFrom(value)
        rest.ClearField("name"), rest.ClearField("value")
        inside += text_format.MessageToString(rest).splitlines()
        return [f"{name} {{", *(f"  {line}" for line in inside), "}"]
    if name == "value":
        return [f'value: "{_escaped(text)}"' for text in value]
    # Protobuf prints the field by itself, so that enums and texts are as it wants them.
    alone = type(message)()
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if descriptor.is_repeated:
        getattr(alone, name).extend(value)
    elif descriptor.message_type is not None:
        getattr(alone, name).CopyFrom(value)
    else:
        setattr(alone, name, value)
    lines = text_format.MessageToString(alone, as_utf8=True).splitlines()
    one_line = text_format.MessageToString(alone, as_utf8=True, as_one_line=True)
    return [one_line] if len(one_line) < 96 else lines


def _escaped(text: str) -> str:
    holder = schema_pb2.StringDomain(name=text)
    return text_format.MessageToString(holder, as_utf8=True, as_one_line=True)[len('name: "') : -1]
