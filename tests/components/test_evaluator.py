"""The Evaluator with Heft's config, on exported models, as the benchmark runs it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import tensorflow as tf
from sklearn import metrics as sk

from benchmarks.evaluate import SLICES, evaluator, judge, write_model, write_rows
from heft import features as f
from heft.evaluation.judging import read_verdict
from heft.evaluation.predicting import predict_examples
from heft.examples import Feature, read_columns, shard_paths
from tests.unit.evaluation.tfma_runs import metrics


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_rows(folder / "examples", 3_000, seed=0)
    for name, noise in (("weighted", 0.4), ("control", 0.8)):
        write_model(folder / name, noise)
    evaluator(folder)()
    judge(folder)
    return folder


def test_it_blesses_a_good_model_and_says_what_scikit_learn_says(place: Path) -> None:
    assert (place / "blessing" / "BLESSED").is_file()
    paths = shard_paths(str(place / "examples" / f"Split-{f.NATURAL}"))
    labels = read_columns(paths, [Feature(n, int) for n in (f.CLICK, f.CONVERSION)])
    found = metrics(place / "evaluation").set_index(["slice", "model", "output", "name", "diff"])
    values = found.sort_index()["value"]
    for model, name in (("candidate", "weighted"), ("baseline", "control")):
        exported = tf.saved_model.load(str(place / name / "Format-Serving"))
        answers = predict_examples(exported, paths)
        for head, label in ((f.CTR, f.CLICK), (f.CTCVR, f.CONVERSION)):
            auc = sk.roc_auc_score(labels[label], answers[head])
            assert values[(), model, head, "auc", False] == pytest.approx(auc, abs=1e-6)
    change = values[(), "candidate", f.CTR, "auc", True]
    assert change > 0, "less noise ranks better than more"


def test_evaluator_and_judge_measure_the_same(place: Path) -> None:
    """One through Beam, slice by slice; the other in memory."""
    found = metrics(place / "evaluation")
    found = found[~found["diff"]].set_index(["slice", "model", "output", "name"]).sort_index()
    natural = read_verdict(str(place / "verdict")).views[f.NATURAL]
    assert {part.column for part in natural.slices} >= set(SLICES[1:])
    parts = [((), natural.metrics)]
    parts += [(((part.column, part.value),), part.metrics) for part in natural.slices]
    for key, measured in parts:
        for metric in measured:
            head, _, name = metric.name.partition("_")
            for model, value in (("candidate", metric.weighted), ("baseline", metric.control)):
                said = found["value"][key, model, head, name]
                assert said == pytest.approx(value, abs=1e-6), (key, metric.name)


def test_it_measures_what_tfx_measures(place: Path, tmp_path: Path) -> None:
    """Shards read whole, and of each row a few columns, change no figure."""
    for name in ("examples", "weighted", "control"):
        shutil.copytree(place / name, tmp_path / name)
    evaluator(tmp_path, stock=True)()
    key = ["slice", "model", "output", "name", "diff"]
    ours, stock = (
        metrics(folder / "evaluation").set_index(key).sort_index()["value"]
        for folder in (place, tmp_path)
    )
    assert len(ours) > 100
    # Predictions of batches of another size differ in the last digit of a float32.
    pd.testing.assert_series_equal(ours, stock, rtol=0, atol=1e-7)
