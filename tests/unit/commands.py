"""Running `heft` in a test: what it says, what it returns, and a log for it to read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Ended", "Heft", "config_in"]


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    error: str

    def is_refusal(self, said: str, code: int = 2) -> None:
        """One line that says `said`, and the exit code."""
        assert self.code == code, self.error
        assert self.error.startswith("error: ") and self.error.count("\n") == 1, self.error
        assert said in self.error
        assert "Traceback" not in self.error + self.out


Heft = Callable[..., Ended]


def config_in(folder: Path, **values: Any) -> Path:
    """A config that reads `folder/logs`."""
    config = {"name": "shop", "logs": {"root": str(folder / "logs")}, **values}
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
