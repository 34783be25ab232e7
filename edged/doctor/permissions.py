"""Who owns edged's files, who may read them, and what edged may open."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from edged import paths
from edged.doctor.finding import Finding, fail, ok, warn
from edged.doctor.patient import Patient
from edged.engine.probe import installed
from edged.hardware.explain import explain
from edged.hardware.machine import find

PERMISSION = "no_permission"
"""The obstacle that is a matter of permissions"""
SECRETS = ("password", "token", "secret")


def examine(patient: Patient) -> Iterator[Finding]:
    user = _serving_user(patient)
    found = [*_files(user), *_configuration(patient), *_accelerators(patient)]
    yield from found or [
        ok("permissions", f"files are {_name(user)}'s, and nobody else's to write")
    ]


def _serving_user(patient: Patient) -> int:
    """The user that the daemon runs as; else whose its state is; else this one."""
    for path in (*[Path(f"/proc/{patient.pid}")] * bool(patient.pid), paths.state_directory()):
        with contextlib.suppress(OSError):
            return path.stat().st_uid
    return os.getuid()


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _files(user: int) -> Iterator[Finding]:
    for folder in (paths.state_directory(), paths.cache_directory()):
        if folder.is_dir():
            yield from _folder(folder, user)


def _folder(folder: Path, user: int) -> Iterator[Finding]:
    foreign = next((path for path in _inside(folder) if _status(path).st_uid != user), None)
    if foreign:
        owner = _name(_status(foreign).st_uid)
        yield fail(
            "foreign_owner",
            f"{foreign} belongs to {owner}, and edged runs as {_name(user)}: it was run as "
            "another user once",
            f"sudo chown -R {_name(user)}: {folder}",
        )
    open_to_all = next((p for p in _inside(folder) if _status(p).st_mode & stat.S_IWOTH), None)
    if open_to_all:
        reason = f"{open_to_all} can be written by everybody"
        yield fail("writable_by_all", reason, f"chmod -R o-w {folder}")


def _inside(folder: Path) -> Iterator[Path]:
    """The folder and what lies right in it, links aside."""
    yield folder
    yield from (path for path in folder.iterdir() if not path.is_symlink())


def _status(path: Path) -> os.stat_result:
    return path.lstat()


def _configuration(patient: Patient) -> Iterator[Finding]:
    file = patient.file
    if file is None or not file.exists():
        return
    mode = file.stat().st_mode
    if mode & stat.S_IWOTH:
        yield fail("writable_by_all", f"{file} can be written by everybody", f"chmod o-w {file}")
    elif mode & stat.S_IROTH and any(_secrets(patient.configuration.sinks)):
        yield warn(
            "secret_readable",
            f"{file} holds a password, and can be read by everybody",
            f"chmod o= {file}",
        )


def _secrets(sinks: dict[str, dict[str, object]]) -> Iterator[str]:
    for options in sinks.values():
        yield from (key for key in options if any(word in key.lower() for word in SECRETS))


def _accelerators(patient: Patient) -> Iterator[Finding]:
    for obstacle in explain(find(), installed(patient.configuration.provider_options())):
        if obstacle.code == PERMISSION:
            yield warn(obstacle.code, obstacle.sentence, obstacle.remedy)
