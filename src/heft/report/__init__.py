"""The report of a run: one self-contained HTML file, and a summary in Markdown."""

from heft.report.facts import Facts, parse_facts, summary
from heft.report.markdown import markdown
from heft.report.page import render

__all__ = ["Facts", "markdown", "parse_facts", "render", "summary"]
