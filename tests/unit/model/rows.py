"""Raw impressions, and the real tf.Transform graph over them."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from heft import features as f
from heft.transform import TransformSettings, preprocess
from pipeline.beam import beam_args

SCHEMA = Path(__file__).parents[3] / "pipeline/schema/clicks/schema.pbtxt"

Row = dict[str, Any]


def impression(number: int, query: str | bytes, title: str | bytes, **columns: Any) -> Row:
    """One logged impression; a column given as None is absent."""
    row: Row = {
        f.IMPRESSION_ID: f"i{number}",
        f.REQUEST_ID: f"r{number // 2}",
        f.USER_ID: "u",
        f.ITEM_ID: f"p{number}",
        f.QUERY: query,
        f.TITLE: title,
        f.POSITION: number % 2 + 1,
        f.TIMESTAMP: number,
        f.RANDOMISED: 0,
        f.CATEGORY: "tools",
        f.BRAND: "acme",
        f.PRICE: 10.0,
        f.CLICK: int(number % 3 == 0),
        f.CLICK_DELAY: 2.5 if number % 3 == 0 else -1.0,
        f.CONVERSION: 0,
        f.CONVERSION_DELAY: -1.0,
        f.CONVERSION_VALUE: 0.0,
        f.OBSERVATION: 60.0,
        "device": "phone",
    }
    return row | columns


def schema() -> schema_pb2.Schema:
    """The reviewed schema of click logs."""
    return text_format.Parse(SCHEMA.read_text(encoding="utf-8"), schema_pb2.Schema())


def example(row: Row) -> bytes:
    """A row as serialised tf.Example."""
    proto = tf.train.Example()
    for name, value in row.items():
        feature = proto.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        elif isinstance(value, list) and value and isinstance(value[0], float):
            feature.float_list.value.extend(value)
        elif isinstance(value, list):
            feature.bytes_list.value.extend(text.encode() for text in value)
        elif value is not None:
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
    return proto.SerializeToString()


QUERIES = ("cordless drill", "garden hose", "led bulb", "café lamp")
TITLES = (
    "Cordless Drill, 18 V",
    "50 ft. Garden Hose",
    "LED Light Bulb",
    "Café Table Lamp",
    "Hammer",
)
PRICES = (10.0, 20.0, 40.0, 80.0, None, 0.0, -5.0)
SETTINGS = TransformSettings(categorical=(f.CATEGORY, f.BRAND, "device"), minimum_count=3)


def shop_rows() -> list[Row]:
    """Every query with every title and every price; one rare brand."""
    rows = [
        impression(
            number, query, title, price=price,
            category=("tools", "garden")[number % 2], brand=("acme", "zeta", "")[number % 3],
        )
        for number, (query, title, price) in enumerate(product(QUERIES, TITLES, PRICES))
    ]  # fmt: skip
    rows[0][f.BRAND] = "seen once"
    return rows


@cache
def shop_graph() -> tft.TFTransformOutput:
    """What Transform learns from `shop_rows`; analysed once a session, as it takes seconds."""
    return analysed(shop_rows(), schema(), SETTINGS)


def analysed(
    rows: Sequence[Row], of: schema_pb2.Schema, settings: TransformSettings, **widths: int
) -> tft.TFTransformOutput:
    """What Transform learns from rows."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    metadata = dataset_metadata.DatasetMetadata(of)

    def values(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [] if value is None else [value]

    data = [{x.name: values(row.get(x.name)) for x in of.feature} for row in rows]
    with (
        beam.Pipeline(options=PipelineOptions(beam_args())) as pipeline,
        tft_beam.Context(temp_dir=f"{folder}/temp"),
    ):
        graph = (
            pipeline | beam.Create(data),
            metadata,
        ) | tft_beam.AnalyzeDataset(lambda inputs: preprocess(inputs, settings, widths))
        _ = graph | tft_beam.WriteTransformFn(f"{folder}/output")
    metadata_io.write_metadata(
        metadata, f"{folder}/output/{tft.TFTransformOutput.RAW_METADATA_DIR}"
    )
    return tft.TFTransformOutput(f"{folder}/output")


def transformed(
    rows: Sequence[Row], output: tft.TFTransformOutput | None = None
) -> dict[str, np.ndarray]:
    """`rows` through Transform's graph: columns (rows,)."""
    output = output or shop_graph()
    raw = tf.io.parse_example([example(row) for row in rows], output.raw_feature_spec())
    return {name: x.numpy() for name, x in output.transform_features_layer()(raw).items()}
