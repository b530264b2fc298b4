"""The loop: take what has landed, train when it is time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heft.streaming.inbox import Inbox, MicroBatch
from heft.streaming.settings import StreamingSettings
from heft.streaming.state import StreamState

__all__ = ["Outcome", "Window", "follow"]


@dataclass(frozen=True)
class Window:
    """The spans of a training: `count` of them, the last of which is `last`."""

    last: int
    count: int


@dataclass(frozen=True)
class Outcome:
    """What came of a training: the version that was pushed, or why none was."""

    version: int | None
    reason: str = ""


def follow(
    inbox: Inbox,
    settings: StreamingSettings,
    state_file: Path,
    train: Callable[[Window], Outcome],
    *,
    taken: Callable[[MicroBatch, int], None] = lambda batch, conversions: None,
    trained: Callable[[Window, Outcome], None] = lambda window, outcome: None,
    once: bool = False,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Watches the inbox until it is interrupted.

    A training starts at the first micro-batch, and from then on by the schedule or the count
    of the settings, if something is new. Whatever comes of one, the next is counted from it,
    so that data which no gate lets through are not tried again and again.

    Args:
        inbox: that files land in.
        settings: see there.
        state_file: what is remembered; a killed stream goes on from it.
        train: trains on a window of spans, and pushes what the gates let through.
        taken: told each micro-batch, and the conversions since the last training.
        trained: told each outcome.
        once: look once, and train once if it is time.
        clock: seconds since 1970.
        sleep: waits.
    """
    state = StreamState.load(state_file)
    conversions = inbox.conversions_after(state.span)
    while True:
        batch = inbox.take(clock())
        if batch is not None:
            conversions += batch.conversions
            taken(batch, conversions)
        spans = inbox.spans()
        new = bool(spans) and (state.span is None or spans[-1] > state.span)
        if new and _due(settings, state, conversions, clock()):
            window = Window(spans[-1], _run_of(spans, settings.window))
            outcome = train(window)
            # Remembered after the training: one that was killed is made up for.
            state, conversions = StreamState(window.last, clock()), 0
            state.save(state_file)
            trained(window, outcome)
        if once:
            return
        sleep(settings.poll_seconds)


def _due(settings: StreamingSettings, state: StreamState, conversions: int, now: float) -> bool:
    if state.span is None:
        return True
    if settings.conversions is not None and conversions >= settings.conversions:
        return True
    return settings.every_seconds is not None and now - state.at >= settings.every_seconds


def _run_of(spans: list[int], most: int) -> int:
    """How many spans up to the last one follow on each other, at most `most`."""
    count = 1
    while count < min(most, len(spans)) and spans[-count - 1] == spans[-count] - 1:
        count += 1
    return count
