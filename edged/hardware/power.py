"""Where the power comes from."""

from __future__ import annotations

from typing import Literal

import msgspec

from edged.hardware.root import Root

SUPPLIES = "sys/class/power_supply"
PACKAGE_LIMIT = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """Where the power comes from now."""

    source: Literal["mains", "battery", "unknown"]
    battery_percent: int | None = None
    """Of the emptiest battery"""
    discharging: bool = False
    limit_watts: float | None = None
    """What an Intel processor may take for long, where that can be read"""


def read(root: Root) -> Power:
    """The power supply. Cheap enough for every few seconds."""
    folders = [f"{SUPPLIES}/{name}" for name in root.names(SUPPLIES)]
    # A mouse's battery is none of ours.
    folders = [folder for folder in folders if root.text(f"{folder}/scope") != "Device"]
    batteries = [folder for folder in folders if root.text(f"{folder}/type") == "Battery"]
    others = [folder for folder in folders if folder not in batteries]
    percents = [root.number(f"{folder}/capacity") for folder in batteries]
    discharging = any(root.text(f"{folder}/status") == "Discharging" for folder in batteries)
    plugged = any(root.number(f"{folder}/online") for folder in others)
    microwatts = root.number(PACKAGE_LIMIT)
    return Power(
        source="battery" if discharging else "mains" if plugged else "unknown",
        battery_percent=min((p for p in percents if p is not None), default=None),
        discharging=discharging,
        limit_watts=microwatts / 1e6 if microwatts else None,
    )
