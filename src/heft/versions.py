"""The versions of a model that a server looks at: pushing one, and going back to an earlier one.

A server may look at any moment. A version is in the folder whole or not at all: it is copied
under a name that no server takes for a version, and gets its number by one rename.
"""

import filecmp
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heft.errors import GateError, InputError

__all__ = [
    "EXPORTED_FILE",
    "REFUSED_FILE",
    "ROLLED_BACK_FILE",
    "Pushed",
    "Version",
    "exported_at",
    "push",
    "roll_back",
    "versions",
]

# Beside the SavedModel, where TensorFlow Serving does not look: when the model was exported, and
# which version a rolled back one is a copy of.
EXPORTED_FILE = "assets.extra/exported.json"
ROLLED_BACK_FILE = "assets.extra/rolled_back_from.txt"
REFUSED_FILE = "why_not.txt"  # in the artifact of a push that was refused
_GRAPH = "saved_model.pb"
_DRAFT, _DOOMED = ".draft-", ".removed-"
_LEFT_BEHIND_SECONDS = 3_600  # a draft as old as this is nobody's any more


@dataclass(frozen=True)
class Version:
    """One pushed model.

    Attributes:
        number: seconds since 1970, when it was exported, or rolled back to.
        path: of the SavedModel.
        source: the version that it is a copy of; itself where it was pushed by a run.
    """

    number: int
    path: Path
    source: int


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        version: that holds the model.
        new: whether it was not there before.
        removed: numbers of the versions that went to make room.
    """

    version: Version
    new: bool
    removed: tuple[int, ...] = ()


def versions(folder: str | Path) -> list[Version]:
    """What lies in a model's folder, the newest first; what is not whole is left out."""
    found = []
    for path in Path(folder).glob("*"):
        if path.name.isdecimal() and (path / _GRAPH).is_file():
            note = path / ROLLED_BACK_FILE
            number = int(path.name)
            found.append(Version(number, path, int(note.read_text()) if note.is_file() else number))
    return sorted(found, key=lambda version: -version.number)


def exported_at(model: str | Path) -> int:
    """Seconds since 1970 when a SavedModel was exported; of its graph's file if it does not say.

    Raises:
        InputError: there is no SavedModel.
    """
    note, graph = Path(model) / EXPORTED_FILE, Path(model) / _GRAPH
    if note.is_file():
        return int(json.loads(note.read_text())["exported"])
    if not graph.is_file():
        raise InputError(f"{model} holds no SavedModel: expected {_GRAPH} there")
    return int(graph.stat().st_mtime)


def push(
    model: str | Path, folder: str | Path, keep: int = 0, spared: Collection[int] = ()
) -> Pushed:
    """Puts a model where a server looks, under the time of its export, and removes old versions.

    Pushing a model once more changes nothing.

    Args:
        model: a SavedModel.
        folder: of the model, with a folder per version; made if need be.
        keep: versions to keep, the newest ones; 0 keeps all.
        spared: numbers that stay whatever `keep` says, such as those that a label points at.

    Raises:
        InputError: there is no SavedModel.
        GateError: the model is older than the newest version, or another has its number.
    """
    number = exported_at(model)
    Path(folder).mkdir(parents=True, exist_ok=True)
    _tidy(Path(folder))
    found = versions(folder)
    same = next((version for version in found if version.number == number), None)
    if found and number < found[0].number:
        raise GateError(
            f"the model was exported at {number} and version {found[0].number} is newer: expected "
            "a model exported after it; run the street again, or serve it by `heft rollback "
            f"--version {number}` if it is in {folder}"
        )
    if same is not None and not _alike(Path(model), same.path):
        raise GateError(
            f"{folder} has another model under {number}, the second in which this one was "
            "exported: run the street again"
        )
    target = Path(folder) / str(number)
    if same is None:
        with _draft(Path(folder), number) as draft:
            shutil.copytree(model, draft)
            _to_disk(draft)
            draft.rename(target)
    return Pushed(Version(number, target, number), same is None, _prune(folder, keep, spared))


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
    with _draft(Path(folder), number) as draft:
        shutil.copytree(wanted.path, draft)
        note = draft / ROLLED_BACK_FILE
        note.parent.mkdir(exist_ok=True)
        note.write_text(str(wanted.source))
        _to_disk(draft)
        draft.rename(target)
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


@contextmanager
def _draft(folder: Path, number: int) -> Iterator[Path]:
    """A place beside the versions that no server looks at; nothing of it stays."""
    draft = folder / f"{_DRAFT}{number}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    """So that a machine that loses power has no version with a number and without contents."""
    for path in (folder, *folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _alike(model: Path, version: Path) -> bool:
    """Whether a version holds these files; it may hold more."""
    files = [path.relative_to(model) for path in model.rglob("*") if path.is_file()]
    equal, _, _ = filecmp.cmpfiles(model, version, list(map(str, files)), shallow=False)
    return len(equal) == len(files)


def _prune(folder: str | Path, keep: int, spared: Collection[int]) -> tuple[int, ...]:
    removed = []
    for version in versions(folder)[keep:] if keep else ():
        if version.number not in spared:
            # Gone at once, so that no server sees half of it.
            doomed = version.path.with_name(f"{_DOOMED}{version.number}-{os.getpid()}")
            version.path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            removed.append(version.number)
    return tuple(removed)


def _tidy(folder: Path) -> None:
    """Removes what a push that was killed left behind."""
    for path in folder.glob(".*"):
        ours = path.name.startswith((_DRAFT, _DOOMED))
        if ours and time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
