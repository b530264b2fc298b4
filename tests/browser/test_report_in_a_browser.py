"""The report as a person meets it: in a browser, without a network, on a phone and on paper."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from heft.report import render
from tests.browser.chromium import Chromium
from tests.unit.report.test_report_page import HOSTILE, with_text

SECTIONS = (
    "rows", "texts", "weights", "samples", "training", "metrics", "slices", "calibration",
    "fairness", "features", "shap", "lineage", "time",
)  # fmt: skip


def _quiet(browser: Chromium, page: Path) -> None:
    """Nothing was asked for but the page, and nothing was complained of."""
    assert browser.requests == [page.absolute().as_uri()]
    assert browser.complaints == []


def test_every_section_is_seen_and_reached_from_the_list_of_them(
    opened: Chromium, page: Path
) -> None:
    for name in SECTIONS:
        assert opened.run(f"document.querySelector('nav a[href=\"#{name}\"]') !== null"), name
        opened.run(f"document.querySelector('nav a[href=\"#{name}\"]').click()")
        box = opened.run(
            f"(({{top, height}}) => [top, height])"
            f"(document.getElementById('{name}').getBoundingClientRect())"
        )
        assert box[1] > 10, name
        assert -2 <= box[0] < 900, name
    missing = opened.run("[...document.querySelectorAll('.missing')].map((p) => p.textContent)")
    assert missing == []
    drawn = opened.run(
        "[...document.querySelectorAll('svg')].map((s) => s.getBoundingClientRect().height)"
    )
    assert len(drawn) >= 12 and min(drawn) > 80
    _quiet(opened, page)


def test_the_first_screen_says_whether_it_shipped_and_why(opened: Chromium) -> None:
    seen = opened.run("""[...document.querySelectorAll("header *")]
        .filter((e) => e.getBoundingClientRect().bottom < innerHeight)
        .map((e) => e.textContent).join(" ")""")
    assert "Shipped" in seen
    assert "Weighting helped: on human grades" in seen
    assert opened.run("getComputedStyle(document.querySelector('header h1')).color") == (
        "rgb(23, 107, 58)"
    )


def _column(browser: Chromium, table: str, column: int) -> list[Any]:
    return browser.run(
        f"""[...document.querySelector('{table}').tBodies[0].rows].filter((r) => !r.hidden)
        .map((r) => r.cells[{column}].dataset.v ?? r.cells[{column}].textContent.trim())"""
    )


def _press_head(browser: Chromium, table: str, column: int) -> str:
    head = f"document.querySelector('{table}').tHead.rows[0].cells[{column}]"
    browser.run(f"{head}.querySelector('button').click()")
    return browser.run(f"{head}.getAttribute('aria-sort')")


def test_a_table_is_sorted_by_its_head_by_numbers_and_by_text(opened: Chromium) -> None:
    table = "#slices-table"
    opened.run(
        "document.querySelector('.tools[data-for=slices-table] select[name=metric]').value=''"
    )
    opened.run("""document.querySelector('.tools[data-for=slices-table] input')
        .dispatchEvent(new Event('input'))""")
    assert _press_head(opened, table, 4) == "descending"
    values = [float(v) for v in _column(opened, table, 4)]
    assert len(values) > 60 and values == sorted(values, reverse=True)
    assert _press_head(opened, table, 4) == "ascending"
    assert [float(v) for v in _column(opened, table, 4)] == sorted(values)
    assert _press_head(opened, table, 0) == "ascending"
    names = _column(opened, table, 0)
    assert names == sorted(names)
    assert opened.run("document.querySelectorAll('#slices-table [aria-sort]').length") == 1


def test_what_is_not_known_stands_last_either_way(opened: Chromium) -> None:
    for order in ("descending", "ascending"):
        # The rank correlation of a category is not defined.
        assert _press_head(opened, "#features-table", 4) == order
        assert _column(opened, "#features-table", 4)[-1] == ""


def test_a_table_is_filtered_by_words_and_by_lists(opened: Chromium) -> None:
    tools = "document.querySelector('.tools[data-for=slices-table]')"
    # It opens with one metric, so that it is not a wall of numbers.
    assert set(_column(opened, "#slices-table", 2)) == {"Click AUC"}
    first = opened.run(f"{tools}.querySelector('output').textContent")
    shown, of = map(int, first.split(" of "))
    assert (
        0 < shown < of == opened.run("document.querySelectorAll('#slices-table tbody tr').length")
    )

    def choose(element: str, value: str) -> None:
        opened.run(f"""(() => {{ const e = {tools}.querySelector("{element}"); e.value = "{value}";
            e.dispatchEvent(new Event("input", {{bubbles: true}})); }})()""")

    choose("select[name=column]", "query_frequency")
    choose("select[name=view]", "natural")
    assert len(_column(opened, "#slices-table", 0)) == 4
    assert set(_column(opened, "#slices-table", 1)) == {"Natural pages"}
    choose("input", "TAIL natural")
    assert [re.sub(r"\s+", " ", v) for v in _column(opened, "#slices-table", 0)] == [
        "query_frequency = tail"
    ]
    choose("input", "nothing has this name")
    assert _column(opened, "#slices-table", 0) == []
    assert opened.run(f"{tools}.querySelector('output').textContent") == f"0 of {of}"


def test_samples_are_found_by_their_words(opened: Chromium) -> None:
    count = "[...document.querySelectorAll('#samples-1 > li')].filter((l) => !l.hidden).length"
    assert opened.run(count) == 12
    opened.run("""(() => { const e = document.querySelector(".tools[data-for=samples-1] input");
        e.value = "coffee"; e.dispatchEvent(new Event("input")); })()""")
    assert opened.run(count) == 3


def test_heads_are_reached_and_pressed_by_keyboard(opened: Chromium) -> None:
    opened.run("document.querySelector('#metrics table thead button').focus()")
    opened.press("Tab")
    opened.press("Enter")
    heads = opened.run(
        "[...document.querySelectorAll('#metrics table')[0].tHead.rows[0].cells]"
        ".map((c) => c.getAttribute('aria-sort'))"
    )
    assert heads[:2] == [None, "descending"]


def test_without_the_script_everything_is_there(chromium: Chromium, page: Path) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(page)
        found = chromium.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        for selector, least in (
            ("#slices-table tbody tr:not([hidden])", 60),
            (".tools:not([hidden])", 0),
        ):
            nodes = chromium.call("DOM.querySelectorAll", nodeId=found, selector=selector)
            assert len(nodes["nodeIds"]) >= least
            assert least or not nodes["nodeIds"]
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [360, 390, 1200])
def test_nothing_is_wider_than_the_window(chromium: Chromium, page: Path, width: int) -> None:
    chromium.show(width)
    chromium.open(page)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    # Wide tables scroll inside their own frame.
    assert chromium.run("""[...document.querySelectorAll("table")].every((t) =>
        t.getBoundingClientRect().width <= innerWidth || t.closest(".scroll"))""")


def _contrast(one: list[int], other: list[int]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: list[int]) -> float:
        parts = [c / 255 for c in colour[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_light_by_day_and_dark_by_night_and_readable_in_both(
    chromium: Chromium, page: Path, dark: bool, tmp_path: Path
) -> None:
    chromium.show(1200, dark=dark)
    chromium.open(page)
    chromium.picture(tmp_path / "page.png", whole=False)
    with Image.open(tmp_path / "page.png") as picture:
        corner = picture.convert("L").getpixel((3, 3))
    assert (corner < 60) == dark and (corner > 200) == (not dark)
    colour = """((s, of) => getComputedStyle(document.querySelector(s))[of]
        .match(/[\\d.]+/g).map(Number))"""
    card = chromium.run(f"{colour}('section', 'backgroundColor')")
    for what in ("h2", "td", ".note", "figcaption", "a", ".mark.good", "thead button", "header h1"):
        ratio = _contrast(chromium.run(f"{colour}('{what}', 'color')"), card)
        assert ratio >= 4.5, (what, ratio)
    ink = chromium.run(f"{colour}('#training svg text', 'fill')")
    assert _contrast(ink, card) >= 4.5


def test_on_paper_everything_is_unfolded_and_tools_are_gone(chromium: Chromium, page: Path) -> None:
    chromium.show(794, dark=True, media="print")
    chromium.open(page)
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.run("""[...document.querySelectorAll("nav, .tools")].every((e) =>
        getComputedStyle(e).display === "none")""")
    heights = chromium.run("""[...document.querySelectorAll("details:not([open]) table")]
        .map((e) => e.getBoundingClientRect().height)""")
    assert len(heights) > 3 and min(heights) > 20
    printed = chromium.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 50_000
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", printed)) < 40


def test_text_of_a_log_is_shown_as_text(
    chromium: Chromium, facts: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever it looks like: it runs nowhere, loads nothing, and turns no other text round."""
    for number, text in enumerate(HOSTILE):
        hostile = copy.deepcopy(facts) | {"name": text, "blessing_reasons": [text]}
        hostile["importance"]["samples"] = with_text(hostile["importance"]["samples"], text)
        for part in hostile["importance"]["slices"]:
            part["value"] = part["column"] = text
        for view in hostile["comparison"]["views"].values():
            for part in view["slices"]:
                part["value"] = part["column"] = text
        hostile["gate"]["measured"][0]["feature"] = text
        hostile["ranking"]["features"][0]["name"] = text
        hostile["ranking"]["map"]["category"] = [text, "cables"] * 20
        page = tmp_path / f"hostile-{number}.html"
        page.write_text(render(hostile), encoding="utf-8")
        chromium.show(1200)
        chromium.open(page)
        _quiet(chromium, page)
        assert chromium.run("document.querySelectorAll('script, img').length") == 1
        assert chromium.run("document.documentElement.scrollWidth") <= 1200
        title = chromium.run("document.querySelector('#samples-1 p:nth-of-type(2)').textContent")
        visible = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "\ufffd", text[:60])
        assert visible in title
        # The list to choose from still filters by that text.
        rows = chromium.run("""(() => { const t = document.querySelector(
            ".tools[data-for=weight-slices]"); const s = t.querySelector("select");
            s.selectedIndex = 1; s.dispatchEvent(new Event("input"));
            return t.querySelector("output").textContent; })()""")
        assert rows == "4 of 4"
