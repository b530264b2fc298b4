"""PairReader over artifacts as TFX hands them over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, artifact_utils, standard_artifacts

from components.artifacts import PairReadings, TextEmbeddings
from components.pair_reader.component import PairReader
from components.pair_reader.executor import Executor
from heft import features as f
from heft.examples import write_columns
from heft.text.links import PairLinks
from tests.unit.model.conftest import random_table


def test_artifacts_in_artifacts_out_and_a_second_run_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, embeddings = standard_artifacts.Examples(), TextEmbeddings()
    first, second = PairReadings(), PairReadings()
    for artifact, name in (
        (examples, "examples"), (embeddings, "table"), (first, "first"), (second, "second"),
    ):  # fmt: skip
        artifact.uri = str(tmp_path / name)
    examples.split_names = artifact_utils.encode_split_names([f.TRAIN])
    columns = {f.QUERY_ID: np.array([0, 0, 1]), f.TITLE_ID: np.array([0, 0, 1])}
    write_columns(columns, tmp_path / "examples" / f"Split-{f.TRAIN}" / "part-0.gz")
    texts = {"query_texts": [b"drill", b"hose"], "title_texts": [b"Cordless Drill", b"Hose"]}
    replace(random_table(2, 2), **texts).save(embeddings.uri)
    context = Executor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--direct_running_mode=in_memory"],
        tmp_dir=str(tmp_path / "temporary"),
        unique_id="7",
    )
    inputs = {"examples": [examples], "embeddings": [embeddings], "previous": []}
    properties = {"most_pairs": 5, "source_digest": ""}
    Executor(context).Do(inputs, {"readings": [first]}, properties)
    assert first.pairs == 2
    monkeypatch.setattr("heft.text.reading.load_encoder", pytest.fail)
    Executor(context).Do(inputs | {"previous": [first]}, {"readings": [second]}, properties)
    links = [PairLinks.load(artifact.uri) for artifact in (first, second)]
    np.testing.assert_array_equal(links[0].links, links[1].links)
    assert (links[0].links > 0).all()
    assert links[1].facts["reused"] == 2
    assert not list((tmp_path / "temporary").rglob("*.npy")), "what is temporary is gone"


def test_the_component_takes_the_channels_of_the_street() -> None:
    channels = Channel(type=standard_artifacts.Examples), Channel(type=TextEmbeddings)
    node = PairReader(*channels, 7, Channel(type=PairReadings), "abc")
    assert isinstance(node.executor_spec, BeamExecutorSpec)
    assert node.exec_properties == {"most_pairs": 7, "source_digest": "abc"}
    assert "previous" not in PairReader(*channels, 7).inputs
