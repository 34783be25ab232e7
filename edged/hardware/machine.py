"""This machine, or a recorded one."""

from __future__ import annotations

import msgspec

from edged.hardware import accelerators, board, cpu, libraries, memory, power, sound, thermal
from edged.hardware.accelerators import Accelerator
from edged.hardware.board import Board
from edged.hardware.cpu import Cpu
from edged.hardware.memory import Memory
from edged.hardware.power import Power
from edged.hardware.root import Root
from edged.hardware.sound import AudioInput
from edged.hardware.thermal import ThermalZone


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine is made of."""

    architecture: str
    """As `uname -m` says it: x86_64, aarch64"""
    kernel: str
    board: Board
    cpu: Cpu
    memory: Memory
    accelerators: list[Accelerator] = []
    libraries: list[str] = []
    """Keys of `libraries.FILES` that are installed"""
    thermal: list[ThermalZone] = []
    power: Power
    audio_inputs: list[AudioInput] = []


def find(root: Root | None = None) -> Machine:
    """Read what there is. Takes some milliseconds, and wakes no device."""
    root = root or Root()
    own_board = board.read(root)
    return Machine(
        architecture=root.machine,
        kernel=root.kernel,
        board=own_board,
        cpu=cpu.read(root),
        memory=memory.read(root),
        accelerators=accelerators.read(root, own_board),
        libraries=libraries.read(root),
        thermal=thermal.read(root),
        power=power.read(root),
        audio_inputs=sound.read(root),
    )
