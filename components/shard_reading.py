"""Shards of `tf.Example`s for TFX's own executors, read whole.

TFX's source hands Beam one record at a time: Beam encodes, counts and batches each of them, in
batches whose size depends on how long the last ones took. Here Beam has the shards, and one step
reads a shard and makes Arrow batches of it, all of one size: less time, and sums that do not
depend on the clock.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from apache_beam.io import fileio
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.util import tfxio_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio.record_based_tfxio import AppendRawRecordColumn
from tfx_bsl.tfxio.tf_example_record import TFExampleRecord

__all__ = ["ShardsOfExamples", "read_shards_whole"]

_BATCH_ROWS = 4_096


@contextmanager
def read_shards_whole(columns: Collection[str] | None = None) -> Iterator[None]:
    """Pipelines that a TFX executor makes in it read with `ShardsOfExamples`.

    TFX names its source in one function, for which its executors have no parameter.

    Args:
        columns: that are handed on, of those that are there; None for all.
    """
    original = tfxio_utils.make_tfxio

    def make_tfxio(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        return ShardsOfExamples(made, columns) if type(made) is TFExampleRecord else made

    tfxio_utils.make_tfxio = make_tfxio
    try:
        yield
    finally:
        tfxio_utils.make_tfxio = original


class ShardsOfExamples(TFExampleRecord):
    """TFX's source of `tf.Example`s in gzipped TFRecords; a step of Beam takes a whole shard."""

    def __init__(self, like: TFExampleRecord, columns: Collection[str] | None = None) -> None:
        super().__init__(
            file_pattern=like._file_pattern,
            schema=like._schema,
            raw_record_column_name=like.raw_record_column_name,
            telemetry_descriptors=like.telemetry_descriptors,
        )
        self._columns = columns

    def BeamSource(self, batch_size: int | None = None) -> beam.PTransform:
        """A transform from a pipeline to `pa.RecordBatch`es."""
        decode = _Decode(
            self._GetSchemaForDecoding(),
            self.raw_record_column_name,
            self._columns,
            batch_size or _BATCH_ROWS,
        )
        return _ReadShards(self._file_pattern, decode)

    def _ProjectImpl(self, tensor_names: list[str]) -> "ShardsOfExamples":
        return ShardsOfExamples(super()._ProjectImpl(tensor_names), self._columns)


class _ReadShards(beam.PTransform):
    def __init__(self, patterns: Sequence[str], decode: "_Decode") -> None:
        super().__init__()
        self._patterns = list(patterns)
        self._decode = decode

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[pa.RecordBatch]:
        return (
            pipeline
            | "Patterns" >> beam.Create(self._patterns, reshuffle=False)
            | "Match" >> fileio.MatchAll(fileio.EmptyMatchTreatment.DISALLOW)
            | "Path" >> beam.Map(lambda found: found.path)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(self._decode).with_output_types(pa.RecordBatch)
        )


class _Decode(beam.DoFn):
    """From the path of a shard to its batches; TensorFlow inflates the next one meanwhile."""

    def __init__(
        self,
        schema: schema_pb2.Schema | None,
        raw_column: str | None,
        columns: Collection[str] | None,
        rows: int,
    ) -> None:
        self._schema = None if schema is None else schema.SerializeToString()
        self._raw_column = raw_column
        self._columns = columns
        self._rows = rows

    def setup(self) -> None:
        """Makes the decoder, which cannot be sent."""
        self._decoder = ExamplesToRecordBatchDecoder(self._schema)

    def process(self, path: str) -> Iterator[pa.RecordBatch]:
        """Yields the rows of a shard in their order."""
        shard = tf.data.TFRecordDataset(path, compression_type="GZIP")
        for records in shard.batch(self._rows).prefetch(1).as_numpy_iterator():
            encoded = records.tolist()
            batch = self._decoder.DecodeBatch(encoded)
            if self._columns is not None:
                batch = batch.select([n for n in batch.schema.names if n in self._columns])
            if self._raw_column is not None:
                batch = AppendRawRecordColumn(batch, self._raw_column, encoded)
            yield batch
