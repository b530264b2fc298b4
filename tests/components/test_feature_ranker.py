"""FeatureRanker and FineTuner over artifacts as TFX hands them over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, artifact_utils, standard_artifacts

from components.artifacts import FeatureRankings, TextEmbeddings, TextEncoderFolder
from components.feature_ranker.component import FeatureRanker
from components.feature_ranker.executor import Executor as RankerExecutor
from components.fine_tuner.component import FineTuner
from components.fine_tuner.executor import Executor as TunerExecutor
from components.text_embedder.component import TextEmbedder
from components.text_embedder.executor import Executor as EmbedderExecutor
from heft import features as f
from heft.examples import write_columns
from heft.selection.map import TitleMap
from heft.selection.ranking import FeatureRanking
from heft.selection.settings import RankingSettings
from heft.text.checkpoint import fingerprint
from heft.text.finetune_settings import FinetuneSettings
from heft.text.settings import TextSettings
from heft.text.table import TextTable
from tests.unit.model.conftest import random_table
from tests.unit.model.rows import SETTINGS, shop_graph, shop_rows, transformed
from tests.unit.text.small_bert import write_small_bert


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    """The shop's rows with the weights that ImportanceEstimator adds; people click drills."""
    columns = transformed(shop_rows())
    columns[f.CLICK] = (columns[f.TITLE_ID] == columns[f.TITLE_ID].min()).astype(np.int64)
    for task in f.TASKS:
        columns[f.positive_weight(task)] = columns[f.CLICK].astype(np.float32)
        columns[f.negative_weight(task)] = 1 - columns[f.CLICK].astype(np.float32)
    return columns


def _examples(columns: dict[str, np.ndarray], folder: Path) -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(folder), artifact_utils.encode_split_names([f.TRAIN])
    for k, rows in enumerate(np.array_split(np.arange(len(columns[f.CLICK])), 2)):
        part = {name: values[rows] for name, values in columns.items()}
        write_columns(part, folder / f"Split-{f.TRAIN}" / f"part-{k}.gz")
    return artifact


def _graph() -> standard_artifacts.TransformGraph:
    artifact = standard_artifacts.TransformGraph()
    artifact.uri = shop_graph().transform_savedmodel_dir.rsplit("/", 1)[0]
    return artifact


def test_the_ranker_writes_a_ranking_and_a_map(
    columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    embeddings, ranking = TextEmbeddings(), FeatureRankings()
    embeddings.uri, ranking.uri = str(tmp_path / "table"), str(tmp_path / "ranking")
    graph = shop_graph()
    texts = {side: graph.vocabulary_by_name(f"{side}_text") for side in ("query", "title")}
    table = random_table(len(texts["query"]), len(texts["title"]))
    replace(table, query_texts=texts["query"], title_texts=texts["title"]).save(embeddings.uri)
    settings = RankingSettings(rows=60, perplexity=2)
    context = RankerExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--direct_running_mode=in_memory"],
        tmp_dir=str(tmp_path / "temporary"),
        unique_id="7",
    )
    RankerExecutor(context).Do(
        {
            "examples": [_examples(columns, tmp_path / "examples")],
            "transform_graph": [_graph()],
            "embeddings": [embeddings],
        },
        {"ranking": [ranking]},
        {
            "settings": settings.model_dump_json(), "transform": SETTINGS.model_dump_json(),
            "source_digest": "",
        },
    )  # fmt: skip
    found = FeatureRanking.load(ranking.uri)
    assert (found.rows, found.of) == (60, len(columns[f.CLICK]))
    assert ranking.features == len(found.features)
    names = {x.name for x in found.features}
    assert {"price_z", "brand_id", "lexical_token_overlap", "cosine", "title_7"} <= names
    drawn = TitleMap.load(ranking.uri)
    assert drawn is not None
    assert len(drawn.x) == len(texts["title"])
    assert not list((tmp_path / "temporary").rglob("*.npz")), "what is temporary is gone"


def test_an_encoder_is_tuned_and_the_embedder_takes_it(
    columns: dict[str, np.ndarray], tmp_path: Path
) -> None:
    parent = write_small_bert(tmp_path / "parent")
    examples, encoder, embeddings = (
        _examples(columns, tmp_path / "e"),
        TextEncoderFolder(),
        TextEmbeddings(),
    )
    encoder.uri = str(tmp_path / "FineTuner" / "encoder" / "9")
    embeddings.uri = str(tmp_path / "table")
    tuning = FinetuneSettings(
        steps=2, batch_size=4, evaluate_every=1, holdout=0.5, learning_rate=0.05, seed=2
    )
    text = TextSettings(
        encoder=str(parent), max_tokens=16, title_dimensions=2, product_dimensions=2
    )
    inputs = {"transform_graph": [_graph()], "examples": [examples]}
    properties = {
        "text": text.model_copy(update={"finetune": tuning}).model_dump_json(),
        "source_digest": "",
    }
    TunerExecutor().Do(inputs, {"encoder": [encoder]}, properties)
    assert encoder.parent == fingerprint(parent)
    folder = Path(encoder.uri) / "encoder"
    properties = {"settings": text.model_dump_json(), "source_digest": ""}
    given = inputs | {"encoder": [encoder]}
    EmbedderExecutor().Do(given, {"embeddings": [embeddings]}, properties)
    table = TextTable.load(embeddings.uri)
    assert table.fingerprint == embeddings.encoder == fingerprint(folder)
    assert table.settings.encoder == str(folder), "later nodes load it from there"


def test_the_components_take_the_channels_of_the_street() -> None:
    examples = Channel(type=standard_artifacts.Examples)
    graph = Channel(type=standard_artifacts.TransformGraph)
    ranker = FeatureRanker(
        examples, graph, Channel(type=TextEmbeddings), RankingSettings(), SETTINGS, "abc"
    )
    assert isinstance(ranker.executor_spec, BeamExecutorSpec)
    tuner = FineTuner(graph, examples, TextSettings(finetune=FinetuneSettings()), "abc")
    embedder = TextEmbedder(graph, examples, TextSettings(), encoder=tuner.outputs["encoder"])
    assert "encoder" in embedder.inputs
    assert "encoder" not in TextEmbedder(graph, examples, TextSettings()).inputs
