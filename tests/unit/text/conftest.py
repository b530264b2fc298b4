"""The real encoder, loaded once: TensorFlow and KerasHub take some seconds to import."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pathlib import Path

import pytest

from heft.text.checkpoint import Checkpoint, find_checkpoint
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.settings import TextSettings


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return find_checkpoint("minilm")


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    return load_encoder(TextSettings())


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    """A copy of the bundled checkpoint whose small files a test may change."""
    for source in checkpoint.folder.rglob("*"):
        target = tmp_path / source.relative_to(checkpoint.folder)
        if source.is_dir():
            target.mkdir()
        elif source.suffix == ".safetensors":
            target.symlink_to(source)
        elif source.stat().st_size < 1 << 20:
            target.write_bytes(source.read_bytes())
    return tmp_path
