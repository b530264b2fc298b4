"""What the documentation says can be done, can be done."""

import ast
import importlib.util
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
import numpy as np
import pytest
import typer
import yaml

from heft import errors, importance
from heft.cli import app
from heft.exit_codes import ExitCode
from heft.importance import ImportanceData, registry
from heft.logs import LogsSettings
from heft.simulate import SimulationSettings
from heft.text.settings import TextSettings
from pipeline.config import PipelineConfig, load

_ROOT = Path(__file__).parents[2]
_PAGES = [_ROOT / "README.md", _ROOT / "CONTRIBUTING.md", _ROOT / "CHANGELOG.md"]
_PAGES += sorted(_ROOT.glob("docs/*.md"))
_TEXT = {page.relative_to(_ROOT).as_posix(): page.read_text(encoding="utf-8") for page in _PAGES}
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
# Pages whose Python is whole: it runs, block after block. The others show fragments.
_RUNNABLE = ("README.md", "docs/importance.md")


def _blocks(language: str) -> list[tuple[str, str]]:
    """(page, block) of every fenced block in `language`."""
    return [
        (page, textwrap.dedent(match[3]))
        for page, text in _TEXT.items()
        for match in _FENCE.finditer(text)
        if match[2] == language
    ]


def _commands() -> list[str]:
    """Every line of a console block, and every inline `heft …` or `make …`."""
    lines = [line for _, block in _blocks("console") for line in block.splitlines()]
    prose = [_FENCE.sub("", text) for text in _TEXT.values()]
    inline = [found for text in prose for found in re.findall(r"`((?:heft|make) [^`]+)`", text)]
    return sorted({line for line in [*lines, *inline] if line})


def _parse(command: str) -> click.Context:
    """Parses a `heft` command line as the command would, without running it."""
    group: Any = typer.main.get_command(app)
    arguments = shlex.split(command)[1:]
    if arguments in (["--help"], ["--version"]):
        return click.Context(group)
    name, *rest = arguments
    subcommand = group.commands.get(name)
    assert subcommand is not None, f"heft has no command {name!r}"
    if isinstance(subcommand, click.Group) and rest:
        group, (name, *rest) = subcommand, rest
        subcommand = group.commands.get(name)
        assert subcommand is not None, f"heft has no command {arguments[:2]}"
    # `heft report` in a sentence names the command and is no call of it.
    return subcommand.make_context(name, rest) if rest else click.Context(subcommand)


@pytest.mark.parametrize("command", [c for c in _commands() if c.startswith("heft ")])
def test_every_heft_command_line_parses(command: str) -> None:
    context = _parse(command)
    config = context.params.get("config")
    if config is not None and config.parts[0] == "pipeline":
        sets = dict(pair.split("=", 1) for pair in context.params["set_"] or [])
        load(_ROOT / config, overrides={k: yaml.safe_load(v) for k, v in sets.items()})


@pytest.mark.parametrize("command", ["heft run -v", "heft run x --fast", "heft rum x"])
def test_a_command_line_that_heft_does_not_have_is_found(command: str) -> None:
    with pytest.raises(Exception, match=r"(?i)missing|no such option|no command"):
        _parse(command)


@pytest.mark.parametrize("command", [c for c in _commands() if not c.startswith("heft ")])
def test_every_other_command_line_names_what_is_there(command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets)
    elif arguments[:1] == ["-m"]:
        assert program == ".venv/bin/python"
        assert importlib.util.find_spec(arguments[1]), arguments[1]
    else:
        locked = (_ROOT / "requirements.lock").read_text()
        assert f"\n{program.removeprefix('.venv/bin/')}==" in locked
    for argument in arguments:
        if "/" in argument:
            assert (_ROOT / argument).exists(), argument


@pytest.mark.parametrize(("page", "block"), _blocks("yaml"))
def test_every_config_loads(
    page: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page in _RUNNABLE:  # a config may name what the page's code has registered
        _run(page, monkeypatch)
    path = tmp_path / "shop.yaml"
    path.write_text(block)
    # A fragment shows one group of settings; the logs are what a config cannot do without.
    given = yaml.safe_load(block)
    config = load(path, overrides={} if "logs" in given else {"logs.root": "logs"})
    for estimator in [*config.importance.quality, *config.importance.value]:
        assert estimator in importance.names()
    if "name" in given:  # a whole config: what the model sees is in its logs
        there = {"category", "brand", "price", *config.logs.categorical, *config.logs.numeric}
        assert {*config.transform.categorical, *config.transform.numeric, *config.slices} <= there


def test_a_config_with_an_unknown_key_is_found(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("logs: {root: /data, impresions: null}\n")
    with pytest.raises(errors.ConfigError, match="impresions"):
        load(path)


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links() -> list[tuple[str, str]]:
    found = [
        (page, target)
        for page, text in _TEXT.items()
        for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", text))
    ]
    return [(page, target) for page, target in found if "://" not in target]


@pytest.mark.parametrize(("page", "target"), _links())
def test_every_relative_link_leads_somewhere(page: str, target: str) -> None:
    name, _, anchor = unquote(target).partition("#")
    path = ((_ROOT / page).parent / name).resolve() if name else _ROOT / page
    assert path.is_file(), f"{page} links to {target}"
    if anchor:
        assert anchor in _anchors(path.read_text(encoding="utf-8"))


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {target.partition("#")[0] for page, target in _links() if page == "README.md"}
    assert set(_TEXT) - {"README.md"} <= reached


def _run(page: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs a page's Python from top to bottom; estimators it registers are forgotten."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    namespace: dict[str, Any] = {"__name__": "docs"}
    for where, block in _blocks("python"):
        if where == page:
            exec(compile(block, page, "exec"), namespace)
    return namespace


def test_the_notebook_of_the_readme_finds_what_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run("README.md", monkeypatch)
    planted = 1 / np.arange(1, 11)
    np.testing.assert_allclose(found["examination"].values, planted, atol=0.05)
    weights, click = found["weights"], found["click"]
    assert weights.pairs.shape == (20_000, 2)
    assert 0 < weights.ess < 20_000
    clicked = found["quality"][click == 1]
    liked = found["relevance"][click == 1] > 0.5
    assert clicked[liked].mean() > clicked[~liked].mean()


def test_the_estimator_of_the_guide_scores_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    rarity = _run("docs/importance.md", monkeypatch)["rarity"]
    pair = np.array([3, 9, 9, 3, 3, 3, 5])
    rows = len(pair)
    data = ImportanceData(
        np.zeros((rows, 1), np.float32), np.zeros(rows, int), np.arange(rows),
        np.ones(rows, int), np.full(rows, np.nan, np.float32), pair,
    )  # fmt: skip
    assert isinstance(rarity, importance.Estimator)
    expected = [0.5, 0.5**0.5, 0.5**0.5, 0.5, 0.5, 0.5, 1.0]
    np.testing.assert_allclose(rarity.fit(data).score(data), expected, rtol=1e-6)


@pytest.mark.parametrize(("page", "block"), [b for b in _blocks("python") if b[0] not in _RUNNABLE])
def test_fragments_import_what_exists(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block, page)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{page}: {node.module} has no {missing}"


def _settings_tables() -> list[tuple[str, str, dict[str, str]]]:
    """(page, class, default by key) of every table that is marked as one of settings."""
    marked = re.compile(r"<!-- settings: (\S+) -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)")
    row = re.compile(r"\| `(\w+)` \| (.*?) \|")
    return [
        (page, match[1], dict(row.findall(match[2])))
        for page, text in _TEXT.items()
        for match in marked.finditer(text)
    ]


@pytest.mark.parametrize(("page", "cls", "documented"), _settings_tables())
def test_tables_of_settings_agree_with_the_code(
    page: str, cls: str, documented: dict[str, str]
) -> None:
    module, _, name = cls.rpartition(".")
    model = getattr(importlib.import_module(module), name)
    assert set(documented) == set(model.model_fields), f"{page}: keys of {name}"
    for key, field in model.model_fields.items():
        if field.is_required():
            assert documented[key] == "required"
        elif not documented[key].startswith("see "):
            default = field.get_default(call_default_factory=True)
            default = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(documented[key].strip("`")) == default, f"{page}: {name}.{key}"


def test_every_setting_of_a_config_is_in_the_documentation() -> None:
    tables = {cls.rpartition(".")[2] for _, cls, _ in _settings_tables()}
    prose = {
        SimulationSettings: ("docs/simulation.md", {"source", "format", "spans", "days"}),
        LogsSettings: ("docs/logs.md", set(LogsSettings.model_fields)),
        TextSettings: ("docs/text.md", set(TextSettings.model_fields)),
    }
    for name, field in PipelineConfig.model_fields.items():
        kinds = getattr(field.annotation, "__args__", (field.annotation,))
        for kind in kinds:
            if hasattr(kind, "model_fields") and kind.__name__ not in tables:
                page, keys = prose[kind]
                missing = {key for key in keys if not re.search(rf"`{key}|\b{key}:", _TEXT[page])}
                assert not missing, f"{page} does not name {missing} of `{name}`"


def test_exit_codes_are_those_of_the_command() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", _TEXT["README.md"], re.M)
    said = {int(code): meaning for codes, meaning in rows for code in codes.split(", ")}
    assert said.keys() == set(ExitCode)
    assert "gate" in said[ExitCode.GATE] and "bad input" in said[ExitCode.BAD_INPUT]
    page = dict(re.findall(r"^\| (\d+) \| (.*?) \|", _TEXT["docs/operations.md"], re.M))
    assert page == {str(int(code)): code.meaning for code in ExitCode}
    kinds = [getattr(errors, name) for name in errors.__all__]
    signals = {ExitCode.OK, ExitCode.INTERRUPTED, ExitCode.TERMINATED}
    assert {kind.exit_code for kind in kinds} == set(ExitCode) - signals


def test_every_component_is_in_the_picture_and_in_its_page() -> None:
    picture = (_ROOT / "docs/street.svg").read_text(encoding="utf-8")
    stock = {
        "LogTransform": "Transform",
        "LogStatistics": "StatisticsGen",
        "LogEvaluator": "Evaluator",
    }
    bases = "|".join(["StockPusher", *stock.values()])
    shell = re.compile(rf"^class (\w+)\((?:\w+Component|{bases})\):", re.M)
    for path in sorted(_ROOT.glob("components/*/component.py")):
        [name] = shell.findall(path.read_text(encoding="utf-8"))
        assert name in _TEXT["docs/pipeline.md"]
        assert stock.get(name, name) in picture


def test_every_estimator_is_described() -> None:
    for name in importance.names():
        assert f"`{name}`" in _TEXT["docs/importance.md"]


@pytest.mark.parametrize(
    ("page", "mark"),
    [
        ("README.md", "demo-output"),
        ("README.md", "chorus-figures"),
    ],
)
def test_figures_stand_between_their_marks(page: str, mark: str) -> None:
    before, found, rest = _TEXT[page].partition(f"<!-- {mark} -->\n")
    assert found
    assert mark not in before
    block, closed, after = rest.partition(f"<!-- /{mark} -->")
    assert closed
    assert mark not in after
    assert block.count("```") % 2 == 0
