"""What a check finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from edged import __version__

Verdict = Literal["ok", "skipped", "warn", "fail"]
SEVERITY: tuple[Verdict, ...] = ("ok", "skipped", "warn", "fail")


class Finding(msgspec.Struct, frozen=True):
    """One line."""

    verdict: Verdict
    """skipped: it could not be looked at, or need not be"""
    code: str
    """What is wrong, in a word that stays; of what is well, what was looked at"""
    reason: str
    remedy: str | None = None
    """The command that mends it, or what to do where no command does"""
    subject: str = ""


class Report(msgspec.Struct, frozen=True):
    """What `edged doctor` found."""

    time: float
    """Unix time, seconds"""
    status: Literal["ok", "warn", "fail"]
    """Exit code 0, 1 and 2: the worst of the findings"""
    findings: list[Finding]
    schema_version: Literal[1] = 1
    edged: str = __version__


def ok(code: str, reason: str) -> Finding:
    return Finding("ok", code, reason)


def skipped(code: str, reason: str, remedy: str | None = None) -> Finding:
    return Finding("skipped", code, reason, remedy)


def warn(code: str, reason: str, remedy: str) -> Finding:
    return Finding("warn", code, reason, remedy)


def fail(code: str, reason: str, remedy: str) -> Finding:
    return Finding("fail", code, reason, remedy)


def worst(findings: Iterable[Finding]) -> Literal["ok", "warn", "fail"]:
    """What it comes to."""
    verdicts = {finding.verdict for finding in findings}
    if "fail" in verdicts:
        return "fail"
    return "warn" if "warn" in verdicts else "ok"
