"""Ctrl-C and SIGTERM: the command ends in seconds, with one message, and can go on later."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Ending", "ended_by_signal"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 5.0  # seconds to take things down in


class Ending:
    """Whether a signal asked for the end.

    Attributes:
        number: of the first signal; None while there was none.
        told: whether the user was told already.
    """

    number: int | None = None
    told = False

    @property
    def exit_code(self) -> int:
        """As shells have it: 128 and the signal's number."""
        return 128 + (self.number or 0)


@contextmanager
def ended_by_signal(say: Callable[[Ending], None]) -> Iterator[Ending]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, once; what does not end then is ended.

    Nothing that a process leaves behind is taken for finished, however it ends, so a thread or
    an engine that does not listen loses nothing by that.

    Args:
        say: tells the user, if the process has to be ended.
    """
    ending = Ending()

    def last_resort() -> None:
        # By another thread: one that is stuck may hold what `say` waits for.
        teller = threading.Thread(target=say, args=(ending,), daemon=True)
        teller.start()
        teller.join(1.0)
        os._exit(ending.exit_code)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if ending.number is None:
            ending.number = number
            # Who asks again is to wait for the end, to the last line of the process.
            for other in _SIGNALS:
                signal.signal(other, signal.SIG_IGN)
            timer = threading.Timer(_PATIENCE, last_resort)
            timer.daemon = True
            timer.start()
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield ending
    finally:
        if ending.number is None:
            for number, handler in before.items():
                signal.signal(number, handler)
