"""Environments of other projects: made once, pinned, and out of Heft's own way.

Each lives under runs/benchmark-envs/peers and is made again when its pins change.
Versions are resolved in advance: every package that is installed is in the list.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODEL_PEERS", "PEERS", "Peer", "prepare", "run_script"]

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "peer_scripts"
FOLDER = ROOT / "runs" / "benchmark-envs" / "peers"

_INSTALL_SECONDS = 1_200
_LINES_OF_ERROR = 6


@dataclass(frozen=True)
class Peer:
    """A project to compare with.

    Attributes:
        name: of its environment, of its pins `NAME.txt` and of its script `NAME_scores.py`.
        note: what to know before it is installed.
        scripts: folder of both files.
    """

    name: str
    note: str = ""
    scripts: Path = SCRIPTS

    @property
    def pins(self) -> Path:
        """Exact versions of every package, one a line."""
        return self.scripts / f"{self.name}.txt"

    @property
    def script(self) -> Path:
        """What runs in the environment: folder of splits in, folder of scores out."""
        return self.scripts / f"{self.name}_scores.py"


PEERS = (
    Peer("cleanlab"),
    Peer("pydvl"),
    Peer("opendataval", "5 GB on disk, since it brings PyTorch with CUDA"),
)
MODEL_SCRIPTS = ROOT / "benchmarks" / "model" / "peer_scripts"
MODEL_PEERS = (
    Peer("rechub", "5 GB on disk, since it brings PyTorch with CUDA", MODEL_SCRIPTS),
    Peer("lightgbm", scripts=MODEL_SCRIPTS),
)


def prepare(peer: Peer, folder: Path = FOLDER) -> tuple[Path | None, str]:
    """The environment's Python, or None and why it could not be made."""
    home = folder / peer.name
    python, stamp = home / "bin" / "python", home / "pins.txt"
    wanted = peer.pins.read_text(encoding="utf-8")
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python, ""
    if home.exists():
        shutil.rmtree(home)
    note = f" ({peer.note})" if peer.note else ""
    print(f"making {home.relative_to(folder.parent)}{note}", flush=True)
    for command in _commands(home, python, peer.pins):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, str(error)
        if done.returncode:
            return None, _last_lines(done.stderr or done.stdout)
    stamp.write_text(wanted, encoding="utf-8")
    return python, ""


def _commands(home: Path, python: Path, pins: Path) -> list[list[str]]:
    """With uv where `make setup` has put it, else with what Python brings."""
    uv = ROOT / ".uv" / "bin" / "uv"
    if uv.exists():
        install = [str(uv), "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
        return [
            [str(uv), "venv", "--quiet", "--python", sys.executable, str(home)],
            [*install, "--requirement", str(pins)],
        ]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pins)],
    ]


def run_script(
    peer: Peer, python: Path, splits: Path, scores: Path, arguments: list[str]
) -> tuple[bool, str]:
    """Whether the peer's script ran, and the end of what it said if it did not.

    One thread each: the loops of small models are slower with more.
    """
    scores.mkdir(parents=True, exist_ok=True)
    command = [str(python), str(peer.script), str(splits), str(scores), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, "" if done.returncode == 0 else _last_lines(done.stderr)


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LINES_OF_ERROR:])
