"""The nodes of a run: what they are compared with, and what makes them run again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

from components.artifacts import GATE_FORMAT, TextEmbeddings
from heft.errors import ConfigError
from pipeline import digest
from pipeline.config import load
from pipeline.pipeline import (
    Places,
    create_finetuning_pipeline,
    create_pipeline,
    create_weighing_pipeline,
)
from pipeline.resolvers import BlessedBefore, LatestBefore, PassedBefore

ROOT = Path(__file__).parents[3]


def _artifact(kind: type[Artifact], number: int) -> Artifact:
    artifact = kind()
    artifact.id = number
    artifact.uri = f"/artifacts/{number}"
    return artifact


def _model(number: int) -> Artifact:
    return _artifact(standard_artifacts.Model, number)


def _blessing(number: int, model: int, blessed: bool) -> Artifact:
    blessing = _artifact(standard_artifacts.ModelBlessing, number)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model)
    return blessing


def _baseline(models: list[int], blessed: dict[int, bool], candidate: int) -> list[int]:
    blessings = [_blessing(100 + m, m, good) for m, good in blessed.items()]
    given = {
        "model": [_model(m) for m in models],
        "model_blessing": blessings,
        "candidate": [_model(candidate)],
    }
    found = BlessedBefore().resolve_artifacts(None, given)
    assert [x.id for x in found["candidate"]] == [candidate]
    assert [x.id for x in found["model_blessing"]] == [100 + x.id for x in found["model"]]
    return [x.id for x in found["model"]]


@pytest.mark.parametrize(
    ("models", "blessed", "candidate", "expected"),
    [
        ([7], {}, 7, []),  # a first run
        ([7, 3, 5], {3: True, 5: True}, 7, [5]),
        ([3, 5, 7], {3: True, 5: False}, 7, [3]),  # the last one was refused
        ([3, 5, 7], {3: False, 5: False}, 7, []),
        ([3, 5, 7], {3: True, 5: True, 7: True}, 7, [5]),  # a finished run, repeated
        ([3, 5, 7, 9], {3: True, 9: True}, 7, [3]),  # blessed later than the candidate
        ([5, 7], {3: True}, 7, []),  # the blessed model is gone
    ],
)
def test_the_baseline_is_the_last_model_blessed_before_the_candidate(
    models: list[int], blessed: dict[int, bool], candidate: int, expected: list[int]
) -> None:
    assert _baseline(models, blessed, candidate) == expected


@pytest.mark.parametrize(
    ("earlier", "expected"), [([], []), ([8], []), ([2, 6, 4, 8, 9], [6]), ([2, 4], [4])]
)
def test_what_is_taken_over_is_the_latest_before(earlier: list[int], expected: list[int]) -> None:
    kind = TextEmbeddings
    given = {"earlier": [_artifact(kind, n) for n in earlier], "candidate": [_artifact(kind, 8)]}
    found = LatestBefore().resolve_artifacts(None, given)
    assert [x.id for x in found["earlier"]] == expected


def _passed(number: int, span: int, version: int = 1) -> Artifact:
    artifact = _artifact(standard_artifacts.ExampleAnomalies, number)
    artifact.span = span
    artifact.set_int_custom_property(GATE_FORMAT, version)
    return artifact


@pytest.mark.parametrize(
    ("passed", "candidate", "expected"),
    [
        ({}, 1, []),  # a first run
        ({7: 1}, 1, []),  # the same span again, or a finished run repeated
        ({7: 1}, 2, [7]),
        ({7: 1}, 4, [7]),  # spans 2 and 3 were rejected, and left nothing
        ({7: 1, 9: 2, 11: 3, 13: 4}, 5, [9, 11, 13]),  # three are asked for
        ({7: 1, 9: 2, 11: 3}, 2, [7]),  # an old span, when later ones are there
        ({7: 1, 9: 1, 8: 2}, 3, [9, 8]),  # a span that passed again, as code has changed
    ],
)
def test_a_span_is_compared_with_those_that_passed_before_it(
    passed: dict[int, int], candidate: int, expected: list[int]
) -> None:
    examples = _artifact(standard_artifacts.Examples, 20)
    examples.span = candidate
    given = {"passed": [_passed(*x) for x in passed.items()], "candidate": [examples]}
    found = PassedBefore(3, 0, 1).resolve_artifacts(None, given)
    assert [x.id for x in found["passed"]] == expected
    assert found["candidate"] == [examples]


def test_history_begins_where_the_config_says_and_with_files_that_can_be_read() -> None:
    examples = _artifact(standard_artifacts.Examples, 20)
    examples.span = 9
    earlier = [_passed(1, 3), _passed(2, 5), _passed(4, 6, version=0), _passed(3, 7)]
    given = {"passed": earlier, "candidate": [examples]}
    found = PassedBefore(5, 5, 1).resolve_artifacts(None, given)
    assert [x.span for x in found["passed"]] == [5, 7]
    assert PassedBefore(5, 9, 1).resolve_artifacts(None, given)["passed"] == []


def _nodes(overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """Every node's execution properties, which are what its cache key is made of."""
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides=overrides)
    places = Places("/runs/demo/artifacts", "/runs/demo/metadata.db", "/runs/demo/serving")
    pipeline = create_pipeline(config, places, "fingerprint")
    return {node.id: str(sorted(node.exec_properties.items())) for node in pipeline.components}


@pytest.fixture(scope="module")
def nodes() -> dict[str, Any]:
    return _nodes()


def _changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    assert list(before) == list(after)
    return {name for name in before if before[name] != after[name]}


LIBRARY = {
    "LogExampleGen", "AnomalyGate", "Transform", "TextEmbedder", "ImportanceEstimator",
    "FeatureRanker", "WeightedTrainer", "SliceTagger", "WeightingJudge", "ServingValidator",
    "ReportGen",
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "rerun", "kept"),
    [
        ("src/heft/features.py", LIBRARY, set()),
        ("src/heft/importance/combine.py", {"ImportanceEstimator"},
         {"LogExampleGen", "Transform", "TextEmbedder"}),
        ("src/heft/selection/measures.py", {"FeatureRanker"},
         {"TextEmbedder", "ImportanceEstimator", "Evaluator"}),
        ("src/heft/model/losses.py", {"WeightedTrainer"},
         LIBRARY - {"WeightedTrainer", "ReportGen"}),
        ("src/heft/transform.py", {"Transform", "WeightedTrainer"},
         {"LogExampleGen", "AnomalyGate"}),
        ("src/heft/logs/attribution.py", {"LogExampleGen"}, LIBRARY - {"LogExampleGen"}),
        ("src/heft/evaluation/bootstrap.py", {"WeightingJudge"}, {"WeightedTrainer", "Transform"}),
        ("src/heft/evaluation/tfma_metrics.py", {"Evaluator"}, LIBRARY),
        ("src/heft/evaluation/tagging.py", {"SliceTagger"}, {"WeightedTrainer", "WeightingJudge"}),
        ("src/heft/report/templates/report.css", {"ReportGen"}, LIBRARY - {"ReportGen"}),
        ("components/udfs.py", {"WeightedTrainer"}, {"LogExampleGen", "TextEmbedder"}),
        ("components/log_transform/executor.py", {"Transform"}, LIBRARY - {"Transform"}),
        ("serving/local/answers.py", {"ServingValidator"}, LIBRARY - {"ServingValidator"}),
        ("README.md", set(), LIBRARY),
    ],
)  # fmt: skip
def test_a_changed_file_runs_again_the_nodes_that_use_it(
    nodes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    file: str, rerun: set[str], kept: set[str],
) -> None:  # fmt: skip
    for package in ("src/heft", "components", "serving"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    (tmp_path / "README.md").touch()
    monkeypatch.setattr(digest, "_ROOT", tmp_path)
    assert _changed(nodes, _nodes()) == set()
    with (tmp_path / file).open("a") as changed:
        changed.write("\n# one more line\n")
    found = _changed(nodes, _nodes())
    assert rerun <= found
    assert not kept & found


@pytest.mark.parametrize(
    ("key", "value", "rerun"),
    [
        ("logs.click_window", 60, {"LogExampleGen"}),
        ("transform.minimum_count", 9, {"Transform", "FeatureRanker", "WeightedTrainer"}),
        ("text.title_dimensions", 5, {"TextEmbedder"}),
        ("importance.clip", 2.0, {"ImportanceEstimator"}),
        ("ranking.bins", 8, {"FeatureRanker"}),
        ("model.epochs", 9, {"WeightedTrainer"}),
        ("tune.trials", 9, set()),
        ("evaluation.tolerance", 0.5, {"WeightingJudge"}),
        ("evaluation.bins", 10, {"WeightingJudge", "Evaluator"}),
        ("slice_bands.head", 0.2, {"SliceTagger"}),
        ("thresholds.minimum_ctr_auc", 0.9, {"Evaluator"}),
        ("serving_check.rows", 7, {"ServingValidator"}),
        ("gate.labels", {"ratio": [0.5, 2.0]}, {"AnomalyGate"}),
        ("gate.spans", 9, {"AnomalyGate", "passed_spans"}),
    ],
)
def test_a_changed_setting_runs_again_the_nodes_that_read_it(
    nodes: dict[str, Any], key: str, value: Any, rerun: set[str]
) -> None:
    assert _changed(nodes, _nodes({key: value})) == rerun


def test_a_search_runs_the_nodes_that_a_run_takes_from_the_cache(nodes: dict[str, Any]) -> None:
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides={"tune.trials": 3})
    places = Places("/runs/demo/artifacts", "/runs/demo/metadata.db", "/runs/demo/serving")
    pipeline = create_weighing_pipeline(config, places, "fingerprint")
    mine = {node.id: str(sorted(node.exec_properties.items())) for node in pipeline.components}
    assert "WeightedTrainer" not in mine and list(mine)[-1] == "ImportanceEstimator"
    assert mine == {name: nodes[name] for name in mine}
    assert pipeline.pipeline_info.pipeline_name == "demo"


def test_pairs_are_read_where_a_config_asks_for_attention(nodes: dict[str, Any]) -> None:
    assert "PairReader" not in nodes
    asked: dict[str, Any] = {"importance.value": {"attention": 0.5}}
    reading = _nodes(asked)
    assert list(reading).index("PairReader") < list(reading).index("ImportanceEstimator")
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides=asked)
    street = create_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    inputs = {node.id: set(node.inputs) for node in street.components}
    assert "readings" in inputs["ImportanceEstimator"]
    assert "previous" in inputs["PairReader"]
    inside = {
        "importance.value": {"ensemble": 0.0},
        "importance.estimators": {"ensemble": {"members": ["label_quality", "-attention"]}},
    }
    assert "PairReader" in _nodes(inside)
    # An exponent is none of its business, and how many pairs are read is.
    other = _nodes({"importance.value": {"attention": 0.7}})
    assert _changed(reading, other) == {"ImportanceEstimator"}
    more = _nodes(asked | {"importance.attention_pairs": 9})
    assert _changed(reading, more) == {"PairReader", "ImportanceEstimator"}


def _plan(**overrides: Any) -> dict[str, Any]:
    """Every node of a run, by name."""
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides=overrides)
    street = create_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    return {node.id: node for node in street.components}


def test_the_trainer_reads_the_ranking_where_it_selects_and_only_there() -> None:
    assert "ranking" not in _plan()["WeightedTrainer"].inputs
    selecting = _plan(**{"model.selection": {"top": 5}})
    assert "ranking" in selecting["WeightedTrainer"].inputs
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides={"model.selection": {"top": 5}})
    search = create_weighing_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    assert list(search.components)[-1].id == "FeatureRanker"


def test_a_fine_tuned_encoder_stands_before_the_embedder() -> None:
    assert "FineTuner" not in _plan()
    clicks = _plan(**{"text.finetune": {"steps": 7}})
    assert "ParentEmbedder" not in clicks
    assert "encoder" in clicks["TextEmbedder"].inputs
    assert '"seed":7' in clicks["FineTuner"].exec_properties["text"], "the config's own"
    # What comes of fine-tuning is the encoder, not its settings.
    other = _plan(**{"text.finetune": {"steps": 8}})
    properties = [plan["TextEmbedder"].exec_properties for plan in (clicks, other)]
    assert properties[0] == properties[1]
    weighted = _plan(
        **{"text.finetune": {"weighted": True}, "importance.value": {"attention": 0.5}}
    )
    names = list(weighted)
    before = ["ParentEmbedder", "ParentImportance", "FineTuner", "TextEmbedder"]
    assert sorted(before, key=names.index) == before
    assert "readings" not in weighted["ParentImportance"].inputs
    assert "readings" in weighted["ImportanceEstimator"].inputs


def test_fine_tuning_alone_runs_the_nodes_that_a_run_takes_from_the_cache() -> None:
    asked = {"text.finetune": {"steps": 7}}
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides=asked)
    alone = create_finetuning_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    street = _plan(**asked)
    assert list(alone.components)[-1].id == "FineTuner"
    for node in alone.components:
        assert node.exec_properties == street[node.id].exec_properties


@pytest.mark.parametrize("key", ["model.warm_start", "model.base_model"])
def test_an_encoder_that_changes_hands_no_weights_on(key: str) -> None:
    with pytest.raises(ConfigError, match="the vectors of another encoder"):
        _plan(**{"text.finetune": {}, key: True if key.endswith("start") else "runs/a"})


def test_the_embedder_takes_over_the_table_of_an_earlier_run(nodes: dict[str, Any]) -> None:
    config = load(ROOT / "pipeline/configs/demo.yaml")
    street = create_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    found = {node.id: node for node in street.components}
    previous = found["TextEmbedder"].inputs["previous"]
    assert previous.producer_component_id == "previous_embeddings"
    assert previous.type is TextEmbeddings
    assert list(nodes).index("previous_embeddings") < list(nodes).index("TextEmbedder")


def test_training_never_reads_what_a_model_is_judged_on(nodes: dict[str, Any]) -> None:
    for name in ("Transform", "WeightedTrainer"):
        for view in ("natural", "shuffled", "graded"):
            assert view not in nodes[name]
    assert "natural" in nodes["Evaluator"]


def test_slices_that_follow_from_training_are_always_among_those_that_are_judged() -> None:
    plan = _plan(**{"evaluation.fairness": {"columns": ["brand"]}, "slices": ["category"]})
    for node, key in (("Evaluator", "eval_config"), ("WeightingJudge", "slices")):
        for name in ("category", "brand", "query_frequency", "item_novelty"):
            assert name in str(plan[node].exec_properties[key])
    examples = plan["Evaluator"].inputs["examples"]
    assert examples.producer_component_id == "SliceTagger"
    assert plan["WeightingJudge"].inputs["last_model"].producer_component_id == (
        "latest_blessed_model"
    )


def test_the_runner_is_named_and_arguments_of_the_config_come_last() -> None:
    config = load(ROOT / "pipeline/configs/demo.yaml", overrides={"beam": ["--x=1"]})
    pipeline = create_pipeline(config, Places("/a", "/m.db", "/s"), "fingerprint")
    assert "--runner=FnApiRunner" in pipeline.beam_pipeline_args
    assert pipeline.beam_pipeline_args[-1] == "--x=1"
    assert pipeline.enable_cache
