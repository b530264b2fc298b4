"""One command at a time in a run's folder."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from heft.errors import InputError, LockedError
from heft.storage import storage_fault, writing_to

__all__ = ["RUN_LOCK", "alone"]

RUN_LOCK = "run.lock"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def alone(folder: Path, doing: str, name: str = RUN_LOCK) -> Iterator[int]:
    """Holds a folder's lock, and makes the folder if need be.

    The lock is the kernel's: it is gone when the process is, however that ended. A child that
    is handed the descriptor goes on holding it when this process is killed. What the file says
    is for the one who is turned away. It is removed at the end, and so is a folder that was
    made for it and has nothing else in it.

    Args:
        folder: of the run.
        doing: the command that holds the lock, such as `heft run`.
        name: of the file; locks of different names have nothing to do with each other.

    Yields:
        The descriptor of the locked file.

    Raises:
        LockedError: somebody else has it.
        StorageError: the folder cannot be written, now or later.
        InputError: the folder is a file, or its file system has no locks.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    path = folder / name
    try:
        lock = _taken(path, doing)
    except OSError as error:
        _remove_empty(made)
        if error.errno in _NO_LOCKS:
            raise InputError(
                f"{folder} lies on a file system without locks ({error.strerror}), which keep two "
                "commands from writing there at once: name another with --runs"
            ) from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise InputError(f"{folder} is a file: expected a folder, or none yet") from error
        fault = storage_fault(error, folder)
        raise error if fault is None else fault from error
    try:
        with writing_to(folder):
            yield lock
    finally:
        # While it is held: who has the old file open sees that the name leads elsewhere.
        with suppress(OSError):
            path.unlink()
        os.close(lock)
        _remove_empty(made)


def _taken(path: Path, doing: str) -> int:
    """The open file, once it is locked and is the one that the name leads to."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # the holder before has just removed the folder
        except FileExistsError:
            if os.path.lexists(path.parent) and not path.parent.is_dir():
                raise
            continue  # it was there when it was to be made, and was removed before it was looked at
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == _inode(path):
                _sign(lock, doing)
                return lock
            os.close(lock)  # the holder before removed the file between the two lines
        except BlockingIOError:
            said = _turned_away(path, os.pread(lock, 4_096, 0))
            os.close(lock)
            raise LockedError(said) from None
        except BaseException:
            os.close(lock)
            raise


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _sign(lock: int, doing: str) -> None:
    """Writes who holds it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": now, "command": doing}
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(holder).encode(), 0)


def _turned_away(path: Path, note: bytes) -> str:
    try:
        holder = json.loads(note)
        who = (
            f"`{holder['command']}` has been at work there since {holder['started']}, "
            f"process {holder['pid']} on {holder['host']}"
        )
        if holder["host"] == socket.gethostname() and not Path(f"/proc/{holder['pid']}").exists():
            who += ", which has ended, and what it started goes on"
    except (ValueError, KeyError, TypeError):
        who = "another command is at work there"
    return (
        f"{path.parent} is locked: {who}; wait for it, end it, or give this one another folder "
        "with --name"
    )


def _remove_empty(made: list[Path]) -> None:
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return
