"""Raw impressions, and the real tf.Transform graph over them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata

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
        elif value is not None:
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
    return proto.SerializeToString()


def analyse(
    rows: Sequence[Row], settings: TransformSettings, folder: Path
) -> tft.TFTransformOutput:
    """What Transform learns from `rows`, written to `folder`."""
    metadata = dataset_metadata.DatasetMetadata(schema())
    data = [
        {x.name: [] if row.get(x.name) is None else [row[x.name]] for x in schema().feature}
        for row in rows
    ]
    with (
        beam.Pipeline(options=PipelineOptions(beam_args())) as pipeline,
        tft_beam.Context(temp_dir=str(folder / "temp")),
    ):
        graph = (
            pipeline | beam.Create(data),
            metadata,
        ) | tft_beam.AnalyzeDataset(lambda inputs: preprocess(inputs, settings))
        _ = graph | tft_beam.WriteTransformFn(str(folder / "output"))
    return tft.TFTransformOutput(str(folder / "output"))


def transformed(output: tft.TFTransformOutput, rows: Sequence[Row]) -> dict[str, tf.Tensor]:
    """`rows` through Transform's graph: columns (rows,)."""
    raw = tf.io.parse_example([example(row) for row in rows], output.raw_feature_spec())
    columns: dict[str, tf.Tensor] = output.transform_features_layer()(raw)
    return columns
