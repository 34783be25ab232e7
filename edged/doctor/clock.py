"""The wall clock: transcripts carry its time."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

import edged
from edged import paths
from edged.doctor.finding import Finding, fail, ok, warn
from edged.doctor.patient import Patient

SET_CLOCK = "sudo timedatectl set-ntp true"
TOLERANCE_SECONDS = 60.0
STATE_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)"""


def examine(patient: Patient) -> Iterator[Finding]:
    now = time.time()
    newest = max(_newest(_transcripts(patient)), default=0.0)
    if now < _built():
        yield fail(
            "clock_behind",
            f"it is {_date(now)}, before this edged was installed: the machine has started "
            "without the time",
            SET_CLOCK,
        )
    elif newest > now + TOLERANCE_SECONDS:
        yield warn(
            "clock_stepped",
            f"transcripts were written {newest - now:.0f} s from now: the clock was set back",
            SET_CLOCK,
        )
    elif _is_unsynchronised():
        yield warn("clock_unsynchronised", "nothing keeps the clock right", SET_CLOCK)
    else:
        yield ok("clock", _date(now))


def _transcripts(patient: Patient) -> Path:
    path = patient.configuration.transcripts.path
    return path or paths.state_directory() / "transcripts.sqlite"


def _newest(store: Path) -> Iterator[float]:
    """When the store was written, in Unix time."""
    for path in (store, Path(f"{store}-wal")):
        with contextlib.suppress(OSError):
            yield path.stat().st_mtime


def _built() -> float:
    """When edged came onto this machine, or later; Unix time."""
    return Path(edged.__file__).stat().st_mtime


def _is_unsynchronised() -> bool:
    """What the kernel says, which NTP clients tell; False where it may not be asked."""
    read_only = ctypes.create_string_buffer(512)  # struct timex: modes = 0 changes nothing
    state: int = ctypes.CDLL(None).adjtimex(read_only)
    return state == STATE_UNSYNCHRONISED


def _date(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(when))
