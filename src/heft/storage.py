"""A full disk and a folder that cannot be written, said in one message.

Engines wrap what the operating system says, some in an exception's cause, some in its text
alone: both are looked at.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heft.errors import StorageError

__all__ = ["bytes_text", "check_space", "storage_fault", "writing_to"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_SAID = {
    errno.ENOSPC: "No space left on device|database or disk is full",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EROFS: "Read-only file system|attempt to write a readonly database",
    errno.EFBIG: "File too large",
    errno.EACCES: "Permission denied",
}
_SQLITE_IO = re.compile("disk I/O error|unable to open database file")
_PATH = re.compile(r"(/[^\s'\";:,\[\]()]+)")
_LEAST_FREE = 16 * 1024  # bytes under which nothing can be written any more
_RUN_NEEDS = 2_000_000_000  # bytes under which a run is warned
_STEPS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def storage_fault(
    error: BaseException, folder: str | Path, anywhere: bool = False
) -> StorageError | None:
    """The error to show if a disk or its rights are behind `error`, else None.

    Args:
        error: as it was caught, with whatever it wraps.
        folder: where the command writes; named where the error names no path. A path outside
            it to which access was denied is something that could not be read, and no fault of
            storage.
        anywhere: the command may write wherever it was told to.
    """
    folder = Path(folder).absolute()
    for cause in _chain(error):
        if isinstance(cause, StorageError):
            return cause
        code, path = _code_and_path(cause, folder)
        if code is None:
            continue
        if code in _REFUSED and not anywhere and not _written(code, path, folder):
            continue
        return StorageError(_message(code, path or folder))
    return None


@contextmanager
def writing_to(folder: str | Path) -> Iterator[None]:
    """What is done in this context writes to a folder.

    Raises:
        StorageError: a disk or its rights are behind what went wrong.
    """
    try:
        yield
    except Exception as error:
        fault = storage_fault(error, folder)
        if fault is None or fault is error:
            raise
        raise fault from error


def check_space(folder: Path) -> str | None:
    """A warning if so little space is left that a run may not end, else None."""
    free = shutil.disk_usage(_there(folder)).free
    if free >= _RUN_NEEDS:
        return None
    return (
        f"{bytes_text(free)} are left on the disk of {folder}: a run of a small log writes "
        "some 200 MB, of a large one several times the log; `heft clean` removes what old runs left"
    )


def bytes_text(size: float) -> str:
    """A size for people, in powers of 1,000."""
    for unit, step in _STEPS:
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size:.0f} bytes"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """What was raised and what is behind it, the deepest last, each once."""
    queue, seen = [error], set()
    while queue:
        one = queue.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        behind = [one.__cause__, one.__context__, *one.args]
        queue += [other for other in behind if isinstance(other, BaseException)]


def _code_and_path(error: BaseException, folder: Path) -> tuple[int | None, Path | None]:
    if isinstance(error, OSError) and error.errno in _SAID.keys() | set(_REFUSED):
        name = error.filename
        return error.errno, Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None
    text = str(error)
    for code, words in _SAID.items():
        if found := re.search(words, text):
            return code, _path_near(text, found)
    if _SQLITE_IO.search(text) and _free(folder) < _LEAST_FREE:
        return errno.ENOSPC, None
    return None, None


def _path_near(text: str, said: re.Match[str]) -> Path | None:
    """The path in the line of what was said: what stands right behind, else before."""
    line = text[said.end() :].partition("\n")[0]
    before = text[: said.start()].rpartition("\n")[2]
    after, earlier = _PATH.findall(line), _PATH.findall(before)
    return Path(after[0]) if after else Path(earlier[-1]) if earlier else None


def _written(code: int, path: Path | None, folder: Path) -> bool:
    """Whether it is a path that the command writes to."""
    if code == errno.EROFS or path is None:
        return code == errno.EROFS
    path = path.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _message(code: int, path: Path) -> str:
    if code in _FULL:
        disks = {path: _free(path), Path(tempfile.gettempdir()): _free(tempfile.gettempdir())}
        left = ", ".join(f"{bytes_text(free)} free at {where}" for where, free in disks.items())
        what = "the disk quota is used up" if code == errno.EDQUOT else "no space is left"
        return (
            f"{what} for {path} ({left}): free some (`heft clean` removes what old runs left), or "
            "name another folder with --runs; run again to go on from where this one stopped"
        )
    if code == errno.EFBIG:
        return (
            f"{path} may not grow any further, by a limit of the file system or of `ulimit -f`: "
            "raise it, or name another folder with --runs"
        )
    why = "its file system is read-only" if code == errno.EROFS else "this user has no right to"
    return f"{path} cannot be written, {why}: expected a folder to write to; name one with --runs"


def _free(path: str | Path) -> int:
    return shutil.disk_usage(_there(Path(path))).free


def _there(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if os.path.exists(one)), Path("/"))
