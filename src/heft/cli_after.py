"""Commands over runs that are over."""

import json
from typing import Annotated

import typer

from heft.cli_options import RUNS, Run, RunsDir, Verbose, pairs, run_folder, screen
from heft.errors import ConfigError

__all__ = ["compare", "explain", "lineage", "predict", "report", "rollback"]

Version = Annotated[int | None, typer.Option("--version", help="As named in the serving folder.")]


def report(
    run: Run,
    runs: RunsDir = RUNS,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a short summary.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Render a run's report again and say where it lies."""
    from heft.report.files import rerender, summary_text

    folder = run_folder(run, runs)
    if markdown:
        print(summary_text(folder))
        return
    page = rerender(folder)
    screen.print(f"report: {page}", soft_wrap=True, markup=False)
    if open_:
        typer.launch(str(page))


def compare(
    first: Run,
    second: Run,
    runs: RunsDir = RUNS,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it for a pull request.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Set two runs side by side: what became of them, their figures, what they are made of."""
    from heft.report.comparing import compare_runs, compared_markdown, compared_table
    from heft.report.files import read_facts

    found = compare_runs(*(read_facts(run_folder(run, runs)) for run in (first, second)))
    if json_:
        print(found.model_dump_json(indent=1))
    elif markdown:
        print(compared_markdown(found))
    else:
        for part in compared_table(found):
            screen.print(part)


def predict(
    run: Run,
    query: Annotated[str, typer.Option(help="What was asked.")],
    title: Annotated[list[str], typer.Option(help="An item's title; may be repeated.")],
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Any other column: price=9.99.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="An output, an expression such as ctcvr*price, or a ranking's name.")
    ] = "ctcvr",
    server: Annotated[
        str | None, typer.Option(help="Ask this model server: http://host:8501, grpc://host:8500.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Of the server's version: canary.")] = None,
    token: Annotated[str | None, typer.Option(help="For the server.")] = None,
    ca_file: Annotated[
        str | None, typer.Option(help="Authorities that vouch for the server, if not the system's.")
    ] = None,
    runs: RunsDir = RUNS,
    verbose: Verbose = False,
) -> None:
    """Ask a run's pushed model what items are worth to a query, the best first."""
    from heft.console import quiet

    quiet(verbose)
    from heft.model.predict import order, predict_columns, predictions_table, pushed_model

    folder, others = run_folder(run, runs), pairs(column or [])
    if server is None:
        told = {"--label": label, "--token": token, "--ca-file": ca_file}
        for option in (option for option, value in told.items() if value is not None):
            raise ConfigError(f"{option} is for a server: name it by --server")
        answers = predict_columns(pushed_model(folder), query, title, others)
    else:
        from serving.client import Client, Tls

        columns = {"query": query, **others}
        with Client(server, label=label, token=token, tls=Tls(ca_file)) as client:
            given = {name: [value] * len(title) for name, value in columns.items()}
            answers = client.predict(given | {"title": title})
    scores = order(by, folder, answers, others)
    screen.print(predictions_table(query, title, answers, by, scores))


def explain(
    run: Run,
    query: Annotated[str, typer.Option(help="What was asked.")],
    title: Annotated[list[str], typer.Option(help="An item's title; may be repeated.")],
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Any other column: price=9.99.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    runs: RunsDir = RUNS,
    verbose: Verbose = False,
) -> None:
    """Say which words of a query and a title speak for a click, and against it."""
    from heft.console import quiet

    quiet(verbose)
    from heft.explain import explain_pairs, words_table
    from heft.model.predict import pushed_model

    path = pushed_model(run_folder(run, runs))
    found = explain_pairs(path, [query] * len(title), title, pairs(column or []))
    if json_:
        print(json.dumps([pair.to_json() for pair in found], indent=1))
        return
    for pair in found:
        screen.print(words_table(pair))


def lineage(
    run: Run,
    version: Version = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    runs: RunsDir = RUNS,
) -> None:
    """Say which data, code and weights made a pushed model."""
    from pipeline.lineage import lineage as lineage_of
    from pipeline.lineage import lineage_table

    found = lineage_of(run_folder(run, runs), version)
    if json_:
        print(found.to_json())
        return
    screen.print(lineage_table(found))


def rollback(
    run: Run,
    version: Version = None,
    runs: RunsDir = RUNS,
) -> None:
    """Serve the model before the current one again, or another earlier version."""
    from heft.versions import roll_back

    before, now = roll_back(run_folder(run, runs) / "serving" / "heft", version)
    screen.print(
        f"version {now.number} is {now.source} again; {before.number} was served until now",
        soft_wrap=True,
    )
