"""The `heft` command."""

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.console import Console

from heft.errors import ConfigError, HeftError, InputError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Estimate what each training sample is worth, train with it, ship it if no gate objects.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_out = Console(highlight=False)

Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show the engines' logs.")]
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
Source = Literal["builtin", "chorus", "home_depot", "pairs"]


def main() -> None:
    """Runs the command; what a user can mend ends in one message, not a traceback."""
    try:
        app()
    except HeftError as error:
        _err().print(f"[bold red]error:[/] {_plain(error)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _err().print("interrupted; the finished nodes are kept, run again to go on")
        sys.exit(130)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of `heft` itself."""
    if show:
        _out.print(importlib.metadata.version("heft"))
        raise typer.Exit


@app.command()
def simulate(
    source: Annotated[Source, typer.Argument(help="Where products and relevance come from.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder to write; replaces an earlier simulation."),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the source.")] = None,
    sessions: Annotated[int, typer.Option(help="Result pages.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.", min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting, as key=value.")
    ] = None,
) -> None:
    """Simulate shoppers over a catalogue, with the truth kept in a folder of its own."""
    from pydantic import ValidationError

    from heft.simulate import SimulationSettings
    from heft.simulate import simulate as run_simulation

    values: dict[str, Any] = {"source": source, "data": str(data) if data else None}
    values |= {"sessions": sessions, "seed": seed, **_pairs(set_ or [])}
    try:
        settings = SimulationSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{key}={fault['input']!r}: {said}" if key else said) from error
    counts = run_simulation(settings, out)
    for name, count in counts.items():
        _out.print(f"{name.replace('_', ' '):<22}{count:>12,}")
    _out.print(f"logs in {out}")


@app.command()
def run(
    config: Config,
    runs: RunsDir = Path("runs"),
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Run the street: logs in, a judged and pushed model out."""
    from heft.console import quiet

    quiet(verbose)
    from pipeline.street import run_street

    run_street(_street(config, runs, with_, _overrides(set_, name, span), verbose))


@app.command()
def ingest(
    config: Config,
    check: Annotated[
        bool, typer.Option("--check", help="Read a sample and say what would be done.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the examples, if not the run's.")
    ] = None,
    runs: RunsDir = Path("runs"),
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Read, join and split the logs of a config, and nothing after that."""
    from heft.console import quiet

    quiet(verbose)
    from pipeline.ingesting import check_logs, ingest_logs

    street = _street(config, runs, with_, _overrides(set_, name, span), verbose)
    if check:
        check_logs(street)
    else:
        ingest_logs(street, out)


@app.command()
def tune(
    config: Config,
    runs: RunsDir = Path("runs"),
    name: RunName = None,
    span: Span = None,
    trials: Annotated[
        int | None, typer.Option(help="Models to train at most, if not the config's.")
    ] = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Search model settings on the weighted examples; writes tuned.yaml, for `run --with`."""
    from heft.console import quiet

    quiet(verbose)
    from pipeline.tuning import run_tune

    overrides = _overrides(set_, name, span) | ({} if trials is None else {"tune.trials": trials})
    run_tune(_street(config, runs, with_, overrides, verbose))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name under runs/.")],
    runs: RunsDir = Path("runs"),
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a short summary.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Render a run's report again and say where it lies."""
    from heft.report.files import rerender, summary_text

    folder = _run_folder(run, runs)
    if markdown:
        print(summary_text(folder))
        return
    page = rerender(folder)
    _out.print(f"report: {page}", soft_wrap=True)
    if open_:
        typer.launch(str(page))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name under runs/.")],
    query: Annotated[str, typer.Option(help="What was asked.")],
    title: Annotated[list[str], typer.Option(help="An item's title; may be repeated.")],
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Any other column: price=9.99.")
    ] = None,
    runs: RunsDir = Path("runs"),
    verbose: Verbose = False,
) -> None:
    """Ask a run's pushed model, in this process, what items are worth to a query."""
    from rich.table import Table

    from heft.console import quiet

    quiet(verbose)
    from heft.model.predict import predict_columns, pushed_model

    path = pushed_model(_run_folder(run, runs))
    answers = predict_columns(path, query, title, _pairs(column or []))
    table = Table("title", *answers, title=f"query: {query}", title_justify="left")
    for row in sorted(range(len(title)), key=lambda i: -float(answers["ctcvr"][i])):
        table.add_row(title[row], *(f"{float(values[row]):.4f}" for values in answers.values()))
    _out.print(table)


def _err() -> Console:
    # Made when it is needed: `quiet` puts another sys.stderr in place.
    return Console(stderr=True, highlight=False)


def _run_folder(run: Path, runs: Path) -> Path:
    for folder in (run, runs / run):
        if (folder / "summary.json").is_file():
            return folder
    raise InputError(
        f"no finished run at {run} or {runs / run}: expected a folder with summary.json; "
        "`heft run CONFIG` makes one"
    )


def _overrides(set_: list[str] | None, name: str | None, span: str | None) -> dict[str, Any]:
    overrides = _pairs(set_ or []) | ({"name": name} if name else {})
    return overrides | ({} if span is None else {"logs.span": span})


def _street(
    config: Path,
    runs: Path,
    overlays: list[Path] | None,
    overrides: dict[str, Any],
    verbose: bool,
) -> Any:
    from pipeline.street import Street

    return Street(config, runs, _data_dir(), tuple(overlays or ()), overrides, _out, verbose)


def _data_dir() -> Path:
    """Where downloaded data sets lie: the setting HEFT_DATA, else beside the project."""
    return Path(os.environ.get("HEFT_DATA", "../shared/data"))


def _pairs(items: list[str]) -> dict[str, Any]:
    """`key=value` arguments, values read as YAML scalars."""
    pairs = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigError(f"{item!r}: expected key=value")
        try:
            pairs[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{item!r}: {value!r} is not YAML") from error
    return pairs


def _plain(error: HeftError) -> str:
    """The message as text: brackets in it are not markup."""
    from rich.markup import escape

    return escape(str(error))


if __name__ == "__main__":
    main()
