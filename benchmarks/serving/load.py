"""Load on a server while its versions are swapped and a label is moved."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Change", "Load", "Sent", "capacity"]


@dataclass(frozen=True)
class Sent:
    """A request: what it asked, when, and which model answered; -1 for none that there is."""

    place: str
    begun: float
    ended: float
    answered: int
    error: str = ""


@dataclass(frozen=True)
class Change:
    """Between two moments a place went over from one model to another; in between both are right.

    `begun` is before the change was asked for, `ended` after it was seen to be over.
    """

    place: str
    begun: float
    ended: float
    before: int
    after: int


Ask = Callable[[], int]  # returns which model answered


def capacity(asks: Sequence[Ask], seconds: float, callers: int) -> float:
    """Requests a second of callers that ask again as soon as they are answered."""
    end, counts = time.monotonic() + seconds, [0] * callers

    def call(number: int) -> None:
        ask = asks[number % len(asks)]
        while time.monotonic() < end:
            ask()
            counts[number] += 1

    threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


class Load:
    """Requests that arrive at random times at a given rate, whether others are answered or not.

    Args:
        asks: by place; each is asked in turn.
        rate: arrivals a second.
        seconds: that they go on.
        callers: requests that can be under way.
    """

    def __init__(
        self, asks: dict[str, Sequence[Ask]], rate: float, seconds: float, callers: int
    ) -> None:
        self._asks = [(place, ask) for place, some in asks.items() for ask in some]
        gaps = np.random.default_rng(0).exponential(1 / rate, round(rate * seconds))
        self._arrivals = np.cumsum(gaps)
        self._next, self._lock = 0, threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]
        self.sent: list[Sent] = []

    def __enter__(self) -> "Load":
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= len(self._arrivals):
                return
            time.sleep(max(0.0, self._began + self._arrivals[number] - time.monotonic()))
            place, ask = self._asks[number % len(self._asks)]
            begun, answered, error = time.monotonic(), -1, ""
            try:
                answered = ask()
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"
            self.sent.append(Sent(place, begun, time.monotonic(), answered, error))

    def faults(self, first: dict[str, int], changes: Sequence[Change]) -> list[str]:
        """Requests that failed, or that a model answered which was not served there then.

        Args:
            first: the model of each place before the changes.
            changes: in the order in which they were made.
        """
        found = []
        for one in self.sent:
            if one.error:
                found.append(f"{one.place}: {one.error}")
            elif one.answered not in self._right(one, first, changes):
                found.append(f"{one.place}: model {one.answered} answered")
        return found

    @staticmethod
    def _right(one: Sent, first: dict[str, int], changes: Sequence[Change]) -> set[int]:
        right = {first[one.place]}
        for change in (c for c in changes if c.place == one.place):
            if change.ended < one.begun:
                right = {change.after}
            elif change.begun < one.ended:
                right |= {change.after}
        return right
