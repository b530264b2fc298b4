"""The source of rows for TFX's executors, against TFX's own."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
from tfx.components.util import tfxio_utils
from tfx.proto import example_gen_pb2
from tfx_bsl.tfxio.tf_example_record import TFExampleRecord

from components.shard_reading import ShardsOfExamples, read_shards_whole
from heft import features as f
from heft.passes import local_pipeline
from tests.unit.model.rows import example, schema, shop_rows

RAW = "raw"
# Beam sends a step as bytes: a function of a module is found again, with what it writes to.
_BATCHES: list[pa.RecordBatch] = []


def _keep(batch: pa.RecordBatch) -> None:
    _BATCHES.append(batch)


def _batches(source: Any) -> list[pa.RecordBatch]:
    _BATCHES.clear()
    with local_pipeline() as pipeline:
        _ = pipeline | source | beam.Map(_keep)
    return list(_BATCHES)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    for number, rows in enumerate((shop_rows() * 35, shop_rows()[:5], [])):
        options = tf.io.TFRecordOptions("GZIP")
        with tf.io.TFRecordWriter(str(folder / f"data-{number}.gz"), options) as writer:
            for row in rows:
                writer.write(example(row))
    return str(folder / "*")


def _table(source: Any) -> pa.Table:
    # Beam's clock says how long a batch is; of a short one a column may be empty, without a type.
    tables = [pa.Table.from_batches([batch]) for batch in _batches(source)]
    return pa.concat_tables(tables, promote_options="default")


def _rows(table: pa.Table) -> list[str]:
    return sorted(str(row) for row in table.to_pylist())


@pytest.mark.parametrize("with_schema", [True, False])
@pytest.mark.parametrize("raw", [RAW, None])
def test_it_reads_what_tfx_reads(pattern: str, with_schema: bool, raw: str | None) -> None:
    stock = TFExampleRecord(
        pattern, schema=schema() if with_schema else None, raw_record_column_name=raw,
        telemetry_descriptors=["test"],
    )  # fmt: skip
    want, found = _table(stock.BeamSource()), _table(ShardsOfExamples(stock).BeamSource())
    assert len(found) == 35 * len(shop_rows()) + 5
    assert (
        found.select(sorted(found.column_names)).schema
        == want.select(sorted(want.column_names)).schema
    )
    order = sorted(want.column_names)
    assert _rows(found.select(order)) == _rows(want.select(order))


def test_of_a_row_it_hands_on_the_columns_that_are_asked_for(pattern: str) -> None:
    stock = TFExampleRecord(pattern, raw_record_column_name=RAW, telemetry_descriptors=["test"])
    found = _table(ShardsOfExamples(stock, {f.CLICK, f.QUERY, "absent"}).BeamSource())
    assert set(found.column_names) == {f.CLICK, f.QUERY, RAW}
    records = [row[0] for row in found[RAW].to_pylist()]
    parsed = tf.train.Example.FromString(records[0]).features.feature
    assert parsed[f.TITLE].bytes_list.value, "the record itself is whole"


def test_batches_are_of_the_rows_of_a_shard_in_their_order(pattern: str) -> None:
    stock = TFExampleRecord(pattern, schema=schema(), telemetry_descriptors=["test"])
    sizes = [batch.num_rows for batch in _batches(ShardsOfExamples(stock).BeamSource(1_000))]
    rows = 35 * len(shop_rows())
    full, rest = divmod(rows, 1_000)
    assert sorted(sizes) == sorted([*[1_000] * full, rest, 5])


def test_projection_keeps_the_source(pattern: str) -> None:
    stock = TFExampleRecord(pattern, schema=schema(), telemetry_descriptors=["test"])
    projected = ShardsOfExamples(stock).Project([f.QUERY, f.TITLE])
    found = _batches(projected.BeamSource(1_000))
    assert set(found[0].schema.names) == {f.QUERY, f.TITLE}
    assert max(batch.num_rows for batch in found) == 1_000, "TFX's own asks Beam for batches"
    assert len(found) == 35 * len(shop_rows()) // 1_000 + 2


def test_a_pattern_without_files_is_an_error(tmp_path: Path) -> None:
    stock = TFExampleRecord(str(tmp_path / "none*"), telemetry_descriptors=["test"])
    with pytest.raises(Exception, match="none"):
        _table(ShardsOfExamples(stock).BeamSource())


def test_tfx_is_as_it_was_afterwards(pattern: str) -> None:
    def made() -> Any:
        return tfxio_utils.make_tfxio(pattern, ["test"], example_gen_pb2.FORMAT_TF_EXAMPLE)

    before = tfxio_utils.make_tfxio
    with read_shards_whole():
        assert isinstance(made(), ShardsOfExamples)
    with pytest.raises(KeyError), read_shards_whole():
        raise KeyError
    assert tfxio_utils.make_tfxio is before
    assert type(made()) is TFExampleRecord
