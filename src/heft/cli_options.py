"""What the commands of `heft` have in common."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from heft.errors import ConfigError, InputError
from heft.journal import Journal
from heft.screen import Screen

__all__ = [
    "RUNS",
    "Config",
    "LogFormat",
    "Run",
    "RunName",
    "RunsDir",
    "Set",
    "Span",
    "Verbose",
    "With",
    "overrides",
    "pairs",
    "run_folder",
    "screen",
    "street_of",
]  # fmt: skip

screen = Screen(highlight=False)


def _speak(log_format: str) -> str:
    """Before the command begins: JSON goes where the standard error led when it was started."""
    if log_format == "json" and screen.journal is None:
        screen.journal = Journal(os.dup(2))
    return log_format


Run = Annotated[Path, typer.Argument(help="A run's folder, or its name under runs/.")]
RUNS = Path("runs")
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show the engines' logs.")]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(
        "--log-format", callback=_speak, is_eager=True,
        help="json: one object on each line of the standard error, for machines.",
    ),
]  # fmt: skip
RunsDir = Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.")]
With = Annotated[
    list[Path] | None, typer.Option("--with", help="Settings laid over the config: a YAML file.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: model.epochs=2.")]
Config = Annotated[Path, typer.Argument(help="A YAML file, such as pipeline/configs/demo.yaml.")]
RunName = Annotated[
    str | None, typer.Option("--name", help="Name of the run, if not the config's.")
]
Span = Annotated[
    str | None, typer.Option("--span", help="The span of the logs to read: a number or a date.")
]


def run_folder(run: Path, runs: Path) -> Path:
    """The folder of a finished run, given as it is or as a name under `runs`.

    Raises:
        InputError: there is none.
    """
    for folder in (run, runs / run):
        if (folder / "summary.json").is_file():
            return folder
    raise InputError(
        f"no finished run at {run} or {runs / run}: expected a folder with summary.json; "
        "`heft run CONFIG` makes one"
    )


def pairs(items: list[str]) -> dict[str, Any]:
    """`key=value` arguments, values read as YAML scalars."""
    found = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigError(f"{item!r}: expected key=value")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{item!r}: {value!r} is not YAML") from error
    return found


def overrides(set_: list[str] | None, name: str | None, span: str | None) -> dict[str, Any]:
    """Settings of the command line, by dotted key."""
    found = pairs(set_ or []) | ({"name": name} if name else {})
    return found | ({} if span is None else {"logs.span": span})


def street_of(
    config: Path, runs: Path, overlays: list[Path] | None, asked: dict[str, Any], verbose: bool
) -> Any:
    """What a command was told, as the pipeline takes it; the engines are quiet from here on.

    Args:
        config: a YAML file.
        runs: folder that holds all runs.
        overlays: YAML files laid over the config.
        asked: settings by dotted key, see `overrides`.
        verbose: let the engines speak.
    """
    from heft.console import quiet

    # Before anything of theirs is imported.
    quiet(verbose, screen.journal)
    from pipeline.street import Street

    data = Path(os.environ.get("HEFT_DATA", "../shared/data"))
    return Street(config, runs, data, tuple(overlays or ()), asked, screen, verbose)
