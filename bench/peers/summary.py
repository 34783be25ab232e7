"""From what was measured to one row of figures a system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, median
from typing import Any

from bench import scoring
from bench.peers import environments
from bench.peers.results import Results
from bench.peers.streams import kept
from bench.peers.systems import System
from edged.bench.figures import percentile, spread

Row = dict[str, Any]
NOTHING = ("name", "weights", "recordings")
"""What a row has of a system that nothing was measured of"""


def summarise(results: Results, systems: Sequence[System], command: str) -> dict[str, Any]:
    """The document that tables and plots are made of."""
    rows = [_row(system, results) for system in systems]
    document = results.document
    return {
        "command": command,
        "environment": document["environment"],
        "versions": environments.pins(),
        "copied": document.get("copied"),
        "skipped": document["skipped"],
        "systems": [row for row in rows if len(row) > len(NOTHING)],
    }


def _row(system: System, results: Results) -> Row:
    name = system.name
    return {
        "name": name,
        "weights": system.weights,
        **_paced(list(results.of("paced", name).values())),
        **_alone(results.of("alone", name)),
        **_offline(results, name),
        **_streams(results.of("streams", name)),
    }


def _paced(heard: Sequence[dict[str, Any]]) -> Row:
    if not heard:
        return {"recordings": 0}
    final = [h["final"] for h in heard if h["final"] is not None and not h["early"]]
    shown = sum(h["shown"] for h in heard)
    partials = [h["first_partial"] for h in heard if h["first_partial"] is not None]
    return {
        "recordings": len(heard),
        "final": spread(final),
        "finals": [round(seconds, 4) for seconds in sorted(final)],
        "early": sum(h["early"] for h in heard),
        "mute": sum(h["final"] is None for h in heard),
        "finals_each": mean(h["finals"] for h in heard),
        "first_partial": percentile(partials, 50),
        "interval": percentile([s for h in heard for s in h["intervals"]], 50),
        "flicker": sum(h["changed"] for h in heard) / shown if shown and partials else None,
        "cpu": sum(h["cpu"] for h in heard) / sum(h["duration"] for h in heard),
        "wer": _errors(heard),
    }


def _errors(heard: Iterable[dict[str, Any]]) -> float:
    return scoring.add(
        scoring.compare(scoring.normalize(h["reference"]), scoring.normalize(h["text"]))
        for h in heard
    ).rate


def _alone(measured: dict[str, Any]) -> Row:
    ready = {"ready": median(measured["ready"])} if "ready" in measured else {}
    names = ("memory", "silence", "noise", "microphone", "model_bytes")
    return ready | {name: measured[name] for name in names if name in measured}


def _offline(results: Results, name: str) -> Row:
    """Seconds of work a second of audio, on one core and on all; errors of the latter."""
    row: Row = {}
    for phase, field in (("offline 1", "one_core"), ("offline all", "all_cores")):
        if heard := list(results.of(phase, name).values()):
            row[field] = sum(h["seconds"] for h in heard) / sum(h["duration"] for h in heard)
            row["offline_recordings"] = len(heard)
            row["offline_wer"] = _errors(heard)
    return row


def _streams(steps: dict[str, dict[str, Any]]) -> Row:
    """The most streams that were carried in time, and every step."""
    if not steps:
        return {}
    good = [step["admitted"] for step in steps.values() if kept(step)]
    return {
        "carried": max(good, default=0),
        "steps": [{"streams": int(count), **step} for count, step in steps.items()],
    }
