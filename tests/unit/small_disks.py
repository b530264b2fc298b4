"""`heft` on a disk that is too small, or that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["limited", "may_mount", "on_a_small_disk", "run_heft"]

ROOT = Path(__file__).parents[2]


def on_a_small_disk(size: str, options: str, folder: Path, *arguments: object) -> tuple[int, str]:
    """Runs `heft` with `folder` on a disk of its own, which nobody else sees."""
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={size} tmpfs {folder}"
    if options:
        mount += f" && mount -o {options} {folder}"
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", *mapped, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    return run_heft(command, folder.parent, *arguments)


def run_heft(wrapped_in: list[str], folder: Path, *arguments: object) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [*wrapped_in, sys.executable, "-m", "heft.cli", *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def may_mount() -> bool:
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", *mapped, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def limited(folder: Path, blocks: int, *arguments: object) -> tuple[int, str]:
    """Runs `heft` where no file may be larger than so many blocks of 512 bytes."""
    return run_heft(["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh"], folder, *arguments)
