"""Every subject, each in a process of its own.

python -m edged.doctor.examine SUBJECT JSON   the findings as JSON on stdout
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Iterable, Sequence

import msgspec

from edged.doctor.finding import Finding, Report, worst
from edged.doctor.patient import Patient, Request
from edged.engine.ask import run_apart
from edged.errors import EdgedError
from edged.parent import answer_only

SUBJECTS = (
    *("configuration", "service", "audio", "engine"),
    *("network", "disk", "clock", "permissions"),
)
"""Modules here, each with a function `examine`"""
LIMIT_SECONDS = 20.0
LONGER = {"engine": 60.0, "audio": 40.0}
"""Files of models are read; a sound server may hang"""


def examine(request: Request, subjects: Sequence[str] = ()) -> Report:
    """Look at these subjects, at all if none is named, at the same time. Raises EdgedError for one
    that there is not."""
    unknown = [name for name in subjects if name not in SUBJECTS]
    if unknown:
        raise EdgedError(f"{unknown[0]} is no subject; there are {', '.join(SUBJECTS)}")
    named = [name for name in SUBJECTS if name in subjects or not subjects]
    findings = asyncio.run(_all(request, named))
    return Report(time.time(), worst(findings), findings)


async def _all(request: Request, subjects: Iterable[str]) -> list[Finding]:
    found = await asyncio.gather(*(_apart(request, subject) for subject in subjects))
    return [finding for findings in found for finding in findings]


async def _apart(request: Request, subject: str) -> list[Finding]:
    limit = LONGER.get(subject, LIMIT_SECONDS) + request.seconds
    said = msgspec.json.encode(request).decode()
    try:
        module = "edged.doctor.examine"
        found = await run_apart(module, list[Finding], limit, subject, said)
    except EdgedError as error:
        found = [Finding("fail", "check_failed", error.message, f"edged doctor {subject}")]
    return [msgspec.structs.replace(finding, subject=subject) for finding in found]


def main() -> None:
    out = answer_only()
    subject, said = sys.argv[1:]
    module = importlib.import_module(f"edged.doctor.{subject}")
    findings = list(module.examine(Patient(msgspec.json.decode(said, type=Request))))
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(findings))


if __name__ == "__main__":
    main()
