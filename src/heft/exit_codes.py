"""Every exit code of the `heft` command: the one place that they are kept in."""

from enum import IntEnum

__all__ = ["ExitCode", "exit_code_lines"]


class ExitCode(IntEnum):
    """What the command returns.

    Attributes:
        meaning: in one sentence, for people.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        """A code and what it means."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "the command did its work; of a run, the summary says whether its model was pushed"
    FAILED = 1, "a node, or another part, failed; the message names the log"
    BAD_INPUT = 2, "bad input: a config, a log or an argument; the message says what was expected"
    GATE = 3, "a gate stopped the run: the data is not good enough"
    LOCKED = 4, "another command is at work in the run's folder; the message says which"
    STORAGE = 5, "no space is left, or a folder cannot be written; the message says where"
    INTERRUPTED = 130, "interrupted by Ctrl-C; the finished nodes are kept"
    TERMINATED = 143, "ended by SIGTERM; the finished nodes are kept"


def exit_code_lines() -> str:
    """The table as text, a line for each code."""
    return "\n\n".join(f"{code.value}: {code.meaning}" for code in ExitCode)
