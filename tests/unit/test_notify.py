"""A webhook that answers, refuses, hangs, or is not there; and an address that stays secret."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from heft.errors import GateError
from heft.exit_codes import ExitCode
from heft.notify import NotifySettings, payload, send
from pipeline.config import load
from pipeline.run_notify import notified
from tests.unit.commands import Heft, config_in
from tests.unit.logs.logbook import put_shop, shop

SECRET = "T000/B000/the-token"
FAST = NotifySettings(timeout_seconds=0.3, retries=2, backoff_seconds=0.01)


class Hook:
    """A webhook that answers what it is told to, one after the other; the last for ever."""

    def __init__(self, *answers: int | str) -> None:
        self.got: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.over = threading.Event()
        hook, left = self, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.times.append(time.monotonic())
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(json.loads(body))
                assert self.path == f"/services/{SECRET}"
                answer = left.pop(0) if len(left) > 1 else left[0]
                if answer == "hang":
                    hook.over.wait(20)
                elif answer == "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not hook.over.wait(0.05):
                        self.wfile.write(b"X-Slow: 1\r\n")
                elif answer == "cut":
                    self.connection.close()
                elif answer == "redirect":
                    self.send_response(307)
                    self.send_header("Location", "/elsewhere")
                    self.end_headers()
                else:
                    self.send_response(int(answer))
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                with suppress(OSError):  # the other side has gone, as it may
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/services/{SECRET}"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hooks() -> Iterator[list[Hook]]:
    made: list[Hook] = []
    yield made
    for hook in made:
        hook.close()


@pytest.mark.parametrize(
    ("answers", "asked", "said"),
    [
        ((200,), 1, None),
        ((500, 429, 204), 3, None),
        ((500,), 3, "127.0.0.1 answered 500, asked 3 times"),
        ((404,), 1, "127.0.0.1 answered 404"),
        (("redirect",), 1, "127.0.0.1 answered 307"),
        (("hang",), 3, "127.0.0.1 did not answer in time, asked 3 times"),
        (("cut", 200), 2, None),
        (("cut",), 3, "127.0.0.1 broke off"),
    ],
)
def test_a_webhook_is_asked_until_it_answers(
    hooks: list[Hook], answers: tuple[Any, ...], asked: int, said: str | None
) -> None:
    hooks.append(hook := Hook(*answers))
    body = payload("failure", "shop", "Transform failed", node="Transform", model=None)
    fault = send(hook.url, body, FAST)
    assert len(hook.got) == asked
    assert hook.got[-1] == {
        "text": "heft: shop failed: Transform failed", "event": "failure", "run": "shop",
        "message": "Transform failed", "node": "Transform",
    }  # fmt: skip
    assert fault == said if said is None else str(fault).startswith(said)
    assert SECRET not in str(fault)


def test_tries_wait_longer_and_longer(hooks: list[Hook]) -> None:
    hooks.append(hook := Hook(503))
    send(hook.url, {}, NotifySettings(retries=3, backoff_seconds=0.05))
    waits = [after - before for before, after in zip(hook.times, hook.times[1:], strict=False)]
    for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True):
        assert least <= wait < 1.25 * least + 0.5


def test_one_who_answers_without_end_is_left(hooks: list[Hook]) -> None:
    hooks.append(hook := Hook("drip"))
    began = time.monotonic()
    fault = send(hook.url, {}, NotifySettings(timeout_seconds=0.3, retries=0))
    assert time.monotonic() - began < 3
    assert "did not answer in time" in str(fault)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "127.0.0.1 could not be connected to, asked 3 times"),
        (f"https://nowhere.invalid/{SECRET}", "nowhere.invalid has no address"),
        (f"hooks.example.com/{SECRET}", "its address is none"),
        (f"file:///{SECRET}", "its address is none"),
        (f"http://[{SECRET}", "its address is none"),
        (f"http://127.0.0.1:99999/{SECRET}", "its address is none"),
        ("http://me:the-token@127.0.0.1:1/x", "127.0.0.1 could not be connected to"),
    ],
)
def test_what_goes_wrong_is_said_without_the_address(url: str, said: str) -> None:
    fault = str(send(url, {}, FAST))
    assert fault.startswith(said)
    assert "the-token" not in fault and SECRET not in fault


def test_settings_keep_the_address_to_themselves(heft: Heft, log: Path, tmp_path: Path) -> None:
    settings = NotifySettings(url=f"https://hooks.example.com/{SECRET}")
    assert SECRET not in repr(settings) + settings.model_dump_json()
    config_in(tmp_path, notify={"url": [f"https://hooks.example.com/{SECRET}"]})
    ended = heft("run", log)
    ended.is_refusal("notify.url")
    assert "the-token" not in ended.error
    with pytest.raises(ValidationError, match="not_blessed"):
        NotifySettings.model_validate({"events": ["blessed"]})


@pytest.mark.parametrize("where", ["variable", "config"])
def test_a_run_that_fails_tells_the_webhook(
    heft: Heft, tmp_path: Path, hooks: list[Hook], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    hooks.append(hook := Hook(200))
    monkeypatch.setenv("SHOP_HOOK", hook.url if where == "variable" else "http://127.0.0.1:1")
    notify = {"url_variable": "SHOP_HOOK", "url": hook.url if where == "config" else None}
    put_shop(tmp_path / "logs", shop())
    config = config_in(tmp_path, notify=notify)
    ended = heft("run", config, "--span", 9)
    ended.is_refusal("span=9")
    [told] = hook.got
    assert told["event"] == "failure"
    assert told["exit_code"] == ExitCode.BAD_INPUT
    assert told["text"].startswith("heft: shop failed: ") and "span=9" in told["text"]
    assert SECRET not in ended.out + ended.error


def test_only_what_is_asked_for_is_told_and_a_deaf_webhook_changes_nothing(
    heft: Heft, tmp_path: Path, hooks: list[Hook], monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.append(hook := Hook(500))
    put_shop(tmp_path / "logs", shop())
    quick = {"retries": 0, "timeout_seconds": 0.5, "url": hook.url}
    config = config_in(tmp_path, notify={**quick, "events": ["pushed"]})
    heft("run", config, "--span", 9).is_refusal("span=9")
    assert hook.got == []
    config = config_in(tmp_path, notify=quick)
    ended = heft("run", config, "--span", 9)
    ended.is_refusal("span=9")
    assert "nobody was told: 127.0.0.1 answered 500" in ended.out
    monkeypatch.delenv("HEFT_WEBHOOK", raising=False)
    ended = heft("run", config_in(tmp_path, notify={}), "--span", 9)
    ended.is_refusal("span=9")
    assert "HEFT_WEBHOOK is not set" in ended.out


def test_a_run_that_ends_says_what_became_of_its_model(hooks: list[Hook], tmp_path: Path) -> None:
    hooks.append(hook := Hook(200))
    (tmp_path / "shop.yaml").write_text("logs: {root: logs}")
    events = ["failure", "gate", "not_blessed", "pushed"]
    overrides = {"notify.url": hook.url, "notify.events": events}
    config = load(tmp_path / "shop.yaml", overrides=overrides)
    summary = {"pushed": False, "blessed": False, "blessing_reasons": ["harmed", "unfair"],
               "report_path": "/r/index.html", "model_path": None, "verdict": None}  # fmt: skip
    with notified(config, Console(quiet=True)) as told:
        told.ended_with(summary)
    with notified(config, Console(quiet=True)) as told:
        told.ended_with(summary | {"pushed": True, "model_path": "/m/7"})
    held, pushed = hook.got
    assert held["text"] == "heft: shop ended, and its model was held back: harmed; unfair"
    assert held["reasons"] == ["harmed", "unfair"] and held["report"] == "/r/index.html"
    assert (pushed["event"], pushed["model"], pushed["exit_code"]) == ("pushed", "/m/7", 0)
    with pytest.raises(GateError), notified(config, Console(quiet=True)):
        raise GateError("too many\n  somebody@example.com")
    assert hook.got[-1]["event"] == "gate"
    assert hook.got[-1]["exit_code"] == ExitCode.GATE
    assert "example.com" not in json.dumps(hook.got[-1]), "rows are nobody else's"
