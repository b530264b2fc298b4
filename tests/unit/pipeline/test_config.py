"""A config file is read whole or refused with the key that is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from heft.errors import ConfigError
from heft.features import SAMPLING
from pipeline.config import PipelineConfig, load
from pipeline.schema_files import read_schema

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "pipeline/configs"
MINIMAL: dict[str, Any] = {"name": "shop", "logs": {"root": "/logs"}}


def _file(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(p.name for p in CONFIGS.glob("*.yaml")))
def test_every_config_of_the_project_loads(name: str) -> None:
    config = load(CONFIGS / name)
    assert config.name == Path(name).stem
    dumped = config.model_dump_json()
    assert "{run}" not in dumped and "{data}" not in dumped
    assert config.schema_dir is None or (ROOT / config.schema_dir / "schema.pbtxt").is_file()


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    config = load(_file(tmp_path, MINIMAL))
    assert config == PipelineConfig.model_validate(MINIMAL)
    assert config.simulate is None and config.seed == 0


@pytest.mark.parametrize(
    ("change", "key", "known"),
    [
        ({"modle": {}}, "modle", "'model'"),
        ({"model": {"epoch": 3}}, "model.epoch", "'epochs'"),
        ({"logs": {"root": "/x", "clicks": {"path": "c", "colums": {}}}}, "logs.clicks.colums",
         "'columns'"),
        ({"simulate": {"sesions": 3}}, "simulate.sesions", "'sessions'"),
        ({"evaluation": {"bootstrap": {"samples": 9}}}, "evaluation.bootstrap.samples",
         "'resamples'"),
        ({"thresholds": {"auc": 0.5}}, "thresholds.auc", "'minimum_ctr_auc'"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_those_that_exist(
    tmp_path: Path, change: dict[str, Any], key: str, known: str
) -> None:
    path = _file(tmp_path, MINIMAL | change)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: unknown key '{key}': expected one of [")
    assert known in message and "\n" not in message
    assert caught.value.exit_code == 2


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shop.yaml: missing key 'logs'$"):
        load(_file(tmp_path, {"name": "shop"}))
    with pytest.raises(ConfigError, match=r"missing key 'logs.root'$"):
        load(_file(tmp_path, {"logs": {}}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"epochs": 0}}, r"model.epochs=0: .*greater than or equal to 1"),
        ({"model": {"learning_rate": "fast"}}, r"model.learning_rate='fast': .*valid number"),
        ({"name": "a/b"}, "name='a/b': "),
        ({"name": "../up"}, "name='../up': "),
        ({"importance": {"debias": "magic"}}, r"importance: .*'none'.*debias='magic'"),
        ({"seed": -1}, "seed=-1: "),
        ({"model": None}, "model=None: "),
        ({"logs": {"root": "/x", "splits": {"tune": 0.6, "natural": 0.6}}},
         r"yaml: logs.splits: tune=0.6 and natural=0.6 leave nothing to train on"),
        ({"logs": {"root": "/x", "clicks": None}},
         "yaml: logs: conversions are attributed to clicks"),
        ({"transform": {"categorical": ["device"]}},
         r"yaml: categorical columns \['device'\] are used and not read: .*'brand'"),
        ({"transform": {"numeric": ["margin"]}}, r"numeric columns \['margin'\] .*'price'"),
        ({"slices": ["device"]}, r"columns \['device'\] .* under logs.categorical"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named_with_its_key(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load(_file(tmp_path, MINIMAL | change))


def test_a_column_that_is_read_may_be_used(tmp_path: Path) -> None:
    logs = {"root": "/x", "categorical": ["device"], "numeric": ["margin"]}
    used = {"categorical": ["device"], "numeric": ["margin"]}
    config = load(_file(tmp_path, {"logs": logs, "transform": used, "slices": ["device"]}))
    assert config.transform.categorical == config.slices == ("device",)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"epochs=0.*; unknown key 'speed'"):
        load(_file(tmp_path, MINIMAL | {"model": {"epochs": 0}, "speed": 1}))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a: [1", "is not YAML"), (b"- a\n- b\n", "holds list"), (b"", "holds NoneType"),
     (b"\xff\xfe\x00a", "is not YAML")],
)  # fmt: skip
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(path)


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"no config file at {tmp_path / name}"):
        load(tmp_path / name)


def test_places_are_filled_in(tmp_path: Path) -> None:
    values = MINIMAL | {
        "simulate": {"source": "chorus", "data": "{data}/chorus"},
        "logs": {"root": "{run}/logs"},
        "schema_dir": "{data}/{run}",
    }
    path = _file(tmp_path, values)
    config = load(path, run_dir="/r/a", data_dir="/d")
    assert config.logs.root == "/r/a/logs"
    assert config.simulate is not None and config.simulate.data == "/d/chorus"
    assert config.schema_dir == "/d//r/a"
    assert config.logs.impressions.path == "impressions/span-{SPAN}/*"  # not ours to fill
    assert load(path).logs.root == "runs/shop/logs"


def test_a_name_comes_from_the_file_where_it_states_none(tmp_path: Path) -> None:
    assert load(_file(tmp_path, {"logs": {"root": "{run}"}})).logs.root == "runs/shop"


def test_overrides_go_by_dotted_key_and_before_everything(tmp_path: Path) -> None:
    path = _file(tmp_path, MINIMAL | {"model": {"epochs": 9, "dropout": 0.3}})
    config = load(
        path, overrides={"model.epochs": 2, "name": "other", "importance.quality": {"el2n": 1.0}}
    )
    assert (config.model.epochs, config.model.dropout) == (2, 0.3)
    assert config.name == "other"
    assert config.importance.quality == {"el2n": 1.0}
    with pytest.raises(ConfigError, match=r"unknown key 'model.epoch'"):
        load(path, overrides={"model.epoch": 2})
    with pytest.raises(ConfigError, match=r"'name.first' cannot be set: 'name' is not a group"):
        load(path, overrides={"name.first": 2})


def test_a_seed_is_inherited_by_what_draws_unless_it_has_its_own(tmp_path: Path) -> None:
    values = MINIMAL | {"seed": 5, "simulate": {"sessions": 10}, "model": {"seed": 8}}
    config = load(_file(tmp_path, values))
    assert config.simulate is not None
    assert (config.simulate.seed, config.importance.seed, config.model.seed) == (5, 5, 8)
    over = load(_file(tmp_path, values), overrides={"seed": 6})
    assert over.simulate is not None
    assert (over.seed, over.simulate.seed, over.importance.seed, over.model.seed) == (6, 6, 6, 8)
    assert load(_file(tmp_path, MINIMAL | {"seed": 5})).simulate is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"history": True}}, "model.history=true and logs.history=0"),
        (
            {"transform": {"vectors": ["image"]}},
            r"vector columns \['image'\] are used and not read: .* under logs.vectors",
        ),
    ],
)
def test_inputs_of_the_model_that_no_log_has_are_named(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load(_file(tmp_path, MINIMAL | change))


def test_transform_is_told_how_long_lists_are_and_nothing_where_there_are_none(
    tmp_path: Path,
) -> None:
    assert load(_file(tmp_path, MINIMAL)).widths == {}
    logs = {"root": "/logs", "vectors": {"image": 64, "sound": 32}, "history": 5}
    config = load(_file(tmp_path, {"logs": logs, "transform": {"vectors": ["image"]}}))
    assert config.widths == {"image": 64, "history": 5}


def test_negatives_that_ingest_samples_are_made_up_for_by_weights(tmp_path: Path) -> None:
    sampled = MINIMAL | {"logs": {"root": "/logs", "negative_rate": 0.25}}
    assert "negative_sampling" not in load(_file(tmp_path, MINIMAL)).importance.corrections
    config = load(_file(tmp_path, sampled))
    assert list(config.importance.corrections) == ["fraud", "repetition", "negative_sampling"]
    own = {"importance": {"corrections": {"negative_sampling": {}}}}
    assert list(load(_file(tmp_path, sampled | own)).importance.corrections) == [
        "negative_sampling"
    ]
    for other in ({"model": {"negative_rate": 0.25}}, {"importance": {"sampling_rate": 0.25}}):
        with pytest.raises(ConfigError, match=r"is made up for by itself: leave one of them out"):
            load(_file(tmp_path, sampled | other))
    assert load(_file(tmp_path, MINIMAL | {"model": {"negative_rate": 0.5}}))


def test_the_schema_knows_the_sampling_that_a_config_asks_for(tmp_path: Path) -> None:
    logs = {"root": "/logs"}
    schema = {"schema_dir": str(ROOT / "pipeline/schema/clicks")}
    plain = load(_file(tmp_path, MINIMAL | schema))
    sampled = load(_file(tmp_path, MINIMAL | schema | {"logs": logs | {"negative_rate": 0.5}}))
    text = read_schema(plain)
    assert text == (ROOT / "pipeline/schema/clicks/schema.pbtxt").read_text()
    parsed = text_format.Parse(read_schema(sampled), schema_pb2.Schema())
    (feature,) = [feature for feature in parsed.feature if feature.name == SAMPLING]
    assert feature.type == schema_pb2.FLOAT
