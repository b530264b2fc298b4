"""Which pushed model is asked, and what it says as a terminal shows it."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from heft.errors import InputError
from heft.model.predict import predict_columns, predictions_table, pushed_model


def test_queries_and_titles_are_shown_as_they_are_the_best_first() -> None:
    answers = {"ctr": np.array([0.25, 0.5]), "cvr": np.array([0.5, 0.5])}
    answers["ctcvr"] = answers["ctr"] * answers["cvr"]
    scores = np.array([1.0, 2.0])
    titles = ["batteries [pack of 4]", "a lamp [/b]"]
    table = predictions_table("[/b] lamp", titles, answers, "ctr * [price]", scores)
    screen = Console(width=120)
    with screen.capture() as shown:
        screen.print(table)
    lines = [" ".join(line.replace("│", " ").split()) for line in shown.get().splitlines()]
    assert "query: [/b] lamp" in lines
    assert any("ctr * [price]" in line for line in lines)
    best, other = (lines.index(f"{t} {f}") for t, f in (
        (titles[1], "0.5000 0.5000 0.2500 2.0000"), (titles[0], "0.2500 0.5000 0.1250 1.0000"),
    ))  # fmt: skip
    assert best < other


def test_the_newest_pushed_version_answers_and_a_broken_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pushed no model: its report says why"):
        pushed_model(tmp_path)
    for version in ("9", "10", "tmp"):
        (tmp_path / "serving" / "heft" / version).mkdir(parents=True)
    newest = pushed_model(tmp_path)
    assert newest.name == "10"
    with pytest.raises(InputError, match="10 holds no whole SavedModel"):
        predict_columns(newest, "q", ["t"], {})
