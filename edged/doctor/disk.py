"""Where edged writes: room, and whether it can."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edged import paths
from edged.doctor.finding import Finding, fail, ok, warn
from edged.doctor.patient import Patient

FULL_BYTES = 1 << 20
LOW_BYTES = 64 << 20
LARGE_BYTES = 2 << 30
"""Of the state directory: transcripts and recordings alone do not come to that unnoticed"""


def examine(patient: Patient) -> Iterator[Finding]:
    folders = {"state": paths.state_directory(), "cache": paths.cache_directory()}
    transcripts, recorder = patient.configuration.transcripts, patient.configuration.recorder
    if transcripts.enabled and transcripts.path:
        folders["transcripts"] = transcripts.path.parent
    if recorder.enabled and recorder.path:
        folders["recordings"] = recorder.path
    for name, folder in folders.items():
        yield _folder(name, folder)
    size = _size(folders["state"])
    if size > LARGE_BYTES:
        state = folders["state"]
        reason = f"{state} holds {size / 1e9:.1f} GB"
        yield warn("state_large", reason, f"du -sh {state}/*, and delete what is not needed")
    for reason in patient.daemon.health.get("reasons", ()):
        what, _, _ = reason.partition(":")
        if what in {"transcripts", "recorder"}:
            yield fail(f"{what}_unwritten", reason, f"df -h {folders['state']}")


def _folder(name: str, folder: Path) -> Finding:
    there = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there, prefix=".edged-doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return _unwritable(name, folder, there, error)
    status = os.statvfs(there)
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    if free < FULL_BYTES:
        return _full(name, folder, free)
    if free < min(LOW_BYTES, total // 10):
        reason = f"{name} directory {folder}: {free / 1e6:.0f} MB are left"
        return warn("disk_low", reason, f"df -h {there}, and delete what is not needed")
    return ok(f"{name}_directory", f"{folder}: {free / 1e9:.1f} GB free")


def _nearest(folder: Path) -> Path:
    """The folder, or the one in which it would be made."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _full(name: str, folder: Path, free: int) -> Finding:
    reason = f"{name} directory {folder}: the disk is full ({free / 1e6:.1f} MB are left)"
    return fail("disk_full", reason, f"df -h {_nearest(folder)}, and delete what is not needed")


def _unwritable(name: str, folder: Path, there: Path, error: OSError) -> Finding:
    reason = f"{name} directory {folder} cannot be written to: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _full(name, folder, 0)
    if error.errno == errno.EROFS:
        mount = next(path for path in (there, *there.parents) if path.is_mount())
        return fail("read_only", reason, f"sudo mount -o remount,rw {mount}")
    return fail("not_writable", reason, f"sudo chown -R {_user()} {there}")


def _user() -> str:
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
