"""The street on a cluster of Flink or Spark: every Beam node's result is the direct runner's.

`make test-flink` and `make test-spark` fetch the jars of a cluster and run this.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml

from heft import features as f
from heft.text.table import TextTable
from pipeline.beam import beam_args
from pipeline.beam_settings import BeamSettings
from pipeline.config import Thresholds
from pipeline.evaluation import eval_config
from tests.e2e.conftest import Street, heft
from tests.e2e.trained import artifact
from tests.engines.flink import SLOTS, flink_cluster
from tests.engines.java import ENGINES, Cluster
from tests.engines.spark import spark_cluster
from tests.unit.evaluation.tfma_runs import metrics

# The run on the cluster is a fixture: some twenty jobs, each of which takes its time to begin.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module", params=["flink", "spark"])
def cluster(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    start = {"flink": flink_cluster, "spark": spark_cluster}[request.param]
    if not (ENGINES / request.param).is_dir():
        pytest.skip(f"NOT TESTED: {request.param}: `make test-{request.param}` fetches it")
    with start(tmp_path_factory.mktemp(request.param)) as up:
        yield up


@pytest.fixture(scope="module")
def pool(cluster: Cluster) -> Path:
    """Laid over a config, it moves all Beam nodes to the cluster, with workers of a pool."""
    return _laid(cluster, "pool", "external", cluster.pool)


@pytest.fixture(scope="module")
def engine(cluster: Cluster) -> Path:
    """The same with workers that the cluster starts."""
    return _laid(cluster, "engine", "process", cluster.worker)


def _laid(cluster: Cluster, name: str, kind: str, place: str) -> Path:
    path = cluster.folder / f"{name}.yaml"
    beam = {
        "engine": cluster.engine, "job_endpoint": cluster.job_endpoint,
        "environment_type": kind, "environment_config": place,
    }  # fmt: skip
    if cluster.engine == "flink":
        beam["parallelism"] = SLOTS
    path.write_text(yaml.safe_dump({"beam": beam}))
    return path


@pytest.fixture(scope="module")
def there(street: Street, cluster: Cluster, pool: Path, tmp_path_factory: Any) -> Path:
    """The folder of the same run on the cluster."""
    runs = tmp_path_factory.mktemp(f"runs on {cluster.engine}")
    print(heft("run", street.config, "--runs", runs, "--with", pool))
    print(f"{len(cluster.jobs())} jobs on {cluster.engine}")
    return runs / "small"


def _records(folder: Path) -> list[bytes]:
    files = sorted(str(path) for path in folder.rglob("*.gz"))
    assert files, folder
    return [r.numpy() for r in tf.data.TFRecordDataset(files, compression_type="GZIP")]


def _rows(folder: Path) -> tuple[list[tuple[Any, ...]], np.ndarray]:
    """What is exact of each row, sorted, and its floats in the same order."""
    rows = []
    for record in _records(folder):
        features = tf.train.Example.FromString(record).features.feature
        exact: list[Any] = []
        floats: list[float] = []
        for name in sorted(features):
            kind = features[name].WhichOneof("kind")
            if kind == "float_list":
                floats += features[name].float_list.value
            elif kind is not None:
                exact.append((name, tuple(getattr(features[name], kind).value)))
        rows.append((tuple(exact), floats))
    rows.sort()
    return [exact for exact, _ in rows], np.array([floats for _, floats in rows])


def _assert_same_rows(here: Path, there: Path, tolerance: float) -> None:
    (exact, floats), (other_exact, other_floats) = _rows(here), _rows(there)
    assert exact == other_exact
    np.testing.assert_allclose(floats, other_floats, rtol=tolerance, atol=tolerance)


def test_the_cluster_did_the_work(cluster: Cluster, there: Path) -> None:
    jobs = cluster.jobs()
    assert len(jobs) >= 8
    assert set(jobs) == {"FINISHED"}


def test_ingest_writes_the_same_rows(street: Street, there: Path) -> None:
    for split in sorted(artifact(street.folder, "LogExampleGen", "examples").iterdir()):
        other = artifact(there, "LogExampleGen", "examples") / split.name
        assert Counter(_records(split)) == Counter(_records(other)), split.name
    summaries = [
        json.loads((artifact(folder, "LogExampleGen", "quarantine") / "summary.json").read_text())
        for folder in (street.folder, there)
    ]
    assert summaries[0]["streams"] == summaries[1]["streams"]


def test_statistics_are_the_same(street: Street, there: Path) -> None:
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

    for split in sorted(artifact(street.folder, "StatisticsGen", "statistics").iterdir()):
        found = []
        for folder in (street.folder, there):
            path = artifact(folder, "StatisticsGen", "statistics") / split.name
            read = DatasetFeatureStatisticsList.FromString((path / "FeatureStats.pb").read_bytes())
            [dataset] = read.datasets
            features = sorted(dataset.features, key=lambda one: one.path.step[0])
            found.append((dataset.num_examples, features))
        (rows, features), (other_rows, others) = found
        assert rows == other_rows
        for one, other in zip(features, others, strict=True):
            _assert_same_statistics(one, other)


def _assert_same_statistics(one: Any, other: Any) -> None:
    assert one.path == other.path
    kind = one.WhichOneof("stats")
    stats, others = getattr(one, kind), getattr(other, kind)
    common, other_common = stats.common_stats, others.common_stats
    for name in ("num_non_missing", "num_missing", "min_num_values", "max_num_values",
                 "tot_num_values"):  # fmt: skip
        assert getattr(common, name) == getattr(other_common, name), (one.path, name)
    names = {
        "num_stats": ("mean", "std_dev", "num_zeros", "min", "median", "max"),
        "string_stats": ("unique", "avg_length"),
    }.get(kind, ())
    for name in names:
        np.testing.assert_allclose(getattr(stats, name), getattr(others, name), rtol=1e-6)
    if kind == "string_stats":
        top, other_top = (
            sorted((v.value, v.frequency) for v in s.top_values) for s in (stats, others)
        )
        assert [v for _, v in top] == [v for _, v in other_top] or top == other_top


def test_transform_makes_the_same_graph_and_rows(street: Street, there: Path) -> None:
    graphs = [artifact(folder, "Transform", "transform_graph") for folder in (street.folder, there)]
    assets = [
        {p.name: p.read_bytes() for p in (graph / "transform_fn" / "assets").iterdir()}
        for graph in graphs
    ]
    assert assets[0] == assets[1]
    assert len(assets[0]) >= 4
    here, elsewhere = (
        artifact(folder, "Transform", "transformed_examples") for folder in (street.folder, there)
    )
    for split in sorted(here.iterdir()):
        _assert_same_rows(split, elsewhere / split.name, 1e-5)


def test_texts_are_embedded_the_same(street: Street, there: Path) -> None:
    one, other = (
        TextTable.load(str(artifact(folder, "TextEmbedder", "embeddings")))
        for folder in (street.folder, there)
    )
    np.testing.assert_allclose(one.titles, other.titles, atol=1e-6)
    np.testing.assert_allclose(one.queries, other.queries, atol=1e-6)


def test_samples_are_weighed_the_same(street: Street, there: Path) -> None:
    here, elsewhere = (
        artifact(folder, "ImportanceEstimator", "weighted_examples")
        for folder in (street.folder, there)
    )
    for split in sorted(here.iterdir()):
        _assert_same_rows(split, elsewhere / split.name, 1e-4)


def test_features_are_ranked_the_same(street: Street, there: Path) -> None:
    one, other = (
        json.loads((artifact(folder, "FeatureRanker", "ranking") / "ranking.json").read_text())
        for folder in (street.folder, there)
    )
    measures = [
        {one["name"]: one["measures"]["ctr"]["mutual_information"] for one in of["features"]}
        for of in (one, other)
    ]
    assert measures[0].keys() == measures[1].keys()
    for name, value in measures[0].items():
        np.testing.assert_allclose(measures[1][name] or 0.0, value or 0.0, atol=1e-4)


def test_the_run_ends_with_the_same_figures(street: Street, there: Path) -> None:
    """Shards, rows and batches have the same order on any engine: so it is the same model."""
    found, want = (
        json.loads((folder / "summary.json").read_text()) for folder in (there, street.folder)
    )
    for summary in (found, want):
        del summary["created"], summary["seconds"], summary["lineage"]
    _assert_alike(found, want, "summary")


def _assert_alike(found: Any, want: Any, place: str) -> None:
    """Numbers to the fourth digit, as threads of TensorFlow add in no fixed order."""
    if isinstance(want, dict):
        assert found.keys() == want.keys(), place
        for key, value in want.items():
            _assert_alike(found[key], value, f"{place}.{key}")
    elif isinstance(want, list):
        assert len(found) == len(want), place
        for number, value in enumerate(want):
            _assert_alike(found[number], value, f"{place}[{number}]")
    elif isinstance(want, float):
        assert found == pytest.approx(want, abs=1e-4), place
    elif not isinstance(want, str):
        assert found == want, place


def test_one_model_is_judged_the_same(
    street: Street, cluster: Cluster, engine: Path, tmp_path: Path
) -> None:
    """Of one model, as rows that come in another order train another one."""
    beam = BeamSettings.model_validate(yaml.safe_load(engine.read_text())["beam"])
    before = len(cluster.jobs())
    order = ["slice", "output", "name", "value"]
    one, other = (
        metrics(_evaluated(street.folder, tmp_path / name, beam_args(settings)))[order]
        .sort_values(order)
        .reset_index(drop=True)
        for name, settings in (("direct", BeamSettings()), ("cluster", beam))
    )
    assert len(cluster.jobs()) == before + 1
    assert len(one) > 20
    # TFMA counts predictions in 10,000 bins; batches of another size round one over an edge.
    binned = one["name"].str.startswith("auc")
    for rows, tolerance in ((~binned, 1e-6), (binned, 1e-5)):
        pd.testing.assert_frame_equal(one[rows], other[rows], rtol=0, atol=tolerance)


def _evaluated(run: Path, place: Path, flags: list[str]) -> Path:
    """The street's executor on what a run made; where it wrote."""
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import json_utils, proto_utils

    from components.log_evaluator.executor import Executor

    examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
    examples.uri = str(artifact(run, "SliceTagger", "tagged_examples"))
    examples.split_names = artifact_utils.encode_split_names([f.NATURAL])
    model.uri = str(artifact(run, "WeightedTrainer", "model"))
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluation.uri, blessing.uri = str(place / "evaluation"), str(place / "blessing")
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=flags, tmp_dir=str(place / "tmp"), unique_id="1"
    )
    Executor(context).Do(
        {"examples": [examples], "model": [model]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": proto_utils.proto_to_json(
                eval_config(Thresholds(minimum_ctr_auc=0.5), ("device",))
            ),
            "example_splits": json_utils.dumps([f.NATURAL]),
        },
    )
    return place / "evaluation"


def test_candidates_are_scored_the_same(
    street: Street, cluster: Cluster, engine: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    candidates = pd.DataFrame({
        "request_id": np.repeat([f"r{n}" for n in range(40)], 10),
        "query": np.repeat([("red shoe", "lamp", "tv")[n % 3] for n in range(40)], 10),
        "item_id": [f"p{n}" for n in rng.integers(0, 99, 400)],
        "title": [("a lamp", "a red shoe", "a new thing")[n] for n in rng.integers(0, 3, 400)],
        "price": rng.uniform(1, 50, 400).round(2),
    })  # fmt: skip
    for half in range(2):
        candidates[half * 200 : half * 200 + 200].to_parquet(tmp_path / f"in-{half}.parquet")
    found, before = [], len(cluster.jobs())
    for name, more in (("direct", ()), ("cluster", ("--with", engine))):
        heft("score", street.config, "--runs", street.runs, "--input", tmp_path / "in-*",
             "--output", tmp_path / name, *more)  # fmt: skip
        parts = [pd.read_parquet(path) for path in sorted((tmp_path / name).glob("*.parquet"))]
        found.append(pd.concat(parts).sort_values(["source", "row"]).reset_index(drop=True))
    pd.testing.assert_frame_equal(found[0], found[1], rtol=1e-6, atol=1e-6)
    assert len(found[0]) == 400
    assert len(cluster.jobs()) == before + 1
