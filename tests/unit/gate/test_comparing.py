"""Drift and skew: what moved, by how much, and what is not compared."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from heft import features as f
from heft.gate.comparing import compare, with_defaults
from heft.gate.findings import Findings, Passed
from heft.gate.inspecting import Span, inspect
from heft.gate.settings import GateSettings
from tests.unit.model.rows import schema

from .spans import COLUMNS, impressions, said, span_of, texts

ROWS = 1_200
SETTINGS = GateSettings(min_rows=200)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Span:
    return span_of(tmp_path_factory.mktemp("before"), impressions(ROWS, 1), number=4)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Span:
    """Tablets and dear things, and a third of the brands gone."""
    rng = np.random.default_rng(0)
    columns = impressions(ROWS, 2)
    columns["device"] = texts(np.where(rng.random(ROWS) < 0.5, "tablet", "phone"))
    columns[f.PRICE] = (columns[f.PRICE] * 20).astype(np.float32)
    return span_of(tmp_path_factory.mktemp("after"), columns, number=5)


def _compared(span: Span, other: Span, settings: GateSettings = SETTINGS) -> tuple:
    return compare(
        f.TRAIN, span.statistics[f.TRAIN], other.statistics[f.TRAIN], "span 4",
        with_defaults(span.schema, settings, COLUMNS), settings, COLUMNS,
    )  # fmt: skip


def test_the_same_people_another_day_have_not_drifted(before: Span, tmp_path: Path) -> None:
    again = span_of(tmp_path, impressions(ROWS, 3))
    findings, measured = _compared(again, before)
    assert findings == []
    sizes = {(one.feature, one.measure): one.value for one in measured}
    assert set(sizes) == {
        (f.CATEGORY, "L-infinity"), (f.BRAND, "L-infinity"), ("device", "L-infinity"),
        (f.PRICE, "Jensen–Shannon"), (f.CATEGORY, "absence"), (f.BRAND, "absence"),
        ("device", "absence"), (f.PRICE, "absence"),
    }  # fmt: skip
    assert max(sizes.values()) < 0.1


def test_l_infinity_is_the_largest_difference_of_a_share(before: Span, after: Span) -> None:
    _, measured = _compared(after, before)
    [found] = [x.value for x in measured if x.feature == "device" and x.measure == "L-infinity"]
    shares = []
    for span in (before, after):
        [stats] = [
            x for x in span.statistics[f.TRAIN].datasets[0].features if x.path.step == ["device"]
        ]
        counts = {b.label: b.sample_count for b in stats.string_stats.rank_histogram.buckets}
        shares.append({name: count / sum(counts.values()) for name, count in counts.items()})
    names = shares[0].keys() | shares[1].keys()
    by_hand = max(abs(shares[0].get(n, 0) - shares[1].get(n, 0)) for n in names)
    assert found == pytest.approx(by_hand, abs=1e-5)


def test_what_drifted_is_said_with_what_moved(before: Span, after: Span) -> None:
    findings, _ = _compared(after, before)
    found = {one.anomaly.feature: one.anomaly for one in findings}
    assert set(found) == {"device", f.PRICE}
    assert found["device"].expected == "L-infinity to span 4 at most 0.3"
    assert "most at tablet: 0.0% before" in found["device"].came
    assert "median" in found[f.PRICE].came and found[f.PRICE].kind == "drift"


def test_a_comparator_of_the_schema_wins_and_defaults_can_be_left_out(
    before: Span, after: Span
) -> None:
    own = schema()
    [device] = [x for x in own.feature if x.name == "device"]
    device.drift_comparator.infinity_norm.threshold = 0.9
    findings, _ = _compared(replace(after, schema=own), before)
    assert [one.anomaly.feature for one in findings] == [f.PRICE]
    bare = schema_pb2.Schema()
    for feature in deepcopy(own).feature:
        feature.ClearField("drift_comparator")
        bare.feature.append(feature)
    none = GateSettings(drift_categories=None, drift_numbers=None, drift_missing=None)
    assert _compared(replace(after, schema=bare), before, none) == ([], [])
    # And the other way round: without one in the schema the config's counts.
    findings, _ = _compared(replace(after, schema=bare), before)
    assert {one.anomaly.feature for one in findings} == {"device", f.PRICE}


def test_a_column_that_is_on_one_side_alone_is_not_compared(before: Span, tmp_path: Path) -> None:
    columns = impressions(ROWS, 3)
    del columns["device"], columns[f.PRICE]
    fewer = span_of(tmp_path, columns)
    _, measured = _compared(before, fewer)
    assert {one.feature for one in measured} == {f.CATEGORY, f.BRAND}
    # The schema allows that no row has a price; the span before does not.
    findings, _ = _compared(fewer, before)
    [price] = [one.anomaly for one in findings if one.anomaly.feature == f.PRICE]
    assert "absent in 0.0% before, 100.0% now" in price.came and price.rows == 900


def _inspected(
    span: Span, passed: list[Passed] | None = None, settings: GateSettings = SETTINGS
) -> Findings:
    return inspect(span, passed or [], settings, COLUMNS)


@pytest.fixture(scope="module")
def passed(before: Span, tmp_path_factory: pytest.TempPathFactory) -> Passed:
    """The artifact that the span before left."""
    uri = str(tmp_path_factory.mktemp("passed"))
    found = _inspected(before)
    found.check(uri)
    found.save(uri)
    return Passed.load(uri)


def test_a_first_span_is_compared_with_nothing_and_says_so(before: Span) -> None:
    found = _inspected(before)
    assert found.passed and found.compared_with == () and found.usual is None
    assert any("no span before it has passed" in note for note in found.notes)
    assert any("skew is not measured" in note for note in found.notes)
    assert not found.measured


def test_a_drifted_span_is_stopped_with_the_rows_of_what_moved(after: Span, passed: Passed) -> None:
    found = _inspected(after, [passed])
    assert said(found) == [("device", "drift"), (f.PRICE, "drift")]
    assert found.compared_with == (4,)
    train, natural = [one for one in found.anomalies if one.feature == "device"]
    assert (train.split, natural.split) == (f.TRAIN, f.NATURAL)
    tablets = [name == "tablet" for name in train.examples]
    assert tablets == [True] and 400 < (train.rows or 0) < 500
    # The drift of columns that have none is there too.
    assert {one.feature for one in found.measured} >= {f.CATEGORY, f.BRAND}


def test_few_rows_are_not_compared_and_that_is_said(after: Span, passed: Passed) -> None:
    found = _inspected(after, [passed], GateSettings(min_rows=500))
    # 900 rows of train, 300 of natural.
    assert {one.split for one in found.anomalies} == {f.TRAIN}
    assert "natural is not compared with span 4: 300 and 300 rows, and gate.min_rows=500" in (
        found.notes
    )


def test_history_is_the_newest_for_drift_and_all_of_it_for_labels(
    before: Span, passed: Passed, tmp_path: Path
) -> None:
    older = replace(passed, span=2, uri=str(tmp_path / "nothing there"))
    found = _inspected(replace(before, number=6), [older, passed])
    assert found.passed and found.compared_with == (4, 2)
    assert {one.against for one in found.measured} == {"span 4"}
    assert found.usual is not None
    assert found.usual.rows == 2 * ROWS == 2 * found.labels.rows
