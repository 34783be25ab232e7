"""Hardware profiles: what to prefer on a kind of machine, in `hw_profiles/*.toml`.

A profile orders what to try; measurement decides. Files in the user's `hw_profiles` folder, beside
`edged.toml`, come to the shipped ones or take the place of one of the same name.

Of the profiles that match, the most specific is taken: one that names a board comes before one that
names an accelerator, that before one with more features of the processor, that before one that
names an architecture. Between equals the higher `priority` decides, then the user's own file.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged import paths
from edged.errors import ConfigurationError
from edged.hardware.machine import Machine, find

FOLDER = "hw_profiles"
FALLBACK = "generic-x86-64"
"""For a machine that no profile is for"""


class MachineProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine is recognised by. A condition that is left out holds on every machine."""

    architectures: Annotated[list[str], Meta(description="Any of these: what `uname -m` says")] = []
    features: Annotated[
        list[str], Meta(description="All of these: words of /proc/cpuinfo, such as avx512_vnni")
    ] = []
    accelerators: Annotated[
        list[str], Meta(description="Any of these: families or ids, such as intel-npu, 8086:7d1d")
    ] = []
    boards: Annotated[
        list[str],
        Meta(description="Any of these: beginnings of words of the device tree's `compatible`"),
    ] = []
    priority: Annotated[
        int, Meta(description="Decides between profiles that match equally well: higher is taken")
    ] = 0


Wish = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9_-]+(@[a-z0-9_-]+)? [a-z0-9_.-]+ (fp32|bf16|fp16|int8|int4)$",
        description="Provider, device and precision",
        examples=["openvino npu fp16"],
    ),
]


class EngineProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the engine runs best."""

    encoder_threads: Annotated[int, Meta(ge=1, description="Threads of the encoder on the CPU")]
    decoder_threads: Annotated[int, Meta(ge=1, description="Threads of the decoder on the CPU")]
    room_to_spare: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds of work a second of audio up to which `auto` keeps the better "
            "model: a partial of a long utterance then takes about as long as the wait for the "
            "next one",
        ),
    ]
    order: Annotated[
        list[Wish], Meta(min_length=1, description="What to try, best first; the rest is left out")
    ]
    lanes: Annotated[
        int,
        Meta(
            ge=1,
            description="Utterances that may be recognised at the same time, where the runtime "
            "can; no more than there are cores",
        ),
    ] = 2
    cores: Annotated[
        Literal["big", "any"], Meta(description="Which cores the engine's threads may use")
    ] = "any"
    partial_interval: Annotated[
        float, Meta(gt=0, description="Seconds of new audio between partials")
    ] = 0.3


class GovernorProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to step down to something lighter."""

    thermal_margin_celsius: Annotated[
        float, Meta(ge=0, description="This far below a thermal zone's trip")
    ] = 5.0
    battery_percent: Annotated[
        int, Meta(ge=0, le=100, description="Below this charge while discharging")
    ] = 20
    lag_seconds: Annotated[
        float, Meta(gt=0, description="When live audio waits this long for the engine")
    ] = 2.0
    p95_seconds: Annotated[
        float,
        Meta(gt=0, description="When 5 % of finals come later than this after the end of speech"),
    ] = 1.0


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hardware profile."""

    machine: MachineProfile
    engine: EngineProfile
    governor: GovernorProfile = GovernorProfile()


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, held against a machine."""

    name: str
    file: str
    profile: Profile
    chosen: bool
    obstacles: list[str]
    """Why it does not match; empty where it does"""


def load(path: Path) -> Profile:
    """Read a profile. Raises ConfigurationError naming the file."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Profile)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def all() -> dict[str, Profile]:
    """Every profile by name, the user's own among them. Raises ConfigurationError."""
    return {name: load(path) for name, path in _files().items()}


def matching(machine: Machine | None = None) -> Profile:
    """The profile for a machine, this one if none is given; x86-64's where none is for it."""
    return explain(machine)[0].profile


def explain(machine: Machine | None = None) -> list[Match]:
    """Every profile, the chosen one first, then those that match, then those that do not."""
    machine = machine or _this_machine()
    held = [_hold(path, machine) for path in _files().values()]
    matches = sorted((m for m in held if not m.obstacles), key=_rank, reverse=True)
    others = [match for match in held if match.obstacles]
    if not matches:
        others.sort(key=lambda match: match.name != FALLBACK)
    first, *rest = matches + others
    return [msgspec.structs.replace(first, chosen=True), *rest]


def _files() -> dict[str, Path]:
    folders = paths.shipped(FOLDER), paths.configuration_directory() / FOLDER
    files = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return dict(sorted(files.items()))


@cache
def _this_machine() -> Machine:
    """Found once: a profile does not change while edged runs."""
    return find()


def _hold(path: Path, machine: Machine) -> Match:
    profile = load(path)
    obstacles = _obstacles(profile.machine, machine)
    return Match(name=path.stem, file=str(path), profile=profile, chosen=False, obstacles=obstacles)


def _obstacles(wanted: MachineProfile, machine: Machine) -> list[str]:
    """The conditions that a machine does not meet, in words."""
    obstacles = []
    if wanted.architectures and machine.architecture not in wanted.architectures:
        obstacles.append(f"the architecture is {machine.architecture}")
    missing = [word for word in wanted.features if word not in machine.cpu.features]
    if missing:
        obstacles.append(f"the processor has no {', '.join(missing)}")
    if wanted.accelerators and not _accelerators(wanted, machine):
        obstacles.append(f"there is no {' or '.join(wanted.accelerators)}")
    if wanted.boards and not _boards(wanted, machine):
        obstacles.append(f"the board is no {' or '.join(wanted.boards)}")
    return obstacles


def recognised_by(wanted: MachineProfile, machine: Machine) -> list[str]:
    """The conditions that a matching machine meets, in the profile's words."""
    return [
        *_boards(wanted, machine),
        *_accelerators(wanted, machine),
        *wanted.features,
        *(word for word in wanted.architectures if word == machine.architecture),
    ]


def _accelerators(wanted: MachineProfile, machine: Machine) -> list[str]:
    present = {word for found in machine.accelerators for word in (found.family, found.hardware)}
    return [word for word in wanted.accelerators if word in present]


def _boards(wanted: MachineProfile, machine: Machine) -> list[str]:
    names = machine.board.compatible
    return [word for word in wanted.boards if any(name.startswith(word) for name in names)]


def _rank(match: Match) -> tuple[bool, bool, int, bool, int, bool]:
    """Greater is better: how specific it is, and who wrote it."""
    wanted = match.profile.machine
    return (
        bool(wanted.boards),
        bool(wanted.accelerators),
        len(wanted.features),
        bool(wanted.architectures),
        wanted.priority,
        Path(match.file).parent != paths.shipped(FOLDER),
    )
