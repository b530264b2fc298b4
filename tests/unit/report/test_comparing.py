"""Two runs side by side: what differs is there, and what cannot be said is said."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from heft.cli import app
from heft.report import complete
from heft.report.comparing import Compared, compare_runs, compared_markdown, compared_table


@pytest.fixture
def other(facts: dict[str, Any]) -> dict[str, Any]:
    """The same log, other settings, a worse model on human grades that did not ship."""
    run = copy.deepcopy(facts) | {"name": "later", "pushed": False, "blessed": False}
    run["blessing_reasons"] = ["Evaluator: ctr auc is 0.51; expected above 0.6."]
    run["lineage"] |= {"config_digest": "beef", "seed": 8}
    auc = run["comparison"]["views"]["graded"]["metrics"][0]
    auc["weighted"] -= 0.2
    auc["weighted_interval"] = [end - 0.2 for end in auc["weighted_interval"]]
    return run


def _figure(found: Compared, view: str, metric: str) -> Any:
    return next(x for x in found.figures if (x.view, x.metric) == (view, metric))


def test_figures_differ_where_the_runs_do(facts: dict[str, Any], other: dict[str, Any]) -> None:
    for run in (facts, other):
        run["lineage"]["data_digest"] = "same"
    found = compare_runs(facts, other)
    assert found.names == ("chorus", "later")
    assert found.headlines == ("Shipped", "Not shipped")
    assert found.reasons[1][0].startswith("Evaluator: ctr auc is 0.51")
    auc = _figure(found, "graded", "ctr_auc")
    assert auc.difference == pytest.approx(-0.2)
    assert auc.apart and auc.same_rows
    same = _figure(found, "natural", "ctr_auc")
    assert (same.difference, same.apart) == (0.0, False)
    assert {made.name for made in found.made} == {"config digest", "seed"}
    assert "the same rows" in found.notes[0]


def test_other_rows_are_said_to_be_other_rows(facts: dict[str, Any], other: dict[str, Any]) -> None:
    facts["lineage"]["data_digest"], other["lineage"]["data_digest"] = "a", "b"
    found = compare_runs(facts, other)
    assert not any(figure.same_rows for figure in found.figures)
    assert "different rows" in found.notes[0]
    del other["comparison"]
    found = compare_runs(facts, other)
    assert found.figures == ()
    assert "no view that both runs" in found.notes[0]
    assert compare_runs({}, {}).made == ()


def test_what_is_printed_is_what_was_found(facts: dict[str, Any], other: dict[str, Any]) -> None:
    other["name"] = "[bold]x[/] | <b> @team"
    found = compare_runs(facts, other)
    stream = io.StringIO()
    for part in compared_table(found):
        Console(file=stream, width=160).print(part)
    text = stream.getvalue()
    for said in ("[bold]x[/] | <b> @team", "Click AUC", "−0.2000", "config digest", "beef"):
        assert said in text, said
    lines = compared_markdown(found).splitlines()
    rows = [line for line in lines if line.startswith("| Human grades")]
    assert {row.count("|") for row in rows} == {7}
    assert not any("<b>" in line or "@team" in line for line in lines)


def test_the_command_takes_two_runs(
    facts: dict[str, Any], other: dict[str, Any], tmp_path: Path
) -> None:
    for run in (facts, other):
        folder = tmp_path / run["name"] / "report"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(complete(run)))
        (folder.parent / "summary.json").write_text("{}")
    arguments = ["compare", "chorus", "later", "--runs", str(tmp_path)]
    said = CliRunner().invoke(app, [*arguments, "--json"])
    assert said.exit_code == 0, said.output
    assert Compared.model_validate_json(said.output) == compare_runs(facts, other)
    said = CliRunner().invoke(app, [*arguments, "--markdown"])
    assert said.output.startswith("## chorus and later")
