"""A word to a webhook when a run ends in a way that somebody is to know of."""

import json
import random
import threading
import time
from typing import Any, Literal
from urllib.parse import urlsplit

import urllib3
from pydantic import Field, SecretStr

from heft.settings import Settings

__all__ = ["EVENTS", "NotifySettings", "payload", "send"]

EVENTS = ("failure", "gate", "not_blessed", "pushed")
_TITLES = {
    "failure": "failed",
    "gate": "was stopped by a gate",
    "not_blessed": "ended, and its model was held back",
    "pushed": "pushed a model",
}
_NAMELESS = "the webhook"
_NO_ADDRESS = "its address is none: expected one that begins with https:// or http://"
_WORTH_ANOTHER_TRY = (408, 425, 429)  # and all from 500


class NotifySettings(Settings):
    """Whom to tell, and of what.

    Attributes:
        url_variable: environment variable that holds the webhook's address.
        url: the address itself; it wins. Addresses of webhooks are secrets: better in the
            variable. It is never printed.
        events: `failure` (exit codes 1, 2, 4 and 5), `gate` (3), `not_blessed`: the run ended and
            its model was not pushed; `pushed`.
        timeout_seconds: of one try.
        retries: further tries when nobody answers, or the answer is 408, 425, 429 or from 500 on.
        backoff_seconds: before the first of them; each waits twice as long as the one before.
    """

    url_variable: str = "HEFT_WEBHOOK"
    url: SecretStr | None = None
    events: tuple[Literal["failure", "gate", "not_blessed", "pushed"], ...] = (
        "failure", "gate", "not_blessed",
    )  # fmt: skip
    timeout_seconds: float = Field(5.0, gt=0, le=60)
    retries: int = Field(2, ge=0, le=10)
    backoff_seconds: float = Field(1.0, ge=0, le=60)


def payload(event: str, run: str, message: str, **facts: Any) -> dict[str, Any]:
    """What is sent: `text`, which chats show, and the same for programs.

    Args:
        event: one of `EVENTS`.
        run: its name.
        message: why, in a sentence or more.
        facts: further fields; those that are None are left out.
    """
    found = {name: value for name, value in facts.items() if value is not None}
    text = f"heft: {run} {_TITLES[event]}" + (f": {message}" if message else "")
    return {"text": text, "event": event, "run": run, "message": message, **found}


def send(url: str, body: dict[str, Any], settings: NotifySettings) -> str | None:
    """Posts JSON to a webhook; returns what went wrong, which never holds the address, else None.

    It is over after all tries' time, whatever the other side does.
    """
    said: list[str | None] = []
    thread = threading.Thread(
        target=lambda: said.append(_try(url, body, settings)), daemon=True, name="notify"
    )
    thread.start()
    waits = sum(_wait(settings, n) for n in range(settings.retries)) * 1.25
    thread.join((settings.retries + 1) * settings.timeout_seconds + waits + 0.5)
    return said[0] if said else f"{_host(url)} did not answer in time"


def _try(url: str, body: dict[str, Any], settings: NotifySettings) -> str | None:
    host, fault = _host(url), ""
    if not url.startswith(("http://", "https://")) or host == _NAMELESS:
        return _NO_ADDRESS
    with urllib3.PoolManager() as pool:
        for attempt in range(settings.retries + 1):
            if attempt:
                # Whoever is told at once by many must not be asked by all at once.
                time.sleep(_wait(settings, attempt - 1) * random.uniform(1, 1.25))
            try:
                # No redirect: the body is for the one who was named.
                answer = pool.request(
                    "POST", url, body=json.dumps(body).encode(), retries=False, redirect=False,
                    headers={"Content-Type": "application/json"}, preload_content=False,
                    timeout=urllib3.Timeout(total=settings.timeout_seconds),
                )  # fmt: skip
            except urllib3.exceptions.LocationValueError:
                return _NO_ADDRESS
            except urllib3.exceptions.HTTPError as error:
                # Its text may hold the address, which is a secret.
                fault = f"{host} {_what(error)}"
                continue
            except Exception as error:
                return f"{host} cannot be asked ({type(error).__name__})"
            answer.close()
            if answer.status < 300:
                return None
            fault = f"{host} answered {answer.status}"
            if answer.status < 500 and answer.status not in _WORTH_ANOTHER_TRY:
                return fault
    return f"{fault}, asked {settings.retries + 1} times" if settings.retries else fault


def _what(error: urllib3.exceptions.HTTPError) -> str:
    # A refused connection and an unknown name are kinds of it, of timeouts too.
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "has no address"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "could not be connected to"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "did not answer in time"
    return f"broke off ({type(error).__name__})"


def _wait(settings: NotifySettings, attempt: int) -> float:
    return float(settings.backoff_seconds * 2**attempt)


def _host(url: str) -> str:
    """The part of an address that is no secret."""
    try:
        return urlsplit(url).hostname or _NAMELESS
    except ValueError:
        return _NAMELESS
