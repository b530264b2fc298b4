"""What one run leaves for the next, in a folder that all pods see.

Kubeflow has no resolvers: nothing there finds an artifact of an earlier run. A node that is done
puts a copy of what the next run wants here, and that run's nodes find it.
"""

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Kept", "Memory"]

_ENTRY, _CONTENT = "entry.json", "content"


@dataclass(frozen=True)
class Kept:
    """One artifact of an earlier run.

    Attributes:
        number: later ones have higher numbers.
        path: of its files.
        source: URI of what it is a copy of.
        type_title: such as `tfx.Model`.
        metadata: properties of the artifact.
    """

    number: int
    path: Path
    source: str
    type_title: str
    metadata: dict[str, Any]

    def artifact(self) -> dict[str, Any]:
        """As a RuntimeArtifact."""
        return {
            "name": str(self.path),
            "uri": str(self.path),
            "type": {"schemaTitle": self.type_title},
            "metadata": self.metadata,
        }


class Memory:
    """The folder of one pipeline.

    An entry counts once its `entry.json` is there, which is written last, so that a pod that is
    killed leaves nothing half. No folder is renamed, which mounted buckets cannot do; a file is.

    Args:
        folder: that all pods see.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def keep(self, name: str, path: str, entry: dict[str, Any], most: int) -> None:
        """Copies what lies at `path`; of each name the last `most` stay.

        Args:
            name: to find it by.
            path: of the files.
            entry: `source`, `type_title` and `metadata` as of `Kept`.
            most: that stay.
        """
        place = self._next(name)
        shutil.copytree(path, place / _CONTENT)
        # A reader sees the whole entry or none.
        draft = place / f".{_ENTRY}"
        draft.write_text(json.dumps(entry, indent=1), encoding="utf-8")
        draft.replace(place / _ENTRY)
        for old in self.entries(name)[:-most]:
            # Out of sight first: a reader takes an entry whole or not at all.
            (old.path.parent / _ENTRY).unlink(missing_ok=True)
            shutil.rmtree(old.path.parent, ignore_errors=True)

    def entries(self, name: str, but: Collection[str] = ()) -> list[Kept]:
        """What is kept under `name`, oldest first, without what was copied from `but`."""
        found = []
        for file in sorted(self._folder.glob(f"{name}/*/{_ENTRY}")):
            try:
                entry = json.loads(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue  # taken away just now
            if entry["source"] not in but:
                found.append(Kept(int(file.parent.name), file.parent / _CONTENT, **entry))
        return found

    def latest(self, name: str, but: Collection[str] = ()) -> list[Kept]:
        """The last one, or none."""
        return self.entries(name, but)[-1:]

    def spans_before(
        self, name: str, span: int, spans: int, since: int, alike: dict[str, Any]
    ) -> list[Kept]:
        """The last `spans` spans before `span`, not before `since`; of each the last artifact.

        Args:
            name: of the artifacts.
            span: that is looked at now.
            spans, since: see above.
            alike: properties that have to be these.
        """
        by_span = {
            int(kept.metadata["span"]): kept
            for kept in self.entries(name)
            if all(kept.metadata.get(key) == value for key, value in alike.items())
        }
        chosen = sorted(number for number in by_span if since <= number < span)[-spans:]
        return [by_span[number] for number in chosen]

    def _next(self, name: str) -> Path:
        """A new folder, which no other pod gets."""
        parent = self._folder / name
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(p.name) for p in parent.iterdir() if p.name.isdigit()), default=0)
        while True:
            number += 1
            place = parent / f"{number:09d}"
            try:
                place.mkdir()
            except FileExistsError:
                continue
            return place
