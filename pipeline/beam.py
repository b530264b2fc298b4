"""Beam's arguments, the same for every node of a run."""

__all__ = ["beam_args"]


def beam_args(extra: tuple[str, ...] = ()) -> list[str]:
    """Arguments for one machine; `extra` comes last and wins.

    The in-memory runner is named outright: Beam's default would first look for
    a Prism binary to download.
    """
    return ["--runner=FnApiRunner", "--direct_running_mode=in_memory", *extra]
