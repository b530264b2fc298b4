"""The versions of a model that a server looks at, and going back to an earlier one."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from heft.errors import InputError

__all__ = ["ROLLED_BACK_FILE", "Version", "roll_back", "versions"]

# Beside the SavedModel, where TensorFlow Serving does not look: which version this is a copy of.
ROLLED_BACK_FILE = "assets.extra/rolled_back_from.txt"
_GRAPH = "saved_model.pb"


@dataclass(frozen=True)
class Version:
    """One pushed model.

    Attributes:
        number: seconds since 1970, when it was pushed.
        path: of the SavedModel.
        source: the version that it is a copy of; itself where it was pushed by a run.
    """

    number: int
    path: Path
    source: int


def versions(folder: str | Path) -> list[Version]:
    """What lies in a model's folder, the newest first; what is not whole is left out."""
    found = []
    for path in Path(folder).glob("*"):
        if path.name.isdigit() and (path / _GRAPH).is_file():
            note = path / ROLLED_BACK_FILE
            number = int(path.name)
            found.append(Version(number, path, int(note.read_text()) if note.is_file() else number))
    return sorted(found, key=lambda version: -version.number)


def roll_back(folder: str | Path, to: int | None = None) -> tuple[Version, Version]:
    """Pushes an earlier version once more, as the newest.

    A server serves the highest number, so going back is a push as any other: no version is
    taken away from under a request, and the next run's push follows on it.

    Args:
        folder: of the model, with a folder per version.
        to: the version to serve again; by default the newest whose model is another than the
            one being served.

    Returns:
        The version that was served, and the new one.

    Raises:
        InputError: there is no such version, or none to go back to.
    """
    found = versions(folder)
    if not found:
        raise InputError(f"{folder} holds no model: expected a version that a run pushed")
    current = found[0]
    wanted = _wanted(found, to, folder)
    number = max(int(time.time()), current.number + 1)
    target = Path(folder) / str(number)
    # A server may look at any moment: the folder gets its name when it is whole.
    draft = Path(folder) / f".rollback-{number}-{os.getpid()}"
    try:
        shutil.copytree(wanted.path, draft)
        note = draft / ROLLED_BACK_FILE
        note.parent.mkdir(exist_ok=True)
        note.write_text(str(wanted.source))
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return current, Version(number, target, wanted.source)


def _wanted(found: list[Version], to: int | None, folder: str | Path) -> Version:
    current = found[0]
    listed = ", ".join(str(version.number) for version in found)
    if to is None:
        for version in found[1:]:
            if version.source < current.source:
                return version
        raise InputError(
            f"{folder} has no earlier model than {current.number}: expected one to go back to, "
            f"found {listed}"
        )
    for version in found:
        if version.number == to:
            if version.source == current.source:
                raise InputError(
                    f"version {to} is the model that is being served already (as "
                    f"{current.number}): expected an earlier one of {listed}"
                )
            return version
    raise InputError(f"there is no version {to} in {folder}: expected one of {listed}")
