"""What must not leave ingest as it came: people's ids, and what they typed by mistake.

A column of persons leaves as HMAC-SHA-256 (RFC 2104) of its value under a secret key, 43
characters of URL-safe base64: who has the key can find a person's rows, nobody can find
the person. The key is read from an environment variable by the process that reads the log,
and is in no setting, artifact or message.
"""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from heft.errors import ConfigError
from heft.settings import Settings

__all__ = [
    "KEY_VARIABLE", "REDACTIONS", "PrivacySettings", "key_id_here", "need_key", "pseudonym",
    "pseudonyms", "redact", "redacted",
]  # fmt: skip

KEY_VARIABLE = "HEFT_PII_KEY"
MINIMUM_KEY = 16  # characters
REDACTIONS = ("email", "phone", "card")


class PrivacySettings(Settings):
    """What to hide.

    Attributes:
        pii: columns that leave as keyed hashes, by Heft's name; `user_id` always does.
        redact: what is taken out of queries.
        key_variable: the environment variable that holds the key.
    """

    pii: tuple[str, ...] = ()
    redact: tuple[Literal["email", "phone", "card"], ...] = ()
    key_variable: str = Field(default=KEY_VARIABLE, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")


def need_key(settings: PrivacySettings, columns: Sequence[str]) -> bytes:
    """The key, for a log that has `columns` of persons.

    Raises:
        ConfigError: there is none, or it is too short to be a secret.
    """
    key = _key(settings)
    if len(key) >= MINIMUM_KEY:
        return key.encode("utf-8", "surrogateescape")
    what = "is not set" if not key else f"has {len(key)} characters"
    raise ConfigError(
        f"{', '.join(columns)} must leave the log as keyed hashes, and the environment variable "
        f"{settings.key_variable} {what}: expected a secret of at least {MINIMUM_KEY} characters; "
        f"`export {settings.key_variable}=$(openssl rand -hex 32)` makes one. Keep it: another "
        "key makes other users"
    )


def _key(settings: PrivacySettings) -> str:
    return os.environ.get(settings.key_variable, "")


def key_id_here(settings: PrivacySettings) -> str:
    """Tells keys apart without telling anything of them, 16 hex digits; "" without one."""
    key = _key(settings).encode("utf-8", "surrogateescape")
    return hmac.digest(key, b"heft key id", "sha256").hex()[:16] if key else ""


def pseudonym(value: str | bytes, key: bytes) -> str:
    """What `value` leaves ingest as: a server that is sent such a column sends this."""
    data = value.encode() if isinstance(value, str) else value
    return base64.urlsafe_b64encode(hmac.digest(key, data, "sha256")).rstrip(b"=").decode()


def pseudonyms(values: pa.Array, key: bytes) -> pa.Array:
    """`pseudonym` of each text of a column; null and blank stay what they are."""
    return _by_distinct(values, lambda distinct: _hashed(distinct, key))


def _hashed(distinct: pa.Array, key: bytes) -> pa.Array:
    inner, outer = (hashlib.sha256(_padded(key, by)) for by in (0x36, 0x5C))
    digests = bytearray()
    for value in distinct.cast(pa.binary()).to_pylist():
        first = inner.copy()
        first.update(value)
        second = outer.copy()
        second.update(first.digest())
        digests += second.digest()
    blank = pc.equal(pc.utf8_trim_whitespace(distinct), "")
    return pc.if_else(blank, distinct, _base64(np.frombuffer(digests, np.uint8).reshape(-1, 32)))


def _padded(key: bytes, by: int) -> bytes:
    if len(key) > 64:
        key = hashlib.sha256(key).digest()
    return bytes(byte ^ by for byte in key.ljust(64, b"\0"))


_ALPHABET = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8
)


def _base64(digests: np.ndarray) -> pa.Array:
    """(rows, 32) bytes as 43 characters each."""
    rows = len(digests)
    padded = np.zeros((rows, 33), np.uint8)
    padded[:, :32] = digests
    a, b, c = (padded[:, k::3].astype(np.uint32) for k in range(3))
    word = a << 16 | b << 8 | c
    letters = np.stack([word >> shift & 63 for shift in (18, 12, 6, 0)], axis=2).reshape(rows, 44)
    text = np.ascontiguousarray(_ALPHABET[letters[:, :43]])
    offsets = np.arange(rows + 1, dtype=np.int32) * 43
    return pa.Array.from_buffers(
        pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )


def redacted(values: pa.Array, kinds: Sequence[str]) -> pa.Array:
    """`redact` of each text of a column."""
    if not kinds:
        return values
    return _by_distinct(values, lambda distinct: _redacted(distinct, kinds))


def _redacted(distinct: pa.Array, kinds: Sequence[str]) -> pa.Array:
    # An address has an @; a number of a phone or a card seven digits. Few queries have.
    suspect = pc.match_substring_regex(distinct, r"@|(\d\D{0,3}){7}")
    places = np.flatnonzero(suspect.to_numpy(zero_copy_only=False))
    if not len(places):
        return distinct
    cleaned = [redact(text, kinds) for text in distinct.take(pa.array(places)).to_pylist()]
    return pc.replace_with_mask(distinct, suspect, pa.array(cleaned, pa.string()))


def _by_distinct(values: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    encoded = values.dictionary_encode()
    return change(encoded.dictionary).take(encoded.indices)


_EMAIL = re.compile(r"[\w.+'%-]+@[\w-]+(?:\.[\w-]+)+")
# Digits in groups, as cards have them; the Luhn sum tells a card from an article number.
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,}(?![\d-]|\.\d)")
# With a + or 00, or a leading 0, or an area code in brackets, or three groups apart: a bare
# run of digits may be an article number.
_PHONE = re.compile(
    r"(?<![\w.-])(?:"
    r"(?:\+|00)\d{1,3}[ ./-]?(?:\(0?\d{1,5}\)|\d{1,5})(?:[ ./-]?\d{2,8}){1,5}"
    r"|\(0?\d{2,5}\)[ ./-]?\d{2,8}(?:[ ./-]?\d{2,8}){0,4}"
    r"|0\d{1,5}(?:[ ./-]?\d{2,8}){1,5}"
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}"
    r")(?![\w-]|\.\d)"
)


def redact(text: str, kinds: Sequence[str]) -> str:
    """`text` with `<email>`, `<card>` and `<phone>` in place of what was there.

    Card numbers have 13 to 19 digits, in groups or not, and a right check digit (ISO/IEC
    7812, Luhn). Phone numbers have 7 to 15 digits and look like one: a country code, a
    leading zero, an area code in brackets, or groups of 3, 3 and 4.
    """
    if "email" in kinds:
        text = _EMAIL.sub("<email>", text)
    if "card" in kinds:
        text = _CARD.sub(lambda found: _without_cards(found[0]), text)
    if "phone" in kinds:
        text = _PHONE.sub(lambda found: "<phone>" if _is_phone(found[0]) else found[0], text)
    return text


def _without_cards(text: str) -> str:
    """Groups of digits without those that are a card together: a size may stand before one."""
    groups = re.split(r"(?<=\d)(?=[ -])", text)  # each with its separator before it
    kept, first = [], 0
    while first < len(groups):
        last = _end_of_card(groups, first)
        # What parted the card from the group before stays.
        kept.append(groups[first][: -len(groups[first].lstrip(" -"))] + "<card>" if last
                    else groups[first])  # fmt: skip
        first = last or first + 1
    return "".join(kept)


def _end_of_card(groups: Sequence[str], first: int) -> int:
    """Where the longest card ends that begins with a group; 0 if there is none."""
    end, digits = 0, ""
    for last in range(first, len(groups)):
        digits += groups[last].lstrip(" -")
        if len(digits) > 19:
            break
        if len(digits) >= 13 and _luhn(digits):
            end = last + 1
    return end


def _is_phone(text: str) -> bool:
    return 7 <= sum(character.isdigit() for character in text) <= 15


def _luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
