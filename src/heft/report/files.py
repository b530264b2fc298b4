"""A finished run's report on disk: rendered again from its facts."""

import json
from pathlib import Path
from typing import Any

from heft.errors import InputError
from heft.report.facts import complete, summary
from heft.report.markdown import markdown
from heft.report.page import render
from heft.whole_file import write_whole

__all__ = ["read_facts", "rerender", "summary_text", "write_run"]

_FACTS, _PAGE, _TEXT = "report/report.json", "report/index.html", "report/report.md"
_SUMMARY = "summary.json"
_OLDER_FACTS = "report/facts.json"


def write_run(facts: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Writes `summary.json`, and `report.json`, `report.md` and `index.html` in `report/`.

    Returns:
        The summary.
    """
    (run_dir / "report").mkdir(parents=True, exist_ok=True)
    whole = complete(facts | {"report_path": str(run_dir / _PAGE)})
    write_whole(run_dir / _FACTS, json.dumps(whole, indent=1))
    write_whole(run_dir / _PAGE, render(whole))
    write_whole(run_dir / _TEXT, markdown(whole))
    found = summary(whole)
    write_whole(run_dir / _SUMMARY, json.dumps(found, indent=1))
    return found


def rerender(run_dir: Path) -> Path:
    """Renders the page from the kept facts; returns its path."""
    page = run_dir / _PAGE
    write_whole(page, render(read_facts(run_dir)))
    return page


def summary_text(run_dir: Path) -> str:
    """The run in Markdown."""
    return markdown(read_facts(run_dir))


def read_facts(run_dir: Path) -> dict[str, Any]:
    """The facts of a finished run.

    Raises:
        InputError: it did not finish, or the file is damaged.
    """
    path = run_dir / _FACTS
    if not path.is_file() and (run_dir / _OLDER_FACTS).is_file():
        path = run_dir / _OLDER_FACTS
    if not path.is_file():
        raise InputError(f"no {path}: the run did not finish; run it again")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); run it again") from error
    return facts
