import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heft.errors import EncoderError
from heft.text.checkpoint import Checkpoint, find_checkpoint, fingerprint, read_checkpoint
from heft.text.encoder import load_encoder
from heft.text.settings import TextSettings


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_bundled_checkpoint_is_read_as_its_authors_meant(checkpoint: Checkpoint) -> None:
    assert (checkpoint.dim, checkpoint.max_positions, checkpoint.pooling) == (384, 512, "mean")
    assert (checkpoint.lowercase, checkpoint.strip_accents, checkpoint.split_cjk) == (True,) * 3
    assert len(checkpoint.vocabulary()) == 30_522
    assert checkpoint.vocabulary()[101] == "[CLS]"


def test_cls_pooling_is_read_from_the_pooling_module(folder: Path) -> None:
    change(
        folder / "1_Pooling/config.json",
        pooling_mode_mean_tokens=False,
        pooling_mode_cls_token=True,
    )
    assert read_checkpoint(folder).pooling == "cls"


def test_accents_follow_case_unless_said(folder: Path) -> None:
    change(folder / "tokenizer_config.json", do_lower_case=False)
    assert read_checkpoint(folder).strip_accents is False
    change(folder / "tokenizer_config.json", strip_accents=True)
    assert read_checkpoint(folder).strip_accents is True


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"model_type": "roberta"}, "model_type='roberta'.*expected 'bert'"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "pooling_mode='max'; expected one of"),
        ("tokenizer_config.json", {"mask_token": "<mask>"}, "<mask> are not in the vocabulary"),
    ],
)
def test_what_cannot_be_used_is_named(
    folder: Path, file: str, values: dict[str, Any], message: str
) -> None:
    change(folder / file, **values)
    with pytest.raises(EncoderError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_pooling_is_read_as_newer_sentence_transformers_write_it(folder: Path, mode: str) -> None:
    stated = {"embedding_dimension": 384, "pooling_mode": mode, "include_prompt": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(stated))
    assert read_checkpoint(folder).pooling == mode


def test_a_word_piece_that_is_there_twice_is_named(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("drill\n")
    with pytest.raises(EncoderError, match="'drill' is there twice"):
        read_checkpoint(folder)


def test_a_special_token_may_be_named_in_the_map_alone(folder: Path) -> None:
    change(folder / "tokenizer_config.json", mask_token=None)
    change(folder / "special_tokens_map.json", mask_token="[unused0]")
    assert read_checkpoint(folder).special[4] == "[unused0]"


def test_an_unknown_module_is_refused(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match=r"models\.Dense"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=name.replace("model", r"\*?")):
        read_checkpoint(folder)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(EncoderError, match="'./nowhere': no such folder"):
        find_checkpoint("./nowhere")


def test_weights_of_another_shape(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=7)
    with pytest.raises(EncoderError, match="weights do not load"):
        load_encoder(TextSettings(encoder=str(folder)))


def test_more_tokens_than_positions() -> None:
    with pytest.raises(EncoderError, match="max_tokens=513 is above the 512 positions"):
        load_encoder(TextSettings(max_tokens=513))


def test_the_fingerprint_changes_with_what_decides_the_vectors(
    checkpoint: Checkpoint, folder: Path
) -> None:
    original = fingerprint(checkpoint.folder)
    assert fingerprint(folder) == original
    (folder / "README.md").write_text("another")
    assert fingerprint(folder) == original
    change(folder / "tokenizer_config.json", do_lower_case=False)
    lowercase = fingerprint(folder)
    shutil.copy(folder / "vocab.txt", folder / "old.txt")
    (folder / "vocab.txt").write_text((folder / "old.txt").read_text().replace("drill", "dirll"))
    assert len({original, lowercase, fingerprint(folder)}) == 3
