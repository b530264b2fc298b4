"""What a stream remembers beside the files themselves."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from heft.errors import DataError

__all__ = ["StreamState"]


@dataclass(frozen=True)
class StreamState:
    """The last training, of whatever outcome.

    Attributes:
        span: the newest that it was trained on; None where there was none.
        at: seconds since 1970.
    """

    span: int | None = None
    at: float = 0.0

    @classmethod
    def load(cls, path: Path) -> Self:
        """What was saved; a new state where nothing was.

        Raises:
            DataError: the file holds something else.
        """
        if not path.is_file():
            return cls()
        try:
            facts = json.loads(path.read_text())
            return cls(facts["span"], float(facts["at"]))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} is no state of a stream ({error}): remove it, and the next training "
                "counts every span as new"
            ) from error

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)
