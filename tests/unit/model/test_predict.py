"""What a pushed model says, as a terminal shows it."""

import numpy as np
from rich.console import Console

from heft.model.predict import predictions_table


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
