"""The report of a run: one self-contained HTML file, and a summary in Markdown."""

from heft.report.facts import Facts, complete, json_schema, parse_facts, summary
from heft.report.markdown import markdown
from heft.report.page import render

__all__ = ["Facts", "complete", "json_schema", "markdown", "parse_facts", "render", "summary"]
