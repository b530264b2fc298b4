"""The gate lets good data through, and names the feature and what came."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from heft import anomalies
from heft.anomalies import Anomaly, check, find_anomalies
from heft.errors import GateError
from tests.unit.model.rows import impression, schema

Statistics = statistics_pb2.DatasetFeatureStatisticsList


def _statistics(drop: str = "", **columns: Sequence[Any]) -> Statistics:
    """Statistics of 200 impressions; given columns are repeated over the rows."""
    rows = [
        impression(
            i, f"query {i % 9}", f"title {i % 7}", price=float(i % 50 + 1),
            category=f"c{i % 4}", device=("phone", "desk")[i % 2],
        )
        for i in range(200)
    ]  # fmt: skip
    for name, values in columns.items():
        for i, row in enumerate(rows):
            row[name] = values[i % len(values)]
    frame = pd.DataFrame(rows).drop(columns=[drop] if drop else [])
    return anomalies.tfdv.generate_statistics_from_dataframe(frame)


@pytest.fixture(scope="module")
def good() -> Statistics:
    return _statistics()


def _found(
    observed: Statistics, split: str = "train", previous: Statistics | None = None
) -> list[Anomaly]:
    return find_anomalies({split: observed}, schema(), previous)


def test_good_data_has_no_anomaly_and_passes(good: Statistics) -> None:
    found = find_anomalies({"train": good, "natural": good}, schema(), good, good)
    assert found == []
    check(found)


def test_some_prices_may_be_absent() -> None:
    assert _found(_statistics(price=[None, 3.0])) == []


@pytest.mark.parametrize(
    ("feature", "values", "said"),
    [
        ("position", [1, 0], "small value: 0"),
        ("click", [0, 1, 7], "large value: 7"),
        ("price", [3.0, -2.5], "values: -2.5"),
        ("query", [5], "INT"),
        ("category", [None, "a", "b"], "actual = 0.665"),
    ],
)
def test_a_value_outside_its_domain_is_named(feature: str, values: list[Any], said: str) -> None:
    found = _found(_statistics(**{feature: values}), "natural")
    assert [(x.split, x.feature) for x in found] == [("natural", feature)]
    assert said in found[0].detail, found[0]


def test_a_missing_column_is_named(good: Statistics) -> None:
    found = _found(_statistics(drop="query"))
    assert [x.feature for x in found] == ["query"]
    assert "missing" in str(found[0]).lower()


def test_a_column_the_schema_does_not_know_is_named() -> None:
    found = _found(_statistics(margin=[0.1, 0.2]))
    assert [x.feature for x in found] == ["margin"]


def test_drift_past_the_comparator_is_named_with_its_size(good: Statistics) -> None:
    tablets = _statistics(device=["tablet", "tablet", "desk", "phone"])
    [found] = _found(tablets, previous=good)
    assert (found.split, found.feature) == ("train", "device")
    assert "0.5" in found.detail and "tablet" in found.detail
    dear = _statistics(price=[900.0, 950.0, 990.0])
    assert [x.feature for x in _found(dear, previous=good)] == ["price"]
    # The same data, with nothing to compare it with, or not the training split.
    assert _found(tablets) == []
    assert _found(tablets, "natural", previous=good) == []


def test_skew_against_what_the_model_is_asked_is_named(good: Statistics) -> None:
    skewed = schema()
    [device] = [x for x in skewed.feature if x.name == "device"]
    device.skew_comparator.infinity_norm.threshold = 0.2
    asked = _statistics(device=["tablet", "tablet", "desk", "phone"])
    assert find_anomalies({"train": good}, skewed, serving=good) == []
    assert [x.feature for x in find_anomalies({"train": good}, skewed, serving=asked)] == ["device"]


def test_the_gate_says_every_anomaly_and_what_to_do() -> None:
    found = [
        Anomaly("train", "price", "Out-of-range values", "-2.5"),
        Anomaly("natural", "query", "Column dropped", "Column is completely missing"),
    ]
    with pytest.raises(GateError) as caught:
        check(found)
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 anomalies in the ingested data:"
    assert lines[1:3] == [
        "  - train: price: Out-of-range values: -2.5",
        "  - natural: query: Column dropped: Column is completely missing",
    ]
    assert "review the schema" in lines[3]
    assert caught.value.exit_code == 3
