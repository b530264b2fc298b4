"""From a config through the file that `heft compile` writes to a pushed model, pod by pod."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.e2e.conftest import heft
from tests.kubeflow.backend import ROOT, Backend, Run
from tests.kubeflow.configs import CLUSTER, STREET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

SESSIONS = 1_500
PREDICT = """
import json, sys
from heft.model.predict import predict_columns
titles = ["red shoes", "blue lamp", "shoes for men"]
found = predict_columns(sys.argv[1], "red shoes", titles, {})
print(json.dumps({name: [float(x) for x in rates] for name, rates in found.items()}))
"""


@dataclass(frozen=True)
class Compiled:
    """A street in a cluster of one machine."""

    folder: Path
    backend: Backend
    run: Run

    @property
    def shared(self) -> Path:
        return self.folder / "shared"


def compiled(folder: Path, name: str, *options: str) -> Backend:
    """What the command writes, in a backend; each has its own shared folder."""
    config = folder / f"{name}.yaml"
    text = (STREET + CLUSTER).replace("SHARED", str(folder / "shared"))
    # Another number than is asked for when the file is submitted.
    config.write_text(_with_schema(text).replace("SESSIONS", "1000"))
    out = folder / f"{name}-pipeline.yaml"
    heft("compile", config, "--out", out, *options)
    spec, *_ = yaml.safe_load_all(out.read_text())
    return Backend(spec, folder / name)


def _with_schema(text: str) -> str:
    return text.replace("SCHEMA", str(ROOT / "pipeline/schema/clicks"))


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("cluster")
    backend = compiled(folder, "one")
    return Compiled(folder, backend, backend.run("first", {"sessions": SESSIONS}))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same street on one machine: its folder."""
    folder = tmp_path_factory.mktemp("machine")
    config = folder / "small.yaml"
    config.write_text(_with_schema(STREET).replace("SESSIONS", str(SESSIONS)))
    heft("run", config, "--runs", folder / "runs")
    return folder / "runs" / "small"


def _of(local: Path, node: str, key: str) -> Path:
    [execution] = (local / "artifacts" / node / key).iterdir()
    return execution


def _rows(folder: Path) -> dict[str, dict[str, tuple]]:
    """Features of every row, by split and impression: neither the order of rows nor that of
    features in a record is the same twice."""
    import tensorflow as tf

    found = {}
    for file in sorted(folder.rglob("*.gz")):
        for record in tf.compat.v1.io.tf_record_iterator(
            str(file), tf.io.TFRecordOptions(compression_type="GZIP")
        ):
            features = tf.train.Example.FromString(record).features.feature
            row = {
                name: tuple(getattr(one, one.WhichOneof("kind")).value) if one.ListFields() else ()
                for name, one in features.items()
            }
            [impression] = row["impression_id"]
            found[f"{file.parent.name} {impression}"] = row
    return found


def _same(there: dict[str, dict[str, tuple]], here: dict[str, dict[str, tuple]]) -> None:
    """Sums over rows are in the order in which rows come, so that a float may end otherwise."""
    assert there.keys() == here.keys()
    for key, row in here.items():
        assert there[key].keys() == row.keys()
        for name, value in row.items():
            if value and isinstance(value[0], float):
                assert there[key][name] == pytest.approx(value, rel=1e-4, abs=1e-6), (key, name)
            else:
                assert there[key][name] == value, (key, name)


def predictions(model: Path) -> dict[str, np.ndarray]:
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(model)], cwd=ROOT, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {name: np.array(values) for name, values in found.items()}


def test_a_model_is_pushed_that_says_what_the_one_of_one_machine_says(
    pods: Compiled, local: Path
) -> None:
    [pushed] = (pods.shared / "serving" / "small").glob("[0-9]*")
    [alone] = (local / "serving" / "heft").glob("[0-9]*")
    there, here = predictions(pushed), predictions(alone)
    assert there.keys() == here.keys() >= {"ctr", "cvr", "ctcvr"}
    for name, rates in here.items():
        np.testing.assert_allclose(there[name], rates, rtol=0.02)
    assert np.ptp(here["ctr"]) > 0


@pytest.mark.parametrize(
    ("task", "node", "key"),
    [
        ("log-example-gen", "LogExampleGen", "examples"),
        ("transform", "Transform", "transformed_examples"),
        ("slice-tagger", "SliceTagger", "tagged_examples"),
    ],
)
def test_examples_are_the_same(pods: Compiled, local: Path, task: str, node: str, key: str) -> None:
    there, here = _rows(pods.run.path(task, key)), _rows(_of(local, node, key))
    assert len(here) > SESSIONS
    _same(there, here)


def test_vectors_weights_and_verdict_are_the_same(pods: Compiled, local: Path) -> None:
    vectors = {}
    for name, folder in (
        ("there", pods.run.path("text-embedder", "embeddings")),
        ("here", _of(local, "TextEmbedder", "embeddings")),
    ):
        vectors[name] = {p.name: np.load(p) for p in sorted(folder.glob("*.npy"))}
    assert vectors["here"]
    assert vectors["there"].keys() == vectors["here"].keys()
    for name, matrix in vectors["here"].items():
        np.testing.assert_array_equal(vectors["there"][name], matrix)
    there = _rows(pods.run.path("importance-estimator", "weighted_examples"))
    _same(there, _rows(_of(local, "ImportanceEstimator", "weighted_examples")))
    report = pods.run.path("report-gen", "report")
    facts = json.loads((report / "facts.json").read_text())
    assert facts["pushed"] is True
    assert (report / "index.html").stat().st_size > 10_000


def test_what_the_metadata_store_is_told_is_in_the_bucket(pods: Compiled) -> None:
    outputs = pods.run.outputs
    for artifacts in outputs.values():
        for artifact in artifacts.values():
            assert artifact["uri"].startswith("file://")
    examples = outputs["log-example-gen"]["examples"]["metadata"]
    assert examples["span"] >= 0
    assert examples["rows"] > SESSIONS  # so many pages as were asked for at submission
    blessing = outputs["weighting-judge"]["blessing"]["metadata"]
    assert blessing["blessed"] == 1
    assert blessing["current_model"] == outputs["weighted-trainer"]["model"]["uri"]


def _second_model(pods: Compiled) -> dict:
    """As if a later run had trained the model again: another place, the same content."""
    known = json.loads(json.dumps(pods.run.outputs))
    first = pods.run.path("weighted-trainer", "model")
    again = first.parent / "model-again"
    if not again.exists():
        shutil.copytree(first, again)
    known["weighted-trainer"]["model"] |= {"uri": f"file://{again}", "name": "901"}
    return known


def test_a_second_run_takes_up_what_the_first_left(pods: Compiled) -> None:
    known = _second_model(pods)
    second = pods.backend.run("second", only={"text-embedder", "evaluator"}, known=known)
    table = json.loads(next(second.path("text-embedder", "embeddings").glob("*.json")).read_text())
    assert table["reused"] > 0 == table["embedded"]
    # Against the first run's model, whose rates are the same: no loss, and it may be blessed.
    blessing = second.outputs["evaluator"]["blessing"]["metadata"]
    assert blessing["blessed"] == 1
    assert blessing["baseline_model"].startswith(str(pods.shared / "memory" / "small" / "Model"))


def test_a_threshold_that_is_set_at_submission_binds(pods: Compiled) -> None:
    asked = {"minimum_ctr_auc": 0.999}
    strict = pods.backend.run("strict", asked, only={"evaluator"}, known=_second_model(pods))
    assert strict.outputs["evaluator"]["blessing"]["metadata"]["blessed"] == 0


def test_two_pods_train_one_model_together(pods: Compiled) -> None:
    backend = compiled(pods.folder, "two", "--set", "kubeflow.workers=2")
    tasks = {"weighted-trainer", "weighted-trainer-worker-1"}
    run = backend.run("together", only=tasks, known=_second_model(pods))
    chief, other = (run.path(name, "model") for name in sorted(tasks))
    assert (chief / "Format-Serving" / "saved_model.pb").is_file()
    assert not list(other.rglob("saved_model.pb"))
    together = predictions(chief / "Format-Serving")
    alone = predictions(pods.run.path("weighted-trainer", "model") / "Format-Serving")
    # Batch normalisation sees half a batch in each pod: close, not equal.
    assert np.abs(together["ctr"] - alone["ctr"]).max() < 0.1
    assert np.ptp(together["ctr"]) > 0
