"""Whether the configuration can be read."""

from __future__ import annotations

from collections.abc import Iterator

from edged.doctor.finding import Finding, fail, ok
from edged.doctor.patient import Patient


def examine(patient: Patient) -> Iterator[Finding]:
    if patient.problem:
        remedy = f"edit {patient.file}, then: edged config" if patient.file else "edged config"
        yield fail("configuration", patient.problem.message, remedy)
    else:
        yield ok("configuration", str(patient.file or "no file: every setting has its default"))
