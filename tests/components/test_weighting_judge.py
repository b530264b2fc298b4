"""The gate: what weighting harmed is not blessed, and Pusher does not push it."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.evaluator import constants
from tfx.components.pusher.executor import Executor as Pusher
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils, proto_utils

from components.artifacts import WeightingVerdict
from components.weighting_judge.executor import Executor
from heft import features as f
from heft.evaluation import EvaluationSettings
from heft.evaluation.judging import read_verdict
from heft.examples import write_columns

QUERIES, ITEMS = 60, 8


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
        "device": np.array([b"mobile"] * rows, object),
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
    ("weighted", "control", "evaluator", "blessed", "outcome"),
    [
        (1.0, -1.0, 1, True, "helped"),
        (1.0, 1.0, 1, True, "no difference shown"),
        (-1.0, 1.0, 1, False, "harmed"),
        (1.0, -1.0, 0, False, "helped"),
    ],
)
def test_the_gate(tmp_path, weighted, control, evaluator, blessed, outcome):
    model = _model(tmp_path / "model", weighted, 7)
    verdict, blessing = WeightingVerdict(), _blessing(tmp_path / "blessing", 0)
    verdict.uri = str(tmp_path / "verdict")
    Executor().Do(
        {
            "examples": [_examples(tmp_path / "examples")],
            "model": [model],
            "control_model": [_model(tmp_path / "control", control, 8)],
            "evaluator_blessing": [_blessing(tmp_path / "evaluator", evaluator)],
        },
        {"verdict": [verdict], "blessing": [blessing]},
        {"settings": EvaluationSettings().model_dump_json(), "slices": "device"},
    )
    found = read_verdict(verdict.uri)
    assert found.verdict.outcome == outcome
    assert found.verdict.view == f.GRADED
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
