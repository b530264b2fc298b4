"""The image, built by the Dockerfile itself, and a container of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "mmdebstrap", "runc", "go")


class Container:
    """A container of an image: commands run in it as its user, in its environment."""

    def __init__(self, image: str, folder: Path) -> None:
        self._storage = [
            "buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "run"),
            "--storage-driver", "overlay",
        ]  # fmt: skip
        self.config: dict[str, Any] = json.loads(
            self._buildah("inspect", "--type", "image", image)
        )["Docker"]["config"]
        self._name = self._buildah("from", image).strip()

    def close(self) -> None:
        self._buildah("rm", self._name)

    @property
    def entrypoint(self) -> list[str]:
        return list(self.config["Entrypoint"])

    def command(self, *arguments: str, volume: str | None = None) -> list[str]:
        """As a command line of this machine, for what is to run beside the test."""
        volumes = ["--volume", volume] if volume else []
        isolated = ["run", "--isolation", "oci", "--network", "host", *volumes, self._name, "--"]
        return [*self._storage, *isolated, *arguments]

    def run(self, *arguments: str, volume: str | None = None) -> str:
        """What a command that has to succeed prints."""
        done = subprocess.run(
            self.command(*arguments, volume=volume), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *arguments: str) -> str:
        """What `docker run IMAGE arguments` prints."""
        return self.run(*self.entrypoint, *(arguments or self.config["Cmd"]))

    def _buildah(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._storage, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def image_folder() -> Path:
    """Where images are built; only root has the tools for it."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent or os.geteuid() != 0:
        what = f"the image needs root and {', '.join(absent or TOOLS)}; see docs/scale.md, Image"
        if os.environ.get("CI"):
            pytest.fail(f"NOT TESTED: {what}")
        pytest.skip(what)
    return ROOT / ".image"


@pytest.fixture(scope="session")
def container(image_folder: Path) -> Iterator[Container]:
    built = subprocess.run(
        ["bash", "scripts/image.sh", "cpu", str(image_folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    made = Container("localhost/heft:cpu", image_folder)
    yield made
    made.close()
