"""A model of a shop's size, exported; and the same, made to encode every text."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from heft import features as f
from heft.model.export import ServedModel, export
from heft.model.materials import input_sizes
from heft.model.network import build_core
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.text.encoder import load_encoder
from heft.text.reduction import Projection, Reduction
from heft.text.settings import TextSettings
from heft.text.table import TextTable
from heft.transform import TransformSettings, preprocess
from pipeline.beam import beam_args

__all__ = ["COLUMNS", "Shop", "export_shop"]

ROOT = Path(__file__).parents[2]
SETTINGS = TransformSettings(minimum_count=1)
COLUMNS = (f.QUERY, f.TITLE, *SETTINGS.categorical, *SETTINGS.numeric)
_DIM = 384
_WORDS = 4_000


class Shop:
    """Queries of one to four words, and titles of five to ten, all distinct.

    Args:
        queries, titles: how many.
    """

    def __init__(self, queries: int, titles: int) -> None:
        draw = random.Random(0)
        letters = "bcdfglmnprst"
        words = ["".join(draw.choice(letters) + draw.choice("aeiou") for _ in range(2 + i % 3))
                 for i in range(_WORDS)]  # fmt: skip
        self.queries = _texts(draw, words, queries, (1, 4))
        self.titles = _texts(draw, words, titles, (5, 10))
        self.brands = words[:200]
        self.new = [f"{a} {b} of the year" for a, b in zip(words, words[7:], strict=False)]

    def rows(self) -> list[dict[str, list[Any]]]:
        """One impression of every title, for Transform to learn from."""
        return [
            {
                f.QUERY: [self.queries[i % len(self.queries)]], f.TITLE: [title],
                f.CATEGORY: [f"c{i % 40}"], f.BRAND: [self.brands[i % len(self.brands)]],
                f.PRICE: [1.0 + i % 500], f.REQUEST_ID: [f"r{i // 10}"], f.POSITION: [1 + i % 10],
            }
            for i, title in enumerate(self.titles)
        ]  # fmt: skip

    def page(self, seed: int, rows: int, new_query: bool = False) -> dict[str, np.ndarray]:
        """Columns of one query and some candidates, known texts but for the query if asked for."""
        rng = np.random.default_rng(seed)
        query = (self.new if new_query else self.queries)[seed % 1_000]
        picked = rng.integers(0, len(self.titles), rows)
        return {
            f.QUERY: np.array([query] * rows, object),
            f.TITLE: np.array([self.titles[i] for i in picked], object),
            f.CATEGORY: np.array([f"c{i % 40}" for i in picked], object),
            f.BRAND: np.array([self.brands[i % len(self.brands)] for i in picked], object),
            f.PRICE: (1.0 + picked % 500).astype(np.float32),
        }


def _texts(
    draw: random.Random, words: Sequence[str], count: int, lengths: tuple[int, int]
) -> list[str]:
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(draw.choices(words, k=draw.randint(*lengths)))] = None
    return list(texts)


class _EncodesAll(ServedModel):
    """The same graph, in which no text is known."""

    def _vectors(self, *columns: Any) -> list[tf.Tensor]:
        return super()._vectors(*(one._replace(ids=one.ids * 0 - 1) for one in columns))


def export_shop(shop: Shop, folder: Path) -> dict[str, Path]:
    """Exports `a` and `b`, which answer differently, and `encodes_all`, which answers as `a`."""
    graph = _transform(shop, folder / "transform")
    encoder = load_encoder(TextSettings())
    queries, titles = (graph.vocabulary_by_name(name) for name in ("query_text", "title_text"))
    rng = np.random.default_rng(0)
    table = TextTable(
        _unit(rng, len(queries)), _unit(rng, len(titles)), queries, titles,
        Reduction(_projection(rng, 32), _projection(rng, 32), _projection(rng, 32)),
        encoder.fingerprint, TextSettings(), len(queries) + len(titles), 0,
    )  # fmt: skip
    sizes = input_sizes(graph, SETTINGS)
    paths = {}
    for name, seed, kind in (("a", 1, ServedModel), ("b", 2, ServedModel),
                             ("encodes_all", 1, _EncodesAll)):  # fmt: skip
        keras.utils.set_random_seed(seed)
        core = build_core(table, sizes, ModelSettings())
        served = kind(
            core, encoder, table, graph.transform_features_layer(), graph.raw_feature_spec(),
            sizes, Rates(np.array([[1.0, 0.0]], np.float32)),
        )  # fmt: skip
        paths[name] = folder / name
        export(served, SETTINGS, paths[name])
    return paths


def _transform(shop: Shop, folder: Path) -> tft.TFTransformOutput:
    schema = text_format.Parse(
        (ROOT / "pipeline/schema/clicks/schema.pbtxt").read_text(), schema_pb2.Schema()
    )
    metadata = dataset_metadata.DatasetMetadata(schema)
    names = [feature.name for feature in schema.feature]
    rows = [{name: row.get(name, []) for name in names} for row in shop.rows()]
    with (
        tempfile.TemporaryDirectory() as scratch,
        beam.Pipeline(options=PipelineOptions(beam_args())) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        data = (pipeline | beam.Create(rows), metadata)
        graph = data | tft_beam.AnalyzeDataset(lambda inputs: preprocess(inputs, SETTINGS))
        _ = graph | tft_beam.WriteTransformFn(str(folder))
    metadata_io.write_metadata(metadata, f"{folder}/{tft.TFTransformOutput.RAW_METADATA_DIR}")
    return tft.TFTransformOutput(str(folder))


def _unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, _DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _projection(rng: np.random.Generator, rows: int) -> Projection:
    components = rng.normal(size=(rows, _DIM)).astype(np.float32)
    return Projection(np.zeros(_DIM, np.float32), components, np.full(rows, 1 / rows))
