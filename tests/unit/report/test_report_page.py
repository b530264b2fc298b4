"""The page says what the facts say, whatever they are, and nothing escapes from it."""

import base64
import copy
import hashlib
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from heft.evaluation.results import MetricResult
from heft.report import markdown, render
from heft.report.maps import map_plots
from heft.report.parts import TitleMap

ROOT = Path(__file__).parents[3]

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>body{display:none}",
    "{{ 7 * 7 }} {% raw %}",
    "\u202eevil\u202d \x00\x1b[31m \ud800",
    "$x_{$ & 'quoted' \"twice\"",
    "a" * 10_000,
)
# What a node of the page may be. Everything that could load is absent, and one script may run.
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section",
    "article", "h1", "h2", "h3", "p", "span", "small", "a", "b", "br", "dl", "div", "dt", "dd",
    "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary",
    "ol", "li", "bdi", "svg", "g", "path", "text", "defs", "use", "clippath", "rect", "tspan",
    "h4", "label", "input", "select", "option", "output", "code", "script",
}  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes and text, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = self.script = ""
        self._inside = ""
        self.ids: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.script += data
        else:
            self.text += data


def with_text(value: Any, text: str) -> Any:
    """The same facts with `text` in place of every string a log or user could set."""
    if isinstance(value, dict):
        return {key: with_text(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [with_text(item, text) for item in value]
    return text if isinstance(value, str) else value


@pytest.fixture(scope="module")
def html(made: dict[str, Any]) -> str:
    return render(made)


def test_it_loads_nothing_and_runs_its_own_script_alone(html: str) -> None:
    page = Page(html)
    assert page.tags.count("script") == 1
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert "unsafe-inline'; script-src" in html, "styles alone may be inline"
    assert set(page.tags) <= ALLOWED
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\((.)", html))
    assert "default-src 'none'" in html
    assert len(html.encode()) < 5_000_000


def test_references_meet_exactly_one_element(html: str) -> None:
    page = Page(html)
    used = {v[1:] for n, v in page.attributes if n in ("href", "xlink:href")}
    used |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert used <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(facts: dict[str, Any], text: str) -> None:
    hostile = copy.deepcopy(facts) | {"name": text, "blessing_reasons": [text], "model_path": text}
    hostile["importance"]["samples"] = with_text(hostile["importance"]["samples"], text)
    hostile["ranking"] = with_text(hostile["ranking"], text)
    hostile["ranking"]["map"]["category"] = [text, "cables"] * 20
    hostile["streams"] = {text: hostile["streams"]["clicks"] | {"reasons": {text: 3}}}
    hostile["seconds"] = {text: 1.0, "Pusher": 2.0}
    hostile["training"] = {text: hostile["training"]["control"]}
    part = hostile["comparison"]["views"]["natural"]["slices"][0]
    part["value"] = part["column"] = text
    html = render(hostile)
    html.encode("utf-8")
    page = Page(html)
    assert set(page.tags) <= ALLOWED
    assert (page.tags.count("style"), page.tags.count("script")) == (1, 1)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    visible = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "\ufffd", text[:60])
    assert re.sub(r"\s+", " ", visible) in page.text
    markdown(hostile).encode("utf-8")


def test_long_text_is_cut_and_says_so(facts: dict[str, Any]) -> None:
    long = copy.deepcopy(facts)
    samples = long["importance"]["samples"]["heaviest"]
    long["importance"]["samples"]["heaviest"] = [
        samples[0] | {"title": "t" * 10_000, "query": "q" * 10_000} for _ in range(5_000)
    ]
    html = render(long)
    assert len(html) < 1_000_000
    assert "(10,000 characters)" in html


def test_figures_are_those_of_the_facts(facts: dict[str, Any], html: str) -> None:
    text = Page(html).text
    for view in facts["comparison"]["views"].values():
        for metric in view["metrics"]:
            parts = []
            for model in ("weighted", "control", "difference", "baseline"):
                form = "+.4f" if model == "difference" else ".4f"
                ends = metric.get(f"{model}_interval")
                ends = (metric["low"], metric["high"]) if model == "difference" else ends
                parts.append(f"{metric[model]:{form}}")
                parts.append(f"{ends[0]:{form}} to {ends[1]:{form}}" if ends else "")
                if model == "difference":
                    side = {"weighted": "▲weighted", "control": "▼control", None: "–unclear"}
                    parts.append(side[MetricResult.model_validate(metric).better])
            row = "".join(parts).replace(" ", "").replace("-", "−")
            assert row in text.replace(" ", "")
    for figure in ("240,000", "238,900", "1,204", "8,310", "96,412", "60.3%", "51.7 s"):
        assert figure in text
    for reason in ("position=0 is below 1", "timestamp is missing", "no impression"):
        assert reason in text
    assert "usb c cable" in text
    assert "3f9ac01b77e2" in text


@pytest.mark.parametrize(
    ("blessed", "pushed", "title", "colour"),
    [
        (True, True, "Shipped", "shipped"),
        (False, False, "Not shipped", "not-shipped"),
        (False, None, "Not shipped", "not-shipped"),
        (True, False, "Not shipped, although blessed", "not-shipped"),
        (None, None, "Not known whether it shipped", "not-known"),
    ],
)
def test_the_verdict_comes_first(
    facts: dict[str, Any], blessed: bool | None, pushed: bool | None, title: str, colour: str
) -> None:
    run = {name: facts[name] for name in ("name", "comparison")}
    run["comparison"] = run["comparison"] | {"views": {}}
    run |= {"blessed": blessed, "pushed": pushed, "blessing_reasons": ["AUC below 0.6."]}
    html = render(run)
    first = html[html.index("<header") : html.index("</header>")]
    assert f'<header class="{colour}">' in first
    assert re.search(rf"</span> {re.escape(title)}</h1>", first)
    assert run["comparison"]["verdict"]["sentence"] in Page(first).text
    assert "AUC below 0.6." in first
    assert markdown(run).startswith(f"## {title}: chorus")


def test_what_held_the_model_back_is_said_once_and_first(facts: dict[str, Any]) -> None:
    sentence = facts["comparison"]["verdict"]["sentence"]
    reasons = ["Evaluator: auc is 0.51; expected above 0.6.", sentence]
    run = {"comparison": facts["comparison"], "blessed": False, "blessing_reasons": reasons}
    lines = [line for line in markdown(run).splitlines() if line.startswith("- ")]
    assert lines[0] == "- Evaluator: auc is 0.51; expected above 0.6."
    assert "".join(lines).count("Weighting helped") == 1


def test_every_part_may_be_absent(facts: dict[str, Any]) -> None:
    page = Page(render({}))
    assert page.text.count("not available for this run") >= 7
    assert "nan" not in page.text.lower().split()
    for key, value in facts.items():
        assert "<h1>" in render({key: value})
        assert markdown({name: other for name, other in facts.items() if name != key})
    for key in facts["importance"]:
        rest = {name: value for name, value in facts["importance"].items() if name != key}
        assert "<h1>" in render({"importance": rest})


def test_undefined_figures_are_not_numbers(facts: dict[str, Any]) -> None:
    run = {
        "ess": {"ctr": math.nan},
        "metrics": {"weighted": {"natural": {"ctr_auc": None}}, "control": {}},
        "training": {"weighted": {"loss": [None, None]}},
        "importance": {"tasks": {"ctr": {"rows": 0, "ess": math.inf}}},
    }
    text = Page(render(run)).text
    assert "n/a" in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_the_same_facts_give_the_same_page(facts: dict[str, Any], html: str) -> None:
    assert render(copy.deepcopy(facts)) == html


def test_the_reason_of_a_sample(html: str) -> None:
    text = Page(html).text
    assert "Clicked at position 10, which is looked at 19% as often as the first" in text
    assert "label quality among the lowest 1% of clicks" in text
    assert "Not clicked at position 10" in text


def test_features_are_ranked_and_those_the_model_sees_are_marked(facts: dict[str, Any]) -> None:
    text = Page(render(facts)).text
    assert "From 100,000 of 160,000 training rows, each counted by its weights" in text
    assert "cosinecomponent42.10−0.3120.25042.10−0.3120.250" in text.replace(" ", "")
    assert "brand_idcategory42.10−0.312n/a" in text.replace(" ", "")
    selected = facts | {"ranking": facts["ranking"] | {"kept": ["cosine"]}}
    text = Page(render(selected)).text.replace(" ", "")
    assert "cosinecomponent✓42.10" in text
    assert "brand_idcategory42.10" in text


def test_the_map_has_a_point_for_each_title_twice(facts: dict[str, Any]) -> None:
    plots = map_plots(TitleMap.model_validate(facts["ranking"]["map"]))
    assert list(plots) == ["By category", "By importance"]
    for plot in plots.values():
        assert plot.count("<use") >= 40
    assert "shoes" in plots["By category"]
    same = facts["ranking"]["map"] | {"category": [""] * 40, "importance": [1.0] * 40}
    assert list(map_plots(TitleMap.model_validate(same))) == ["By importance"]
    short = facts["ranking"]["map"] | {"x": [1.0]}
    assert map_plots(TitleMap.model_validate(short)) == {}


def test_words_are_shaded_by_what_they_say_and_the_most_read_underlined(html: str) -> None:
    assert '<span class="for4"><bdi>usb</bdi></span>' in html
    assert '<span class="against2 read"><bdi>cable</bdi></span>' in html
    assert "<span><bdi>black</bdi></span>" in html


def test_trust_and_row_weights_are_shown_where_there_are_some(facts: dict[str, Any]) -> None:
    page = Page(render(facts))
    assert "The lower line is trust in the position" in page.text
    assert "fraud, mean 0.951" in page.text
    importance = facts["importance"]
    importance["clicks"]["offset"] = [0.0] * 10
    for part in importance["tasks"].values():
        part["corrections"] = {}
    plain = Page(render(facts)).text
    assert "trust in the position" not in plain
    assert "Row weights" not in plain


def test_every_slice_and_metric_is_a_row_to_filter_by(facts: dict[str, Any], html: str) -> None:
    wanted = [
        (name, part["column"], metric["name"])
        for name, view in facts["comparison"]["views"].items()
        for part in view["slices"]
        for metric in part["metrics"]
    ]
    rows = re.findall(r'<tr data-view="(\w+)" data-column="(\w+)" data-metric="(\w+)">', html)
    assert sorted(rows) == sorted(wanted)
    assert len(wanted) > 60
    for kind in ({row[k] for row in wanted} for k in range(3)):
        assert all(f'<option value="{value}"' in html for value in kind)


def test_of_too_many_slices_the_largest_stay(facts: dict[str, Any]) -> None:
    many = copy.deepcopy(facts)
    view = many["comparison"]["views"]["natural"]
    part = view["slices"][0]
    view["slices"] = [part | {"value": f"v{k}", "rows": k} for k in range(2_000)]
    html = render(many)
    assert html.count("<tr data-view=") == 3_000
    assert "The 3,000 largest of" in Page(html).text
    assert 'data-column="device" data-metric="ctr_auc"><th scope="row"><bdi>device' in html
    assert ">v1999<" in html and ">v3<" not in html
    assert len(html.encode()) < 5_000_000


def test_gaps_between_groups_and_their_limits_are_said(facts: dict[str, Any]) -> None:
    gap = facts["comparison"]["views"]["natural"]["fairness"][0]
    text = Page(render(facts)).text
    assert "Calibration by device" in text and "False-negative rate by device" in text
    assert f"The largest gap is {gap['gap']:.3f}" in text
    assert "past the limit" not in text
    unfair = copy.deepcopy(facts)
    unfair["comparison"]["views"]["natural"]["fairness"][0] |= {"low": 2.5, "high": 3.0, "gap": 2.7}
    assert "past the limit of 2.000" in Page(render(unfair)).text
    assert "the limit is 2.000" in markdown(facts)


def test_drift_weights_by_slice_shap_and_artifacts_are_shown(html: str) -> None:
    text = Page(html).text
    for said in (
        "Compared with span 2, 1", "6.2% usually 6.0%", "Skew was not checked",
        "L-infinity", "category = shoes", "over 2,000 rows", "HeftWeightingVerdict",
    ):  # fmt: skip
        assert said in text, said
    assert 'aria-label="SHAP values by feature"' in html
