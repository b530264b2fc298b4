"""The word pieces of a checkpoint, and how its tokeniser normalises a text.

Older checkpoints have them in vocab.txt and tokenizer_config.json; what transformers 5 saves
has tokenizer.json in place of vocab.txt.
"""

import json
import logging
from pathlib import Path
from typing import Any

from heft.errors import EncoderError

__all__ = [
    "TOKENIZER_FILE", "VOCABULARY_FILE", "read_json", "special_tokens", "tokenizer_settings",
    "word_pieces",
]  # fmt: skip

TOKENIZER_FILE, VOCABULARY_FILE = "tokenizer.json", "vocab.txt"

_SPECIAL = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# What Hugging Face's fast tokeniser calls the settings of tokenizer_config.json.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

_log = logging.getLogger(__name__)


def word_pieces(folder: Path) -> list[str]:
    """The word pieces; a piece's id is its place in the list.

    Raises:
        EncoderError: there are none, they are not WordPiece's, or one is there twice.
    """
    path = folder / VOCABULARY_FILE
    if path.is_file():
        pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    else:
        path = folder / TOKENIZER_FILE
        pieces = _stated(path)
    if len(set(pieces)) < len(pieces):
        twice = next(piece for k, piece in enumerate(pieces) if piece in pieces[:k])
        raise EncoderError(
            f"{path}: the word piece {twice!r} is there twice, so that its id is not one; "
            "download the checkpoint again"
        )
    return pieces


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with what it leaves open from tokenizer.json if that is used."""
    settings = dict(read_json(folder / "tokenizer_config.json", optional=True))
    if not (folder / VOCABULARY_FILE).is_file():
        stated = read_json(folder / TOKENIZER_FILE).get("normalizer") or {}
        if stated.get("type") != "BertNormalizer":
            raise EncoderError(
                f"{folder / TOKENIZER_FILE}: normalizer={stated.get('type')!r}, expected "
                "'BertNormalizer'; choose a checkpoint with BERT's own tokeniser"
            )
        for name, own in _NORMALIZER.items():
            if settings.get(name) is None and own in stated:
                settings[name] = stated[own]
    return settings


def special_tokens(folder: Path, settings: dict[str, Any], pieces: list[str]) -> tuple[str, ...]:
    """`[UNK]`, `[SEP]`, `[PAD]`, `[CLS]`, `[MASK]`, as the checkpoint spells them.

    Raises:
        EncoderError: one of them is no word piece.
    """
    mapped = read_json(folder / "special_tokens_map.json", optional=True)
    tokens = []
    for key in _SPECIAL:
        token = settings.get(key) or mapped.get(key) or f"[{key.removesuffix('_token').upper()}]"
        tokens.append(str(token["content"] if isinstance(token, dict) else token))
    missing = sorted(set(tokens) - set(pieces))
    if missing:
        raise EncoderError(
            f"{folder}: the special tokens {', '.join(missing)} are not in the vocabulary; "
            "it and tokenizer_config.json must belong to the same checkpoint"
        )
    _tell_of_added(folder, settings, tokens)
    return tuple(tokens)


def _stated(path: Path) -> list[str]:
    """The vocabulary in tokenizer.json."""
    model = read_json(path).get("model") or {}
    vocabulary = model.get("vocab")
    prefix = model.get("continuing_subword_prefix", "##")
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(vocabulary, dict):
        raise EncoderError(
            f"{path}: model.type={model.get('type')!r}, expected 'WordPiece' with a vocabulary; "
            "choose a checkpoint with BERT's own tokeniser"
        )
    if sorted(vocabulary.values()) != list(range(len(vocabulary))) or prefix != "##":
        raise EncoderError(
            f"{path}: expected ids 0 to {len(vocabulary) - 1}, each once, and pieces that go on "
            f"with '##', received: prefix={prefix!r}; download the checkpoint again"
        )
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _tell_of_added(folder: Path, settings: dict[str, Any], special: list[str]) -> None:
    added = [str(t.get("content")) for t in (settings.get("added_tokens_decoder") or {}).values()]
    added += read_json(folder / "added_tokens.json", optional=True)
    further = sorted(set(added) - set(special))
    if further:
        _log.warning(
            "%s: the added tokens %s are taken for ordinary words in a text", folder, further
        )
    prompts = read_json(folder / "config_sentence_transformers.json", optional=True)
    if prompts.get("default_prompt_name"):
        _log.warning(
            "%s: its prompt %r is not put before the texts", folder, prompts["default_prompt_name"]
        )


def read_json(path: Path, *, optional: bool = False, kind: type = dict) -> Any:
    """The content of a file of a checkpoint; an empty `kind` if it is `optional` and not there.

    Raises:
        EncoderError: it is missing, is no JSON, or holds something else.
    """
    if not path.is_file():
        if optional:
            return kind()
        raise EncoderError(
            f"{path} is missing; a checkpoint needs config.json, vocab.txt or tokenizer.json, and "
            "*.safetensors"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(
            f"{path} is not JSON ({error}); download the checkpoint again"
        ) from error
    if not isinstance(content, kind):
        raise EncoderError(f"{path} holds a {type(content).__name__}, expected a {kind.__name__}")
    return content
