"""Models, what was proven here, and how the engine that runs is doing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edged import __version__
from edged.doctor.finding import Finding, fail, ok, skipped, warn
from edged.doctor.patient import Patient
from edged.doctor.permissions import PERMISSION
from edged.engine.assembly import ladder
from edged.engine.probe import HARMLESS, ProbeReport, installed, last_report
from edged.errors import EdgedError, ModelError
from edged.hardware.explain import explain
from edged.hardware.machine import find
from edged.messages import Rung
from edged.models.inventory import store
from edged.models.store import stored_as
from edged.plugins import Plugins

PROBE = "edged probe"
LOOP_WORKERS = 3
"""Workers that were started, with none that serves"""
RESTARTS_AN_HOUR = 3.0


def examine(patient: Patient) -> Iterator[Finding]:
    yield from _models(patient)
    yield _probe(last_report())
    for obstacle in explain(find(), installed(patient.configuration.provider_options())):
        if obstacle.code not in {PERMISSION, HARMLESS}:
            yield warn(obstacle.code, obstacle.sentence, obstacle.remedy)
    if patient.daemon.state == "answers":
        try:
            yield from _running(patient, patient.ask("/v1/engine"))
        except (EdgedError, OSError) as error:
            yield skipped("engine", f"the daemon does not tell: {error}")


# -- models ---------------------------------------------------------------------------------------


def _models(patient: Patient) -> Iterator[Finding]:
    """Every file that the configured ladder reads, whole."""
    try:
        rungs = ladder(patient.configuration)
    except EdgedError as error:
        yield fail(error.code, error.message, _remedy(error))
        return
    files: dict[str, set[str]] = {}
    try:
        for rung in rungs:
            files.setdefault(rung.model, set()).update(_files(rung))
        for name, names in files.items():
            store().get(name).verify_files(sorted(names))
    except ModelError as error:
        yield fail(error.code, error.message, _remedy(error))
        return
    count = sum(len(names) for names in files.values())
    yield ok("models", f"{', '.join(files)}: {count} files, all whole; the best rung is {rungs[0]}")


def _files(rung: Rung) -> Iterator[str]:
    endings = Plugins.discover().formats(rung.provider, rung.device)
    return store().get(rung.model).files_for(stored_as(rung.precision), endings)


def _remedy(error: EdgedError) -> str:
    """The command at the end of a message, where there is one."""
    _, found, command = error.message.rpartition("Run: ")
    return command if found else "edged models build"


# -- what was proven ------------------------------------------------------------------------------


def _probe(report: ProbeReport | None) -> Finding:
    if report is None:
        return warn("not_probed", "nothing was proven on this machine yet", PROBE)
    if report.status == "nothing":
        return fail("nothing_proven", report.sentence, f"{PROBE} --fresh")
    if report.edged != __version__:
        reason = f"edged {report.edged} was proven, and this is {__version__}"
        return warn("probe_outdated", reason, PROBE)
    return ok("probe", report.sentence)


# -- what runs ------------------------------------------------------------------------------------


def _running(patient: Patient, found: dict[str, Any]) -> Iterator[Finding]:
    engine, health = found["engine"], patient.daemon.health
    restarts = max(0, found["workers"] - 1 - found["moves"])
    hours = max(1.0, health["uptime"] / 3600)
    reason = engine["reason"] or "it loads"
    if engine["effective"] is None and found["workers"] >= LOOP_WORKERS:
        count = f"{found['workers']} workers were started and none stays up"
        yield fail("worker_loop", f"{count}: {reason}", f"{PROBE} --fresh")
    elif engine["effective"] is None:
        yield warn("engine_loading", f"no engine is ready: {reason}", "edged doctor engine")
    elif engine["requested"] != engine["effective"]:
        reason = f"{_name(engine['effective'])} serves, not {_name(engine['requested'])}: {reason}"
        yield warn("engine_degraded", reason, PROBE)
    else:
        yield ok("engine", f"{_name(engine['effective'])} serves")
    if restarts / hours >= RESTARTS_AN_HOUR and engine["effective"]:
        count = f"{restarts} workers had to be replaced in {health['uptime'] / 3600:.1f} h"
        yield warn("worker_restarts", count, "journalctl -u edged -p warning")


def _name(rung: dict[str, str] | None) -> str:
    return str(Rung(**rung)) if rung else "nothing"
