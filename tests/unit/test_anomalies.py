"""The gate lets good data through, and names the feature and what came."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from heft.anomalies import Anomaly, check, find_anomalies
from heft.errors import GateError
from tests.unit.model.rows import impression, schema

Statistics = statistics_pb2.DatasetFeatureStatisticsList

pytestmark = pytest.mark.filterwarnings("ignore")


def _statistics(count: int = 200, **columns: object) -> Statistics:
    """Statistics of `count` impressions; a column given as a list replaces the shop's."""
    rows = [
        impression(i, f"query {i % 9}", f"title {i % 7}", price=float(i % 50 + 1),
                   category=f"c{i % 4}", device=("phone", "desk")[i % 2])
        for i in range(count)
    ]  # fmt: skip
    table = {name: [row[name] for row in rows] for name in rows[0]} | columns
    arrays = {n: pa.array([[v] if v is not None else None for v in x]) for n, x in table.items() if x}
    generator = tfdv.StatsOptions()
    return tfdv.generate_statistics_in_memory(pa.RecordBatch.from_pydict(arrays), generator)
