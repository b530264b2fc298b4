"""What the contract tests need served, by the stand-in or by TensorFlow Serving itself.

    python -m tests.unit.serving.contract FOLDER
    docker run --rm -p 8500:8500 -p 8501:8501 -v FOLDER:/models \
      tensorflow/serving:2.20.0 --model_config_file=/models/models.config \
      --model_config_file_poll_wait_seconds=1 --max_num_load_retries=0 \
      --allow_version_labels_for_unavailable_models=true
    HEFT_TFS_URL=http://localhost:8501 HEFT_TFS_FOLDER=FOLDER \
      python -m pytest tests/unit/serving/test_contract.py
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.unit.serving.models import export, export_single

__all__ = ["MODELS", "ONE", "ROW", "Served", "models_config", "real_server", "write_models"]

MODELS = ("heft", "single", "swapped", "labelled")
ROW: dict[str, Any] = {"query": "tv", "title": "LG C4 é 📺", "category": "tv", "brand": "LG",
                       "price": 999.5, "device": "mobile"}  # fmt: skip
ONE = {name: [value] for name, value in ROW.items()}
_OFFSETS = 3


@dataclass(frozen=True)
class Served:
    """A server of the models that `write_models` wrote."""

    rest: str
    grpc: str
    root: Path  # what it serves; `exported/<offset>` holds more to push

    def push(self, model: str, version: int, offset: int) -> None:
        """Puts a version there, whole or not at all, as a push does."""
        draft = self.root / model / f".draft-{version}"
        shutil.copytree(self.root / "exported" / str(offset), draft)
        draft.rename(self.root / model / str(version))


def write_models(root: Path) -> Path:
    """Writes the models, and others to push, below `root`."""
    for offset in range(_OFFSETS):
        export(root / "exported" / str(offset), float(offset))
    for model in MODELS:
        if model == "single":
            export_single(root / model / "1")
        else:
            shutil.copytree(root / "exported" / "0", root / model / "1")
    return root


def models_config(root: Path, base: str) -> Path:
    """Writes the models.config of a server that finds the models below `base`."""
    path = root / "models.config"
    models = "".join(
        f'config {{ name: "{n}" base_path: "{base}/{n}" model_platform: "tensorflow" }}\n'
        for n in MODELS
    )
    path.write_text(f"model_config_list {{\n{models}}}\n")
    return path


def real_server() -> Served | None:
    """TensorFlow Serving, if the environment says where it is."""
    url = os.environ.get("HEFT_TFS_URL")
    if not url:
        return None
    grpc = os.environ.get("HEFT_TFS_GRPC", f"grpc://{urlsplit(url).hostname}:8500")
    return Served(url.rstrip("/"), grpc, Path(os.environ["HEFT_TFS_FOLDER"]))


if __name__ == "__main__":
    models_config(write_models(Path(sys.argv[1])), "/models")
