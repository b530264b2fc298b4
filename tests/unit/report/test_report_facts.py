"""What programs and pull requests read of a report: the facts, their schema, and Markdown."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from heft.errors import DataError
from heft.report import complete, json_schema, markdown, parse_facts, render, summary
from tests.unit.report.conforming import conforms

ROOT = Path(__file__).parents[3]


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(DataError, match=r"rows\.read of the run's facts.*received 'many'"):
        render({"rows": {"read": "many"}})


def test_summary_has_what_programs_read(facts: dict[str, Any]) -> None:
    found = summary(facts)
    assert found["rows"]["read"] == 251_000
    assert (found["duplicates"], found["quarantined"]) == (780, 420)
    assert found["ess"] == {"ctr": 96_412.5, "cvr": 96_412.5}
    views = facts["comparison"]["views"]
    for model in ("weighted", "control"):
        expected = views["graded"]["metrics"][0][model]
        assert found["metrics"][model]["graded"]["ctr_auc"] == expected
    assert found["verdict"]["outcome"] == facts["comparison"]["verdict"]["outcome"]
    assert {"blessed", "pushed", "seconds", "distinct_texts"} <= set(found)
    assert summary(parse_facts(found)) == found


def test_a_given_fact_beats_a_derived_one(facts: dict[str, Any]) -> None:
    assert summary(facts | {"quarantined": 1})["quarantined"] == 1


def test_markdown_table_has_one_shape(facts: dict[str, Any]) -> None:
    lines = markdown(facts | {"name": "a|b `c` @team <b>"}).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    metrics = sum(len(view["metrics"]) for view in facts["comparison"]["views"].values())
    assert len(rows) == metrics + 2 * len(facts["comparison"]["views"])
    assert {row.count("|") for row in rows} == {7}
    plain = facts | {"comparison": facts["comparison"] | {"baseline": None}}
    rows = [line for line in markdown(plain).splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6}
    assert "<b>" not in lines[0]
    assert "@team" not in lines[0]


def test_all_facts_are_json_and_come_back(facts: dict[str, Any]) -> None:
    odd = copy.deepcopy(facts)
    odd["importance"]["tasks"]["ctr"]["ess"] = math.nan
    whole = complete(odd)
    text = json.dumps(whole, allow_nan=False)
    assert whole["importance"]["tasks"]["ctr"]["ess"] is None
    assert complete(json.loads(text)) == whole
    assert render(whole) == render(odd)
    assert whole["version"] == 1


def test_the_documented_schema_is_that_of_the_facts(facts: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    assert schema == json_schema(), "python -m heft.report.schema > docs/report.schema.json"
    conforms(complete(facts), schema, schema, "report")
    with pytest.raises(AssertionError, match="report.seconds.Pusher"):
        conforms(complete(facts) | {"seconds": {"Pusher": "long"}}, schema, schema, "report")
    with pytest.raises(AssertionError, match="report.luck"):
        conforms(complete(facts) | {"luck": 1}, schema, schema, "report")
