"""The gate: what weighting harmed is not blessed, and Pusher does not push it."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.evaluator import constants
from tfx.components.pusher.executor import Executor as Pusher
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils, proto_utils

from components.artifacts import SampleImportance, WeightingVerdict
from components.slice_tagger.executor import Executor as Tagger
from components.weighting_judge.executor import Executor
from heft import features as f
from heft.evaluation import BootstrapSettings, EvaluationSettings
from heft.evaluation.judging import read_verdict
from heft.evaluation.tagging import SliceSettings
from heft.examples import write_columns

QUERIES, ITEMS = 60, 8
QUICK = EvaluationSettings(bootstrap=BootstrapSettings(resamples=100), slice_resamples=20)


class _Scorer(tf.Module):
    """Ranks by the price, which in these examples is the truth; `sign` turns it round."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples(self, examples):
        spec = {"price": tf.io.FixedLenFeature([], tf.float32)}
        click = tf.sigmoid(self.sign * tf.io.parse_example(examples, spec)["price"])
        return {f.CTR: click, f.CVR: click, f.CTCVR: click * click}


def _model(folder: Path, sign: float, identifier: int):
    scorer = _Scorer(sign)
    artifact = standard_artifacts.Model()
    artifact.uri, artifact.id = str(folder), identifier
    path = path_utils.serving_model_dir(str(folder))
    tf.saved_model.save(scorer, path, signatures={"examples": scorer.examples})
    return artifact


def _examples(folder: Path):
    rng = np.random.default_rng(0)
    rows = QUERIES * ITEMS
    grade = rng.integers(0, 4, rows)
    query = np.repeat([f"query {k}".encode() for k in range(QUERIES)], ITEMS).astype(object)
    columns = {
        f.QUERY: query,
        f.REQUEST_ID: query,
        "price": (grade - 1.5 + rng.normal(0, 0.5, rows)).astype(np.float32),
        f.ITEM_ID: np.array([f"item {k}".encode() for k in range(rows)], object),
        "device": np.array([b"mobile", b"desktop"] * (rows // 2), object),
    }
    click = (rng.random(rows) < grade / 4).astype(np.int64)
    logged = {f.CLICK: click, f.CONVERSION: click, f.POSITION: np.tile(np.arange(1, 9), QUERIES)}
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names([f.NATURAL, f.GRADED])
    write_columns(columns | logged, folder / "Split-natural" / "a.gz")
    write_columns(columns | {f.GRADE: grade.astype(np.float32)}, folder / "Split-graded" / "a.gz")
    return artifact


def _blessing(folder: Path, blessed: int):
    artifact = standard_artifacts.ModelBlessing()
    artifact.uri = str(folder)
    artifact.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
    return artifact


@pytest.mark.parametrize(
    ("weighted", "control", "last", "evaluator", "blessed", "outcome"),
    [
        (1.0, -1.0, None, 1, True, "helped"),
        (1.0, 1.0, None, 1, True, "no difference shown"),
        (-1.0, 1.0, None, 1, False, "harmed"),
        (1.0, -1.0, None, 0, False, "helped"),
        (1.0, -1.0, 1.0, 1, True, "helped"),
        (-1.0, -1.0, 1.0, 1, False, "no difference shown"),
    ],
)
def test_the_gate(tmp_path, weighted, control, last, evaluator, blessed, outcome):
    model = _model(tmp_path / "model", weighted, 7)
    verdict, blessing = WeightingVerdict(), _blessing(tmp_path / "blessing", 0)
    verdict.uri = str(tmp_path / "verdict")
    Executor().Do(
        {
            "examples": [_examples(tmp_path / "examples")],
            "tagged_examples": [],
            "model": [model],
            "control_model": [_model(tmp_path / "control", control, 8)],
            "evaluator_blessing": [_blessing(tmp_path / "evaluator", evaluator)],
            "importance": [],
            "last_model": [] if last is None else [_model(tmp_path / "last", last, 6)],
        },
        {"verdict": [verdict], "blessing": [blessing]},
        {"settings": QUICK.model_dump_json(), "slices": "device"},
    )
    found = read_verdict(verdict.uri)
    assert found.verdict.outcome == outcome
    assert found.verdict.view == f.GRADED
    assert found.baseline == ("base rate" if last is None else "last blessed model")
    auc = found.views[f.NATURAL].metric("ctr_auc")
    # A model turned round has the AUC turned round, and a base rate ranks nothing.
    turned = last is not None and last != weighted
    expected = 0.5 if last is None else (1 - auc.weighted if turned else auc.weighted)
    assert auc.baseline == pytest.approx(expected, abs=1e-9)
    assert bool(blessing.get_int_custom_property("blessed")) == blessed
    assert blessing.get_int_custom_property("current_model_id") == 7
    assert _pushed(model, blessing, tmp_path) == blessed


def _pushed(model, blessing, folder: Path) -> bool:
    """Whether TFX's own Pusher takes the blessing for a yes."""
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(folder / "pushed")
    served = folder / "serving"
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(served))
    )
    Pusher().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return served.is_dir() and any(served.iterdir())


def test_views_are_read_with_their_tags_and_natural_pages_without_positions(tmp_path):
    """No shuffled pages: clicks are counted by inverse propensity, which importance knows."""
    examples, tagged = _examples(tmp_path / "examples"), standard_artifacts.Examples()
    tagged.uri = str(tmp_path / "tagged")
    outputs = {"tagged_examples": [tagged]}
    Tagger().Do({"examples": [examples]}, outputs, {"settings": SliceSettings().model_dump_json()})
    assert artifact_utils.decode_split_names(tagged.split_names) == [f.NATURAL, f.GRADED]
    importance = SampleImportance()
    importance.uri = str(tmp_path / "importance")
    (tmp_path / "importance").mkdir()
    line = {"clicks": {"slope": [1.0, 0.5], "offset": [0.0, 0.0]}}
    (tmp_path / "importance" / "importance.json").write_text(json.dumps(line))
    verdict, blessing = WeightingVerdict(), _blessing(tmp_path / "blessing", 0)
    verdict.uri = str(tmp_path / "verdict")
    Executor().Do(
        {
            "examples": [examples],
            "tagged_examples": [tagged],
            "model": [_model(tmp_path / "model", 1.0, 7)],
            "control_model": [_model(tmp_path / "control", -1.0, 8)],
            "evaluator_blessing": [_blessing(tmp_path / "evaluator", 1)],
            "importance": [importance],
        },
        {"verdict": [verdict], "blessing": [blessing]},
        {"settings": QUICK.model_dump_json(), "slices": "query_frequency,device"},
    )
    found = read_verdict(verdict.uri)
    assert set(found.views) == {f.NATURAL, "reweighted", f.GRADED}
    assert found.views["reweighted"].metric("ctr_auc").weighted > 0.6
    values = {(part.column, part.value) for part in found.views[f.NATURAL].slices}
    # Nothing was trained on, so all queries are of one kind, and that is no slice.
    assert values == {("device", "mobile"), ("device", "desktop")}
