"""What `edged doctor` found, for people: the remedy has a line of its own, to be copied."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape

from edged.doctor.finding import Report

EXIT_CODES = {"ok": 0, "warn": 1, "fail": 2}
_COLOURS = {"ok": "green", "skipped": "dim", "warn": "yellow", "fail": "bold red"}
NARROWEST = 100
"""Columns of the output where no terminal tells how many there are"""
_SENTENCES = {
    "ok": "Nothing is wrong.",
    "warn": "edged works, but something is not as it should be.",
    "fail": "Something keeps edged from working.",
}


def show(report: Report) -> None:
    """Print a report."""
    console = Console(width=None if sys.stdout.isatty() else NARROWEST, highlight=False)
    subject = ""
    for finding in report.findings:
        if finding.subject != subject:
            subject = finding.subject
            console.print(f"\n[bold]{subject}[/]")
        colour = _COLOURS[finding.verdict]
        verdict = f"[{colour}]{finding.verdict:<7}[/]"
        line = f"  {verdict} [bold]{finding.code}[/]: {escape(finding.reason)}"
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(f"            {escape(finding.remedy)}", soft_wrap=True)
    console.print(f"\n[{_COLOURS[report.status]}]{_SENTENCES[report.status]}[/]")
