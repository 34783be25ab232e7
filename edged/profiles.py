"""Hardware profiles: what to prefer on a kind of machine, in `hw_profiles/*.toml`."""

from __future__ import annotations

import platform
import tomllib
from pathlib import Path

import msgspec

from edged import paths
from edged.errors import ConfigurationError


class EngineProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the engine runs best."""

    encoder_threads: int
    decoder_threads: int
    room_to_spare: float
    """Seconds of work a second of audio up to which `auto` keeps the better model: a partial of a
    long utterance then takes about as long as the wait for the next one"""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One profile."""

    machines: list[str]
    """What `uname -m` says on such a machine"""
    engine: EngineProfile


def load(path: Path) -> Profile:
    """Read a profile. Raises ConfigurationError naming the file."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Profile)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def matching(machine: str | None = None) -> Profile:
    """The profile for this kind of machine; x86-64's where none is for it."""
    machine = machine or platform.machine()
    folder = paths.shipped("hw_profiles")
    profiles = [load(path) for path in sorted(folder.glob("*.toml"))]
    fitting = [profile for profile in profiles if machine in profile.machines]
    return (fitting or profiles)[-1]
