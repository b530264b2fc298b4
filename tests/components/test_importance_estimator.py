"""ImportanceEstimator over artifacts as TFX hands them over."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, artifact_utils, standard_artifacts

from components.artifacts import SampleImportance, TextEmbeddings
from components.importance_estimator.component import ImportanceEstimator
from components.importance_estimator.executor import Executor
from heft import features as f
from heft.examples import Feature, read_columns, shard_paths, write_columns
from heft.importance.settings import ImportanceSettings
from tests.unit.model.conftest import random_table

SETTINGS = ImportanceSettings(debias="none", quality={}, value={"el2n": 1.0}, folds=2, epochs=1)
ROWS = 400


def _columns(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    floats = {name: rng.random(ROWS).astype(np.float32) for name in (*f.LEXICAL, f.OBSERVATION)}
    click = (rng.random(ROWS) < 0.2 + 0.6 * floats[f.LEXICAL[0]]).astype(np.int64)
    return floats | {
        f.IMPRESSION_ID: np.array([b"%d" % k for k in range(ROWS)], object),
        f.QUERY_ID: rng.integers(0, 5, ROWS),
        f.TITLE_ID: rng.integers(0, 9, ROWS),
        f.REQUEST_KEY: np.arange(ROWS) // 4,
        f.POSITION: np.tile([1, 2, 3, 4], ROWS // 4),
        f.CLICK: click,
        f.CONVERSION: click * rng.integers(0, 2, ROWS),
    }


def _graph(uri: str, columns: dict[str, np.ndarray]) -> None:
    kinds = {"f": tf.float32, "i": tf.int64, "O": tf.string}
    spec = {
        name: tf.io.FixedLenFeature([], kinds[values.dtype.kind])
        for name, values in columns.items()
    }
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    metadata_io.write_metadata(metadata, f"{uri}/transformed_metadata")


def test_artifacts_in_artifacts_out(tmp_path: Path) -> None:
    examples, graph = standard_artifacts.Examples(), standard_artifacts.TransformGraph()
    embeddings, weighted = TextEmbeddings(), standard_artifacts.Examples()
    importance = SampleImportance()
    for artifact, name in (
        (examples, "examples"), (graph, "graph"), (embeddings, "table"),
        (weighted, "weighted"), (importance, "importance"),
    ):  # fmt: skip
        artifact.uri = str(tmp_path / name)
    examples.split_names = artifact_utils.encode_split_names([f.TRAIN, f.TUNE])
    for seed, split in enumerate((f.TRAIN, f.TUNE)):
        write_columns(_columns(seed), tmp_path / "examples" / f"Split-{split}" / "part-0.gz")
    _graph(graph.uri, _columns(0))
    random_table(5, 9).save(embeddings.uri)
    properties = {"settings": SETTINGS.model_dump_json(), "source_digest": ""}
    inputs = {"examples": [examples], "transform_graph": [graph], "embeddings": [embeddings]}
    context = Executor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--direct_running_mode=in_memory"],
        tmp_dir=str(tmp_path / "temporary"),
        unique_id="7",
    )
    Executor(context).Do(
        inputs, {"weighted_examples": [weighted], "importance": [importance]}, properties
    )
    assert importance.rows == ROWS
    assert artifact_utils.decode_split_names(weighted.split_names) == [f.TRAIN, f.TUNE]
    wanted = [Feature(f.score_column("el2n", f.CTR), float), Feature(f.CLICK, int)]
    uri = artifact_utils.get_split_uri([weighted], f.TRAIN)
    found = read_columns(shard_paths(uri), wanted)
    assert np.isfinite(found[f.score_column("el2n", f.CTR)]).all()
    assert found[f.CLICK].tolist() == _columns(0)[f.CLICK].tolist()
    assert not list((tmp_path / "temporary").rglob("*.npz")), "what is temporary is gone"


def test_it_runs_on_the_beam_of_the_street_with_every_setting_kept() -> None:
    own = ImportanceSettings(
        debias={"ctr": "inverse_propensity", "cvr": ["examination_posterior"]},
        estimators={"examination_posterior": {"minimum": 0.1}},
        fit_rows=10,
    )
    node = ImportanceEstimator(
        Channel(type=standard_artifacts.Examples),
        Channel(type=standard_artifacts.TransformGraph),
        Channel(type=TextEmbeddings),
        own,
    )
    assert isinstance(node.executor_spec, BeamExecutorSpec)
    assert ImportanceSettings.model_validate_json(node.exec_properties["settings"]) == own
