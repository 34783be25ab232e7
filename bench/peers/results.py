"""What was measured, kept in a file by phase, system and item, so that a run can go on later."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LASTING = ("cpu", "cores", "python", "onnxruntime", "edged", "revision")
"""What must be the same for results to be of one run"""


class Results:
    """Raises SystemExit where the file is of another machine or version."""

    def __init__(self, path: Path, environment: Mapping[str, Any], fresh: bool) -> None:
        self._path = path
        self.document: dict[str, Any] = {"environment": dict(environment), "skipped": {}}
        if path.exists() and not fresh:
            self._go_on(json.loads(path.read_text("utf-8")))

    def _go_on(self, before: dict[str, Any]) -> None:
        new, old = self.document["environment"], before["environment"]
        if changed := [key for key in LASTING if new[key] != old[key]]:
            what = ", ".join(f"{key} was {old[key]}" for key in changed)
            raise SystemExit(f"{self._path} is of another run ({what}); begin anew with --fresh")
        self.document = before

    def once(self, phase: str, system: str, item: str, measure: Callable[[], Any]) -> Any:
        """What was measured before; else measure it, and keep it."""
        done = self.of(phase, system)
        if item not in done:
            done[item] = measure()
            self.save()
        return done[item]

    def of(self, phase: str, system: str) -> dict[str, Any]:
        """Items of a phase that are done; changing it changes the results."""
        systems: dict[str, dict[str, Any]] = self.document.setdefault(phase, {})
        return systems.setdefault(system, {})

    def skip(self, system: str, reason: str) -> None:
        """This system cannot be measured here, and why."""
        self.document["skipped"][system] = reason
        self.save()

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.document, indent=1) + "\n", "utf-8")
        partial.replace(self._path)
