"""When a model is trained on what has landed."""

from pathlib import Path
from typing import Any

import pytest

from heft.streaming.follow import Outcome, Window, follow
from heft.streaming.settings import StreamingSettings
from heft.streaming.state import StreamState
from tests.unit.streaming.shop import NOW, Shop


class Trainer:
    """Notes what it is trained on."""

    def __init__(self, version: int | None = 1) -> None:
        self.windows: list[Window] = []
        self.version = version

    def __call__(self, window: Window) -> Outcome:
        self.windows.append(window)
        return Outcome(self.version, "" if self.version else "a gate")


def _look(shop: Shop, trainer: Trainer, now: float = NOW, **settings: Any) -> None:
    inbox = shop.open(**settings)
    follow(inbox, shop.settings, shop.state, trainer, once=True, clock=lambda: now)


def test_a_model_is_trained_at_first_then_after_n_conversions(shop: Shop) -> None:
    trainer = Trainer()
    rule = {"conversions": 3, "every_seconds": None, "window": 2}
    shop.open()
    shop.page(1)
    _look(shop, trainer, **rule)
    shop.page(2, conversions=2)
    _look(shop, trainer, **rule)
    assert trainer.windows == [Window(1, 1)]
    shop.page(3, conversions=1)  # with those before a restart they are three
    _look(shop, trainer, **rule)
    assert trainer.windows == [Window(1, 1), Window(3, 2)]
    shop.page(4, conversions=2)
    _look(shop, trainer, **rule)
    assert len(trainer.windows) == 2


def test_a_model_is_trained_on_a_schedule_if_something_is_new(shop: Shop) -> None:
    trainer = Trainer()
    rule = {"every_seconds": 100.0, "window": 9}
    shop.open()
    _look(shop, trainer, **rule)
    assert trainer.windows == []
    shop.page(1)
    _look(shop, trainer, **rule)
    _look(shop, trainer, NOW + 500, **rule)
    assert trainer.windows == [Window(1, 1)]
    shop.page(2)
    _look(shop, trainer, NOW + 99, **rule)
    assert len(trainer.windows) == 1
    _look(shop, trainer, NOW + 100, **rule)
    assert trainer.windows[1:] == [Window(2, 2)]


def test_what_no_gate_lets_through_is_not_tried_again_and_again(shop: Shop) -> None:
    trainer = Trainer(version=None)
    shop.open()
    shop.page(1, conversions=5)
    _look(shop, trainer, conversions=5)
    _look(shop, trainer, conversions=5)
    assert len(trainer.windows) == 1
    assert StreamState.load(shop.state) == StreamState(1, NOW)


def test_a_training_that_is_killed_is_made_up_for(shop: Shop) -> None:
    def killed(window: Window) -> Outcome:
        raise KeyboardInterrupt

    shop.open()
    shop.page(1)
    with pytest.raises(KeyboardInterrupt):
        follow(shop.open(), shop.settings, shop.state, killed, once=True, clock=lambda: NOW)
    trainer = Trainer()
    _look(shop, trainer)
    assert trainer.windows == [Window(1, 1)]


def test_it_looks_until_it_is_told_to_stop(shop: Shop) -> None:
    told: list[int] = []
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt
        shop.page(len(waits))

    shop.open(poll_seconds=2.0)
    with pytest.raises(KeyboardInterrupt):
        follow(
            shop.open(), shop.settings, shop.state, Trainer(), clock=lambda: NOW, sleep=sleep,
            taken=lambda batch, conversions: told.append(batch.span),
        )  # fmt: skip
    assert waits == [2.0] * 3
    assert told == [1, 2]


def test_settings_that_never_train_and_a_foreign_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model would ever be trained"):
        StreamingSettings(every_seconds=None)
    (tmp_path / "stream.json").write_text("[]")
    with pytest.raises(Exception, match="no state of a stream"):
        StreamState.load(tmp_path / "stream.json")
