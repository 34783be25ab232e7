"""Whether a daemon runs, and what systemd thinks of it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edged.doctor.finding import Finding, fail, ok, skipped, warn
from edged.doctor.patient import Patient

UNIT = "edged.service"
SYSTEMCTL_SECONDS = 5.0
MOST_RESTARTS = 3
_ASKED = (
    *("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "WatchdogUSec"),
    *("UnitFileState", "ExecMainStatus"),
)


def examine(patient: Patient) -> Iterator[Finding]:
    yield _daemon(patient)
    yield from _systemd()


def _daemon(patient: Patient) -> Finding:
    daemon = patient.daemon
    if daemon.state == "answers":
        uptime = daemon.health.get("uptime", 0.0)
        version = daemon.health.get("version")
        return ok("daemon", f"edged {version} answers at {daemon.address}, for {_span(uptime)}")
    if daemon.state == "hung":
        kill = f"sudo systemctl restart {UNIT}, or kill its process"
        return fail("daemon_hung", f"{daemon.address}: {daemon.reason}", kill)
    if daemon.state == "refuses":
        remedy = "sudo edged doctor, or name the token: edged doctor --token-file FILE"
        return warn("daemon_refuses", f"{daemon.address}: {daemon.reason}", remedy)
    if daemon.state == "stranger":
        reason = f"{daemon.address}: {daemon.reason}; see network"
        return skipped("no_daemon", reason, "edged run")
    return skipped("no_daemon", f"none answers at {daemon.address}", "edged run")


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _systemd() -> Iterator[Finding]:
    if not Path("/run/systemd/system").is_dir():
        yield skipped("no_systemd", "systemd does not run here: whoever starts edged restarts it")
        return
    found = False
    for user in (False, True):
        state = _show(user)
        if state and state.get("LoadState") not in {None, "not-found"}:
            found = True
            yield from _unit(state, user)
    if not found:
        remedy = "docs/service.md says how to install one"
        yield skipped("no_unit", f"there is no {UNIT}: nobody starts edged again", remedy)


def _show(user: bool) -> dict[str, str]:
    """Properties of the unit; none where nobody can be asked."""
    command = ["systemctl", *["--user"] * user, "show", UNIT, f"--property={','.join(_ASKED)}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SYSTEMCTL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines())


def _unit(state: dict[str, str], user: bool) -> Iterator[Finding]:
    control = "systemctl --user" if user else "sudo systemctl"
    name = f"{UNIT} of user {_me()}" if user else UNIT
    active, restarts = state["ActiveState"], int(state["NRestarts"] or 0)
    if active == "failed" or state["Result"] not in {"success", ""}:
        journal = "journalctl --user" if user else "journalctl"
        reason = f"{name} failed: {state['Result']}, exit status {state['ExecMainStatus']}"
        yield fail("unit_failed", reason, f"{journal} -u edged -n 50")
    elif active != "active":
        yield warn("unit_stopped", f"{name} is {active}", f"{control} start {UNIT}")
    else:
        yield ok("unit", f"{name} is {active} ({state['SubState']})")
    if restarts > MOST_RESTARTS:
        reason = f"{name} was restarted {restarts} times"
        yield warn("unit_restarts", reason, "journalctl -u edged -p warning")
    if state["WatchdogUSec"] in {"0", "infinity", ""}:
        reason = f"{name} has no watchdog: an edged that hangs stays so"
        yield warn("no_watchdog", reason, f"{control} edit {UNIT}   ([Service] WatchdogSec=30)")
    if state["UnitFileState"] == "disabled":
        reason = f"{name} does not start at boot"
        yield warn("unit_disabled", reason, f"{control} enable {UNIT}")
    if user and not Path(f"/var/lib/systemd/linger/{_me()}").exists():
        reason = f"without lingering, {name} ends when {_me()} logs out"
        yield warn("no_linger", reason, f"sudo loginctl enable-linger {_me()}")


def _me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
