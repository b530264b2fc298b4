"""TextEmbedder over a real Transform output: vocabularies and ids made by TFT itself."""

import logging
import os
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Channel, artifact_utils, standard_artifacts

from components.artifacts import TextEmbeddings
from components.text_embedder.component import TextEmbedder
from components.text_embedder.executor import Executor
from heft import features as f
from heft.examples import write_columns
from heft.passes import local_pipeline
from heft.text.settings import TextSettings
from heft.text.table import TextTable
from heft.transform import QUERY_VOCABULARY, TITLE_VOCABULARY

# query, title, impressions
TRAFFIC = (
    (b"drill", b"Cordless Drill 18 V", 6),
    (b"drill", b"Garden Hose 50 ft.", 1),
    (b"hose", b"Garden Hose 50 ft.", 3),
    (b"caf\xc3\xa9 table", b"Bistro Table", 2),
)
SETTINGS = TextSettings(title_dimensions=2, product_dimensions=3)


def preprocess(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    vocabularies = (
        (f.QUERY, f.QUERY_ID, QUERY_VOCABULARY),
        (f.TITLE, f.TITLE_ID, TITLE_VOCABULARY),
    )
    return {
        id_name: tft.compute_and_apply_vocabulary(
            inputs[text], default_value=f.OOV, num_oov_buckets=0, vocab_filename=vocabulary
        )
        for text, id_name, vocabulary in vocabularies
    }


Traffic = tuple[tuple[bytes, bytes, int], ...]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return transformed(tmp_path_factory.mktemp("transform"), TRAFFIC)


def transformed(root: Path, traffic: Traffic) -> tuple[str, str]:
    """Folders of a Transform output and of transformed examples."""
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    rows = [{f.QUERY: q, f.TITLE: t} for q, t, n in traffic for _ in range(n)]
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in (f.QUERY, f.TITLE)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with (
        beam.Pipeline(runner="DirectRunner") as pipeline,
        tft_beam.Context(temp_dir=str(root / "temp")),
    ):
        data = pipeline | beam.Create(rows)
        (transformed, _), graph = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(preprocess)
        graph | tft_beam.WriteTransformFn(str(root / "graph"))
        lines = transformed | beam.Map(lambda row: f"{row[f.QUERY_ID]},{row[f.TITLE_ID]}")
        lines | beam.io.WriteToText(str(root / "ids"), num_shards=1, shard_name_template="")
    ids = np.loadtxt(root / "ids", dtype=np.int64, delimiter=",")
    ids = np.concatenate([ids, [[f.OOV, 0], [0, f.OOV]]])  # rows with a text that is new
    columns = {f.QUERY_ID: ids[:, 0], f.TITLE_ID: ids[:, 1]}
    write_columns(columns, root / "examples" / f"Split-{f.TRAIN}" / "part-00000-of-00001.gz")
    return str(root / "graph"), str(root / "examples")


def run(inputs: tuple[str, str], uri: Path, previous: str | None = None) -> TextEmbeddings:
    graph, examples = standard_artifacts.TransformGraph(), standard_artifacts.Examples()
    graph.uri, examples.uri = inputs
    examples.split_names = artifact_utils.encode_split_names([f.TRAIN])
    embeddings, before = TextEmbeddings(), TextEmbeddings()
    embeddings.uri = str(uri)
    artifacts = {"transform_graph": [graph], "examples": [examples]}
    if previous:
        before.uri = previous
        artifacts["previous"] = [before]
    properties = {"settings": SETTINGS.model_dump_json(), "source_digest": ""}
    context = BaseBeamExecutor.Context(make_beam_pipeline_fn=local_pipeline)
    Executor(context).Do(artifacts, {"embeddings": [embeddings]}, properties)
    return embeddings


def test_rows_are_transforms_ids_and_a_second_run_embeds_nothing(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    first = run(inputs, tmp_path / "first")
    table = TextTable.load(first.uri)
    transform = tft.TFTransformOutput(inputs[0])
    assert table.query_texts == list(transform.vocabulary_by_name(QUERY_VOCABULARY))
    assert table.title_texts == list(transform.vocabulary_by_name(TITLE_VOCABULARY))
    assert set(table.query_texts) == {query for query, _, _ in TRAFFIC}
    assert (first.texts, first.encoder, table.embedded) == (6, table.fingerprint, 6)
    # The mean title is that of the traffic: ids and counts belong to the rows they are with.
    weights = [sum(n for _, title, n in TRAFFIC if title == text) for text in table.title_texts]
    want = np.average(table.titles, axis=0, weights=weights)
    np.testing.assert_allclose(table.reduction.title.mean, want, atol=1e-6)

    second = run(inputs, tmp_path / "second", previous=first.uri)
    again = TextTable.load(second.uri)
    assert (second.texts, again.embedded, again.reused) == (6, 0, 6)
    assert np.array_equal(again.titles, table.titles)
    assert os.path.exists(tmp_path / "second" / "table.json")


def test_a_span_with_five_percent_new_texts_embeds_five_percent(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    old = tuple((b"query %d" % i, b"title number %d" % i, 1) for i in range(38))
    new = ((b"new query", b"new title", 1), (b"another query", b"another title", 1))
    first = run(transformed(tmp_path / "span-1", old), tmp_path / "first")
    second = run(transformed(tmp_path / "span-2", (*old, *new)), tmp_path / "second", first.uri)
    tables = [TextTable.load(artifact.uri) for artifact in (first, second)]
    assert [(t.embedded, t.reused) for t in tables] == [(76, 0), (4, 76)]
    # A table whose folder is gone costs time, not the run.
    (tmp_path / "first" / "table.json").unlink()
    third = run(inputs, tmp_path / "third", first.uri)
    assert TextTable.load(third.uri).embedded == 6
    assert not (tmp_path / "third" / "unfinished").exists()


def test_the_component_takes_the_channels_of_the_street() -> None:
    def node(previous: Channel | None) -> TextEmbedder:
        return TextEmbedder(
            Channel(type=standard_artifacts.TransformGraph),
            Channel(type=standard_artifacts.Examples),
            SETTINGS,
            previous,
            source_digest="abc",
        )

    with_previous, without = node(Channel(type=TextEmbeddings)), node(None)
    assert with_previous.outputs["embeddings"].type is TextEmbeddings
    assert "previous" in with_previous.inputs
    assert "previous" not in without.inputs
    assert TextSettings.model_validate_json(without.exec_properties["settings"]) == SETTINGS
    assert without.exec_properties["source_digest"] == "abc"
