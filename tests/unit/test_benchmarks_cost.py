"""The cost of a size that was not measured, against figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cost
from benchmarks.cost import Line, Prices, estimate

# One node that only starts up, one that grows: 10 s and 20 microseconds an impression.
GROWTH: dict[str, Any] = {
    "1000000": {"rows": 1_000_000, "nodes": {
        "Gate": {"seconds": 4.0, "peak_gib": 1.0, "output_bytes": 1_000},
        "Ingest": {"seconds": 30.0, "peak_gib": 2.0, "output_bytes": 500_000_000},
    }},
    "3000000": {"rows": 3_000_000, "nodes": {
        "Gate": {"seconds": 3.9, "peak_gib": 1.0, "output_bytes": 1_000},
        "Ingest": {"seconds": 70.0, "peak_gib": 2.0, "output_bytes": 1_500_000_000},
    }},
    # Two sizes are enough: the smallest has the noise of the start in it.
    "100000": {"rows": 100_000, "nodes": {
        "Gate": {"seconds": 9.0, "peak_gib": 1.0, "output_bytes": 1_000},
        "Ingest": {"seconds": 29.0, "peak_gib": 2.0, "output_bytes": 60_000_000},
    }},
}  # fmt: skip
SHUFFLE = {"rows": 100_000, "nodes": {"Ingest": 12_000_000}}
PRICES = Prices(cpu_hour=0.05, gpu_hour=3.0, gb_month=0.02)


def test_a_node_costs_what_its_line_says() -> None:
    gate, ingest = estimate(GROWTH, 1e9, 2, {}, [SHUFFLE])
    assert ingest.cpu_hours == pytest.approx(2 * (10 + 20e-6 * 1e9) / 3600)
    assert ingest.gpu_hours == 0
    assert ingest.output_gb == pytest.approx(500)
    assert ingest.shuffle_gb == pytest.approx(120)
    assert ingest.memory_gib == pytest.approx(2)
    assert gate.cpu_hours == pytest.approx(2 * 4 / 3600)
    assert (gate.output_gb, gate.shuffle_gb) == (pytest.approx(1e-6), 0)
    assert ingest.price(PRICES, keep=3) == pytest.approx(
        0.05 * ingest.cpu_hours + 500 * 3 * 0.02
    )  # fmt: skip


def test_what_is_shuffled_whatever_the_size_is_not_multiplied() -> None:
    small = {"rows": 20_000, "nodes": {"Ingest": 4_000_000, "Gate": 1_000_000}}
    large = {"rows": 100_000, "nodes": {"Ingest": 12_000_000, "Gate": 1_000_000}}
    gate, ingest = estimate(GROWTH, 1e9, 2, {}, [large, small])
    assert ingest.shuffle_gb == pytest.approx((2e6 + 100 * 1e9) / 1e9)
    assert gate.shuffle_gb == pytest.approx(1e-3)


def test_a_node_on_a_gpu_pays_for_the_gpu_alone() -> None:
    ingest = estimate(GROWTH, 1e9, 2, {"Ingest": 10.0})[1]
    assert ingest.cpu_hours == 0
    assert ingest.gpu_hours == pytest.approx((10 + 20_000) / 10 / 3600)


def test_what_was_measured_is_given_back_and_one_size_is_a_line_through_nothing() -> None:
    for rows, run in GROWTH.items():
        if int(rows) > 100_000:
            ingest = estimate(GROWTH, int(rows), 1, {})[1]
            assert ingest.cpu_hours * 3600 == pytest.approx(run["nodes"]["Ingest"]["seconds"])
    alone = estimate({"1000000": GROWTH["1000000"]}, 2e6, 1, {})[1]
    assert alone.cpu_hours * 3600 == pytest.approx(60)


@given(
    st.dictionaries(st.integers(1, 10**7), st.floats(0, 1e6), min_size=1, max_size=4),
    st.floats(1, 1e12), st.floats(1, 1e12),
)  # fmt: skip
def test_more_impressions_never_cost_less(points: dict[int, float], one: float, two: float) -> None:
    line = Line.through(points)
    assert 0 <= line.at(min(one, two)) <= line.at(max(one, two))


def test_the_command_prints_the_table_and_its_sums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growth, shuffle = tmp_path / "growth.json", tmp_path / "shuffle.json"
    growth.write_text(json.dumps(GROWTH))
    shuffle.write_text(json.dumps(SHUFFLE))
    given_prices = ["--cpu-hour", "0.05", "--gpu-hour", "3", "--gb-month", "0.02"]
    code = cost.main(["--growth", str(growth), "--shuffle", str(shuffle), *given_prices])
    printed = capsys.readouterr().out
    assert code == 0
    assert "| Ingest | 11.1 | 0 | 500 | 120 | 2.0 | 10.6 |" in printed
    assert "| all | 11.1 | 0 | 500 | 120 |  | 10.6 |" in printed
    last = json.loads(printed.splitlines()[-1])
    assert last == {
        "cpu_hours": 11.1, "gpu_hours": 0.0, "output_gb": 500.0, "shuffle_gb": 120.0, "cost": 10.56,
    }  # fmt: skip
    # Without prices it names none.
    assert cost.main(["--growth", str(growth)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cost"] is None


def test_a_node_that_outgrows_a_worker_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = json.loads(json.dumps(GROWTH))
    growing["3000000"]["nodes"]["Gate"]["peak_gib"] = 1.1
    growth = tmp_path / "growth.json"
    growth.write_text(json.dumps(growing))
    assert cost.main(["--growth", str(growth)]) == 0
    assert "Gate: 51 GiB by this line do not fit on one worker" in capsys.readouterr().out


@pytest.mark.parametrize("speedup", ["Ingset=10", "Ingest=0"])
def test_a_speedup_that_means_nothing_is_refused(
    speedup: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growth = tmp_path / "growth.json"
    growth.write_text(json.dumps(GROWTH))
    assert cost.main(["--growth", str(growth), "--speedup", speedup]) == 2
    assert "expected a positive number for one of Gate, Ingest" in capsys.readouterr().err
