"""The microphone: whether there is one, who has it, and what it sounds like."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edged.doctor.ear import Heard
from edged.doctor.finding import Finding, fail, ok, skipped, warn
from edged.doctor.holders import who_has
from edged.doctor.patient import Patient
from edged.doctor.sound import judge
from edged.engine.ask import run_apart
from edged.errors import EdgedError
from edged.hardware import sound
from edged.hardware.root import Root

IDENTITIES = {"auto", "usb", "alsa", "pulse", "name"}
"""What a microphone's name begins with"""
HANG_SECONDS = 15.0
MOST_DRIFT = 200.0
"""Parts per million; a cheap crystal has 100"""
RESTART_SERVER = "systemctl --user restart pipewire-pulse || pulseaudio --kill; pulseaudio --start"
START_SERVER = "systemctl --user start pipewire-pulse || pulseaudio --start"


def examine(patient: Patient) -> Iterator[Finding]:
    section = patient.configuration.microphone
    told: dict[str, Any] = patient.daemon.health.get("microphone") or {}
    source = told.get("source") or section.source  # a flag may have changed it
    if not section.enabled or told.get("state") == "off":
        yield skipped("microphone", "edged was told to listen to none")
    elif source.partition(":")[0] not in IDENTITIES:
        yield skipped("microphone", f"{source} is none")
    else:
        heard = list(_listen(patient, source))
        is_heard = all(finding.verdict != "fail" for finding in heard)
        yield from _told(patient, told, is_heard)
        yield from heard


# -- what the daemon says -------------------------------------------------------------------------


def _told(patient: Patient, state: dict[str, Any], is_heard: bool) -> Iterator[Finding]:
    if not state:
        return
    if state["state"] == "waiting" and is_heard:  # else it is said by who listened, and why
        reason = f"the daemon does not hear it: {state['reason']}"
        yield fail(state["code"] or "no_microphone", reason, "sudo systemctl restart edged")
    elif state["muted"]:
        by = ", ".join(state.get("muted_by", ())) or "order"
        yield warn(
            "muted",
            f"the daemon was told to hear nothing, by {by}",
            _unmute(by, patient.daemon.address),
        )
    elif state["code"] and is_heard:
        yield fail(state["code"], str(state["reason"]), "edged devices")
    drift = state.get("drift")
    if drift and abs(drift) > MOST_DRIFT:
        reason = f"its clock goes {drift:+.0f} parts per million wrong"
        yield warn("clock_drift", reason, "another sound card, or another rate: pactl list cards")


def _unmute(by: str, address: str) -> str:
    if "switch" in by:
        return "the mute switch (microphone.mute_file, microphone.mute_command)"
    by_socket = address.startswith("/")
    where = f"--unix-socket {address} http://localhost" if by_socket else address
    return f"curl --json '{{\"muted\": false}}' {where}/v1/microphone"


# -- what is heard --------------------------------------------------------------------------------


def _listen(patient: Patient, source: str) -> Iterator[Finding]:
    seconds = patient.request.seconds
    try:
        heard: Heard = asyncio.run(
            run_apart("edged.doctor.ear", Heard, HANG_SECONDS + seconds, source, f"{seconds}")
        )
    except EdgedError as error:
        yield fail("audio_hung", f"listening: {error.message}", RESTART_SERVER)
        return
    if heard.error:
        yield _unheard(heard, *heard.error)
        return
    channels = f"{len(heard.channels)} channel{'s' * (len(heard.channels) != 1)}"
    yield ok("microphone", f"{heard.identity} ({heard.label}), {channels} of {heard.rate} Hz")
    yield from judge(heard, patient.configuration.microphone.channel)


def _unheard(heard: Heard, code: str, message: str) -> Finding:
    """Why there is nothing to listen to."""
    if code == "sound_server_hung":
        return fail(code, message, RESTART_SERVER)
    if code == "missing_library":
        return fail(code, message, message.rpartition("Run: ")[2])
    if code == "device_busy":
        return _busy(message)
    if not heard.reachable and (finding := _without_server()):
        return finding
    if closed := _closed_devices():
        user = pwd.getpwuid(os.getuid()).pw_name
        group = closed.group()
        reason = f"{user} may not open {closed} (group {group})"
        return fail("no_audio_group", reason, f"sudo usermod --append --groups {group} {user}")
    return fail(code, message, "edged devices; plug one in, or set microphone.source")


def _busy(message: str) -> Finding:
    holders = list(who_has(_is_microphone))
    if any(holder.is_edged for holder in holders):
        reason = "edged has it: its sound is not looked at"
        return skipped("sound", reason, "stop edged, then: edged doctor audio")
    by = f"; {', '.join(map(str, holders))} has it" if holders else ""
    remedy = "sudo fuser --verbose /dev/snd/*, and end who has it"
    return fail("device_busy", message + by, remedy)


def _is_microphone(path: str) -> bool:
    """Whether it is a capture device of ALSA."""
    return path.startswith("/dev/snd/pcm") and path.endswith("c")


def _without_server() -> Finding | None:
    """Where no sound server answers: a fault, if one is asked for or there is no other way."""
    asked = os.environ.get("PULSE_SERVER")
    if asked:
        reason = f"PULSE_SERVER is {asked}, where no sound server answers"
        return fail("no_sound_server", reason, START_SERVER)
    if sound.read(Root()):
        return None
    user = pwd.getpwuid(os.getuid()).pw_name
    folder = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not Path(folder).is_dir():
        reason = f"there is no sound card, and {user} has no session that a sound server runs in"
        return fail("no_session", reason, f"sudo loginctl enable-linger {user}")
    reason = "there is no sound card, and no sound server answers"
    return fail("no_sound_server", reason, START_SERVER)


def _closed_devices() -> Path | None:
    """A capture device that this user may not open."""
    found = sorted(Path("/dev/snd").glob("pcmC*c"))
    return next((path for path in found if not os.access(path, os.R_OK)), None)
