"""The protocol of the noise-detection benchmark, and how it treats other projects."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans
from sklearn.metrics import f1_score

from benchmarks.importance import peers
from benchmarks.importance.peer_environments import PEERS, SCRIPTS, Peer, prepare
from benchmarks.importance.peer_tables import TABLES, Split, read_splits, split_table, write_splits

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def squared(scores: np.ndarray, low: np.ndarray) -> float:
    return sum(((part - part.mean()) ** 2).sum() for part in (scores[low], scores[~low]))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(float, st.integers(2, 40), elements=numbers))
def test_two_means_is_the_best_cut_there_is(scores: np.ndarray) -> None:
    low = peers.two_means(scores)
    if np.ptp(scores) == 0:
        assert not low.any()
        return
    cuts = [scores <= cut for cut in np.unique(scores)[:-1]]
    least = min(squared(scores, cut) for cut in cuts)
    assert squared(scores, low) <= least + 1e-6 * max(least, 1)
    assert scores[low].max() <= scores[~low].min()


def test_two_means_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 80), rng.normal(3, 1, 300)])
    labels = KMeans(2, n_init=20, random_state=0).fit_predict(scores[:, None])
    lower = labels == labels[scores.argmin()]
    assert (peers.two_means(scores) == lower).mean() > 0.99


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(float, 30, elements=numbers), st.floats(0.5, 4), st.floats(-5, 5))
def test_a_shifted_and_stretched_score_finds_the_same(
    scores: np.ndarray, stretch: float, shift: float
) -> None:
    turned = np.arange(30) % 5 == 0
    low = peers.two_means(scores)
    moved = peers.two_means(scores * stretch + shift)
    assert low.sum() == moved.sum() or np.isclose(
        squared(scores, low), squared(scores, moved), rtol=1e-6
    )
    assert peers.f1(scores, turned) == pytest.approx(f1_score(turned, low, zero_division=0))


@pytest.mark.parametrize("name", [name for name in TABLES if name != "shop"])
def test_a_table_is_split_as_the_protocol_says(name: str) -> None:
    split, clean = split_table(name, 0.2, 1), split_table(name, 0.0, 1)
    assert split.turned.sum() == round(0.2 * len(split.y))
    assert ((split.y != clean.y) == split.turned).all()
    assert (split.x == clean.x).all() and (split.valid_y == clean.valid_y).all()
    assert np.isfinite(split.x).all() and set(split.valid_y) == {0, 1}
    sizes = len(split.y), len(split.valid_y), len(split.test_y)
    small = {"breast_cancer", "wine", "iris"}
    assert sizes == (1_000, 100, 500) or (
        name in small and sizes[0] == pytest.approx(10 * sizes[1], rel=0.1)
    )
    parts = np.concatenate([split.x, split.valid_x, split.test_x])
    assert len(parts) == sum(sizes)


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (split_table("fried", 0.1, seed) for seed in (0, 0, 1))
    assert (first.x == again.x).all() and (first.turned == again.turned).all()
    assert not (first.x == other.x).all()


def test_peers_are_given_the_splits_without_the_truth(tmp_path: Path) -> None:
    split = split_table("moons", 0.2, 0)
    write_splits([split], tmp_path)
    [(name, columns)] = read_splits(tmp_path)
    assert name == split.name
    assert "turned" not in columns
    assert (columns["y"] == split.y).all() and (columns["valid_x"] == split.valid_x).all()


def fake(scores: np.ndarray, noise: float = 0.2) -> tuple[Split, np.ndarray]:
    empty = np.empty((0, 1), np.float32)
    turned = np.array([True, False, False, False, True])
    return Split("t", noise, 0, empty, empty, empty, empty, empty, empty, turned), scores


def test_a_perfect_score_has_f1_one_and_a_missing_or_broken_one_counts_as_nothing() -> None:
    split, scores = fake(np.array([0.0, 1.0, 1.1, 1.0, 0.1]))
    assert peers.mean_figures([split], {split.name: scores}) == (1.0, 1.0)
    assert peers.mean_figures([split], {}) == (0.0, 0.5)
    assert peers.mean_figures([split], {split.name: np.full(5, np.nan)}) == (0.0, 0.5)


def test_the_summary_names_the_best_and_says_what_was_left_out() -> None:
    split, good = fake(np.array([0.0, 1.0, 1.1, 1.0, 0.1]))
    bad = good[::-1].copy()[[2, 0, 1, 3, 4]]
    found = peers.summary(
        [split], {"heft/a": {split.name: bad}, "heft/b": {split.name: good}},
        {"other/c": {split.name: bad}}, 0.2, ["x could not be installed: no such package"],
    )  # fmt: skip
    assert (found["best_ours"], found["f1"]) == ("heft/b", 1.0)
    assert found["best_peer"] == "other/c"
    assert found["unavailable"] == ["x could not be installed: no such package"]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_package_of_a_peer_is_pinned(peer: Peer) -> None:
    lines = peer.pins.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert any(line.startswith(f"{peer.name}==") for line in lines)
    assert peer.script.exists()


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch) -> None:
    pins = tmp_path / "nowhere.txt"
    pins.write_text("no-such-package-of-anyone==0.0.1\n")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    python, error = prepare(Peer("nowhere", scripts=tmp_path), tmp_path / "envs")
    assert python is None
    assert "no-such-package-of-anyone" in error


def test_one_method_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    """The exchange, run as the peers' scripts run it: a process, files in, files out."""
    splits, scores = tmp_path / "splits", tmp_path / "scores"
    write_splits([split_table("moons", 0.2, 0)], splits)
    scores.mkdir()
    script = tmp_path / "some_scores.py"
    script.write_text(
        "from exchange import serve\n"
        "serve({'good': lambda split, models: split['y'] * 1.0 * models,\n"
        "       'bad': lambda split, models: 1 / 0,\n"
        "       'late': lambda split, models: split['y']}, slow=('late',))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(splits), str(scores), "--models=3", "--slow-at=0.1"],
        env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: peers.Found = {}
    troubles = peers._collect(Peer("some"), scores, found)
    assert list(found) == ["some/good"]
    [values] = found["some/good"].values()
    assert values.max() == 3.0
    assert len(troubles) == 1 and "some/bad" in troubles[0] and "ZeroDivisionError" in troubles[0]


def test_the_command_ends_in_one_json_line(tmp_path: Path, capsys, monkeypatch) -> None:
    arguments = "peers --noise 0.2 --tables iris moons --methods aum label_quality --skip-peers"
    monkeypatch.setattr(sys, "argv", [*arguments.split(), "--runs", str(tmp_path / "runs")])
    peers.main()
    lines = capsys.readouterr().out.strip().splitlines()
    figures = json.loads(lines[-1])
    assert set(figures["ours"]) == {"heft/aum", "heft/label_quality"}
    assert figures["best_ours"] in figures["ours"] and figures["f1"] == max(
        figures["ours"].values()
    )
    assert figures["noise"] == 0.2 and figures["splits"] == 2
    assert figures["f1"] > 0.5  # iris and moons are easy
