"""Heft's metrics under TFMA: equal to scikit-learn's in every slice, with intervals that hold."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from tensorflow_model_analysis.api import model_eval_lib
from tensorflow_model_analysis.proto import config_pb2

from heft import features as f
from heft.evaluation import ece
from heft.evaluation.metrics import reliability
from heft.evaluation.tfma_intervals import jackknife_interval
from heft.evaluation.tfma_rows import GROUPS, ROWS_KEY, row_computation
from pipeline.config import Thresholds
from pipeline.evaluation import eval_config
from tests.unit.evaluation.tfma_runs import HEADS, evaluated, metrics, rows

SLICES = ("device", f.CATEGORY)

Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def columns() -> Columns:
    return rows()


@pytest.fixture(scope="module")
def output(columns: Columns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfma")
    return evaluated(columns, eval_config(Thresholds(), SLICES), folder, baseline=True)


@pytest.fixture(scope="module")
def found(output: Path) -> pd.DataFrame:
    frame = metrics(output)
    return frame.set_index(["slice", "model", "output", "name", "diff"]).sort_index()


def _slices(columns: Columns) -> dict[tuple, np.ndarray]:
    parts: dict[tuple, np.ndarray] = {(): np.ones(len(columns[f.CLICK]), bool)}
    for name in SLICES:
        for value in np.unique(columns[name].astype(bytes)):
            parts[((name, value.decode()),)] = columns[name] == value
    return parts


def _grouped_auc(label: np.ndarray, score: np.ndarray, group: np.ndarray) -> float:
    values, sizes = [], []
    for key in np.unique(group.astype(bytes)):
        part = group == key
        if 0 < label[part].sum() < part.sum():
            values.append(sk.roc_auc_score(label[part], score[part]))
            sizes.append(part.sum())
    return float(np.average(values, weights=sizes))


def _ndcg(label: np.ndarray, score: np.ndarray, group: np.ndarray) -> float:
    values = []
    for key in np.unique(group.astype(bytes)):
        part = group == key
        if label[part].sum():
            one = part.sum() == 1
            values.append(1.0 if one else sk.ndcg_score([label[part]], [score[part]], k=10))
    return float(np.mean(values))


def _by_hand(columns: Columns, part: np.ndarray, model: str, head: str) -> dict[str, float]:
    """Every metric by scikit-learn, or in the obvious way; ECE has a test of its own."""
    label, score = columns[HEADS[head]][part], columns[f"{model}_{head}"][part].astype(float)
    request, user = columns[f.REQUEST_ID][part], columns[f.USER_ID][part]
    known = user != b""
    return {
        "auc": sk.roc_auc_score(label, score),
        "auc_pr": sk.average_precision_score(label, score),
        "log_loss": sk.log_loss(label, np.clip(score, 1e-7, 1 - 1e-7)),
        "calibration": score.sum() / label.sum(),
        "ece": ece(label, score),
        "gauc": _grouped_auc(label, score, request),
        "gauc_by_user": _grouped_auc(label[known], score[known], user[known]),
        "ndcg_at_10": _ndcg(label, score, request),
    }


def test_every_metric_is_that_of_scikit_learn_in_every_slice(
    columns: Columns, found: pd.DataFrame
) -> None:
    parts = _slices(columns)
    assert len(parts) == 8
    for key, part in parts.items():
        assert found.value[key, "candidate", f.CTR, "example_count", False] == part.sum()
        for model in ("candidate", "baseline"):
            for head in HEADS:
                for name, value in _by_hand(columns, part, model, head).items():
                    said = found.value[key, model, head, name, False]
                    assert said == pytest.approx(value, abs=1e-6), (key, model, head, name)


def _group_of(identifier: bytes) -> int:
    hashed = hashlib.blake2b(identifier, digest_size=8).digest()
    return int.from_bytes(hashed, "little") % GROUPS


def _jackknife(values: np.ndarray, point: float) -> tuple[float, float]:
    error = math.sqrt((GROUPS - 1) / GROUPS * ((values - values.mean()) ** 2).sum())
    step = stats.t.ppf(0.975, GROUPS - 1) * error
    return point - step, point + step


def test_intervals_leave_out_whole_requests_and_are_paired(
    columns: Columns, found: pd.DataFrame
) -> None:
    """The slow twin: rows are really left out, and scikit-learn is asked again."""
    group = np.array([_group_of(request) for request in columns[f.REQUEST_ID]])
    for key, part in list(_slices(columns).items())[:2]:
        without = {model: [] for model in ("candidate", "baseline")}
        for left_out in range(GROUPS):
            rest = part & (group != left_out)
            for model, values in without.items():
                label, score = columns[f.CLICK][rest], columns[f"{model}_ctr"][rest]
                values.append(sk.roc_auc_score(label, score))
        candidate, baseline = (np.array(values) for values in without.values())
        row = found.loc[key, "candidate", f.CTR, "auc", False]
        assert (row.low, row.high) == pytest.approx(_jackknife(candidate, row.value), abs=1e-9)
        change = found.loc[key, "candidate", f.CTR, "auc", True]
        expected = _jackknife(candidate - baseline, change.value)
        assert (change.low, change.high) == pytest.approx(expected, abs=1e-9)
        # Paired: what both models have in common is not counted as chance.
        assert change.high - change.low < row.high - row.low


def test_a_bound_is_one_end_of_a_one_sided_interval(found: pd.DataFrame) -> None:
    row = found.loc[(), "candidate", f.CTR, "auc", False]
    error = (row.high - row.low) / 2 / stats.t.ppf(0.975, GROUPS - 1)
    most = found.value[(), "candidate", f.CTR, "auc_at_most", False]
    assert most == pytest.approx(row.value + stats.t.ppf(0.995, GROUPS - 1) * error, abs=1e-9)
    calibration = found.value[(), "candidate", f.CTR, "calibration", False]
    least = found.value[(), "candidate", f.CTR, "calibration_at_least", False]
    assert least < calibration < found.value[(), "candidate", f.CTR, "calibration_at_most", False]


def test_the_calibration_plot_has_every_row_and_positive(output: Path, columns: Columns) -> None:
    plots = {
        (plot.key.model_name, plot.key.output_name): plot.value.calibration_histogram_buckets
        for part in model_eval_lib.load_plots(str(output))
        if not part.slice_key.single_slice_keys
        for plot in part.plot_keys_and_values
    }
    assert len(plots) == 4
    buckets = plots["candidate", f.CTR].buckets
    assert sum(bucket.num_weighted_examples.value for bucket in buckets) == len(columns[f.CLICK])
    assert sum(bucket.total_weighted_label.value for bucket in buckets) == columns[f.CLICK].sum()
    predicted = [bucket.total_weighted_refined_prediction.value for bucket in buckets]
    assert sum(predicted) == pytest.approx(columns["candidate_ctr"].sum(dtype=float))
    for bucket, total in zip(buckets, predicted, strict=True):
        rows_of = bucket.num_weighted_examples.value
        if rows_of:
            low, high = bucket.lower_threshold_inclusive, bucket.upper_threshold_exclusive
            assert low - 1e-6 <= total / rows_of <= high + 1e-6


def test_ece_by_hand() -> None:
    """The bins of ECE, found by sorting, agree with rows dealt to bins one by one."""
    rng = np.random.default_rng(0)
    score = np.round(rng.random(997), 2)
    label = (rng.random(997) < score**2).astype(float)
    bins: dict[int, list[int]] = {}
    for value in np.unique(score):
        rows_of = np.flatnonzero(score == value)
        middle = (score < value).sum() + len(rows_of) / 2
        bins.setdefault(min(int(middle / 997 * 20), 19), []).extend(rows_of)
    gap = sum(len(r) * abs(score[r].mean() - label[r].mean()) for r in bins.values()) / 997
    assert ece(label, score) == pytest.approx(gap, abs=1e-12)
    assert len(reliability(label, score).weight) == len(bins)


def test_the_jackknife_covers_the_truth_as_often_as_it_says() -> None:
    """Of a mean over pages of ten alike rows, whose truth is 0."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        page = rng.normal(size=200)
        group = rng.integers(0, GROUPS, 200)
        replicates = [page.mean(), *(page[group != k].mean() for k in range(GROUPS))]
        found = jackknife_interval(np.array(replicates))
        assert found is not None
        step = stats.t.ppf(0.975, GROUPS - 1) * found.sample_standard_deviation
        covered += abs(found.sample_mean) <= step
    # Binomial(400, .95): 365 to 393 holds 99.9 % of it.
    assert 365 <= covered <= 393


def test_a_metric_that_is_undefined_without_a_group_has_no_interval() -> None:
    assert jackknife_interval(np.array([0.5] + [0.5] * (GROUPS - 1) + [np.nan])) is None


_CONFIG = config_pb2.EvalConfig(
    model_specs=[config_pb2.ModelSpec(label_keys={f.CTR: f.CLICK}, prediction_keys={f.CTR: f.CTR})]
)


def _packed(combiner, request: int, row: int) -> bytes:
    return combiner._layout.packer.pack(request, 0, row, 0.5)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=120),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_what_is_kept_of_too_many_rows_is_whole_requests_however_they_came(
    requests: list[int], parts: int, random
) -> None:
    combiner = row_computation(_CONFIG, max_rows=30).combiner
    packed = [
        _packed(combiner, hash(r * 0x9E3779B97F4A7C15) & (2**64 - 1), k)
        for k, r in enumerate(requests)
    ]
    kept = []
    for _ in range(2):
        random.shuffle(packed)
        strung = []
        for part in range(parts):
            accumulator = combiner.create_accumulator()
            for row in packed[part::parts]:
                accumulator = combiner.add_input(accumulator, row)
            strung.append(accumulator)
        found = combiner.extract_output(combiner.merge_accumulators(strung))[ROWS_KEY]
        assert found.count == len(requests)
        assert len(found.packed) <= 30 or len(np.unique(found.request)) == 1
        kept.append(sorted(found.packed.tolist()))
        sizes = {key: (found.request == key).sum() for key in np.unique(found.request)}
        for key, size in sizes.items():
            assert size == sum(row[:8] == int(key).to_bytes(8, "little") for row in packed)
    if len(requests) <= 30:
        assert len(kept[0]) == len(requests)
    assert kept[0] == kept[1]
