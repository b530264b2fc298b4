"""LogExampleGen run by TFX, with StatisticsGen behind it."""

import json
from pathlib import Path

import pytest
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.components.statistics_gen.executor import Executor as StockStatistics
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.artifact import Artifact

from components.artifacts import Quarantine
from components.log_example_gen.component import LogExampleGen
from components.log_example_gen.executor import Executor
from components.log_statistics.executor import Executor as LogStatistics
from heft.errors import DataError
from heft.logs import LogsSettings, StreamSettings, input_fingerprint
from heft.logs.ingest import local_pipeline
from tests.unit.logs.logbook import put_shop, shop


def _artifact(kind: type[Artifact], path: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(path)
    path.mkdir(parents=True, exist_ok=True)
    return artifact


def _context() -> BaseBeamExecutor.Context:
    return BaseBeamExecutor.Context(make_beam_pipeline_fn=local_pipeline)


def _settings(root: Path) -> LogsSettings:
    return LogsSettings(
        root=str(root), grades=StreamSettings(path="grades/*"), categorical=("device",), buckets=4
    )


def _run(settings: LogsSettings, out: Path) -> tuple[Artifact, Artifact]:
    """The executor, with the properties the component would give it."""
    node = LogExampleGen(settings, input_fingerprint(settings), "digest")
    examples = _artifact(standard_artifacts.Examples, out / "examples")
    quarantine = _artifact(Quarantine, out / "quarantine")
    Executor(_context()).Do(
        {}, {"examples": [examples], "quarantine": [quarantine]}, dict(node.exec_properties)
    )
    return examples, quarantine


def test_statistics_gen_reads_every_split(tmp_path: Path) -> None:
    log = shop(80) | {"grades": [{"query": "q", "item_id": "p1", "grade": 2}]}
    log["clicks"].append({"impression_id": "", "timestamp": 5})
    examples, quarantine = _run(_settings(put_shop(tmp_path / "log", log, span=4)), tmp_path)
    splits = artifact_utils.decode_split_names(examples.split_names)
    assert set(splits) == {"train", "tune", "harvest", "natural", "shuffled", "graded"}
    assert examples.span == 4
    assert examples_utils.get_payload_format(examples) == example_gen_pb2.FORMAT_TF_EXAMPLE
    assert quarantine.rows == 1

    statistics = _statistics(LogStatistics, examples, tmp_path / "statistics")
    counted = {}
    for split in splits:
        (dataset,) = stats_artifact_utils.load_statistics(statistics, split).proto().datasets
        counted[split] = dataset.num_examples
        names = {feature.path.step[0] for feature in dataset.features}
        assert ("click" in names) == (split != "graded")
        assert "device" in names
    summary = json.loads((tmp_path / "quarantine/summary.json").read_text())
    assert counted == summary["splits"]
    assert sum(counted.values()) == 240 + 1


def test_statistics_are_those_of_the_stock_executor(tmp_path: Path) -> None:
    log = shop(80)
    examples, _ = _run(_settings(put_shop(tmp_path / "log", log | {"grades": []})), tmp_path)
    found = []
    for executor in (StockStatistics, LogStatistics):
        made = _statistics(executor, examples, tmp_path / executor.__module__)
        read = stats_artifact_utils.load_statistics(made, "train").proto().datasets[0]
        features = {feature.path.step[0]: feature for feature in read.features}
        found.append((read.num_examples, features))
    (rows, stock), (own_rows, own) = found
    assert rows == own_rows > 0
    assert stock.keys() == own.keys()
    for name, feature in stock.items():
        for kind, names in (("num_stats", ("mean", "std_dev", "min", "max", "num_zeros")),
                            ("string_stats", ("unique", "avg_length"))):  # fmt: skip
            left, right = getattr(feature, kind), getattr(own[name], kind)
            assert left.common_stats.num_missing == right.common_stats.num_missing, name
            for one in names:
                assert getattr(left, one) == pytest.approx(getattr(right, one), rel=1e-6), name


def _statistics(executor: type[StockStatistics], examples: Artifact, path: Path) -> Artifact:
    statistics = _artifact(standard_artifacts.ExampleStatistics, path)
    executor(_context()).Do(
        {standard_component_specs.EXAMPLES_KEY: [examples]},
        {standard_component_specs.STATISTICS_KEY: [statistics]},
        {standard_component_specs.EXCLUDE_SPLITS_KEY: json.dumps([])},
    )
    return statistics


def test_splits_without_rows_are_not_named(tmp_path: Path) -> None:
    log = shop()
    for row in log["impressions"]:
        row["randomised"] = False
    settings = _settings(put_shop(tmp_path / "log", log)).model_copy(update={"grades": None})
    examples, quarantine = _run(settings, tmp_path)
    assert artifact_utils.decode_split_names(examples.split_names) == ["train", "tune", "natural"]
    assert quarantine.rows == 0


def test_a_bad_log_stops_the_node_with_its_own_message(tmp_path: Path) -> None:
    settings = _settings(put_shop(tmp_path / "log", shop() | {"grades": [{"query": "q"}]}))
    with pytest.raises(DataError, match="grades: column 'item_id' is not in"):
        _run(settings, tmp_path)


def test_the_cache_key_follows_data_settings_and_source(tmp_path: Path) -> None:
    settings = _settings(put_shop(tmp_path / "log", shop() | {"grades": []}))
    node = LogExampleGen(settings, "fingerprint", "digest")
    properties = node.exec_properties
    assert LogsSettings.model_validate_json(properties["settings"]) == settings
    assert properties["input_fingerprint"] == "fingerprint"
    assert properties["source_digest"] == "digest"
