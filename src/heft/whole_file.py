"""Files that are there whole, or not at all, whenever a process is killed."""

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: str | Path, text: str) -> None:
    """Writes a text file: under another name first, which is a rename away from its own."""
    path = Path(path)
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
