"""How hot it is, and from where on the machine slows down."""

from __future__ import annotations

import msgspec

from edged.hardware.root import Root

ZONES = "sys/class/thermal"
SLOWING = {"passive", "hot", "critical"}
"""Trips from which the machine slows down or stops; "active" only starts a fan"""


class ThermalZone(msgspec.Struct, frozen=True):
    """One sensor."""

    name: str
    """thermal_zone0"""
    kind: str
    """What it measures: x86_pkg_temp, cpu-thermal"""
    celsius: float
    trip_celsius: float | None
    """The lowest trip from which the machine slows down or stops"""


def read(root: Root) -> list[ThermalZone]:
    """Every sensor that answers now. Cheap enough for every few seconds."""
    zones = (_zone(root, name) for name in root.names(ZONES, "thermal_zone*"))
    return [zone for zone in zones if zone]


def _zone(root: Root, name: str) -> ThermalZone | None:
    millidegrees = root.number(f"{ZONES}/{name}/temp")
    if millidegrees is None:  # a sensor that sleeps, or a modem that is off
        return None
    kind = root.text(f"{ZONES}/{name}/type") or "unknown"
    return ThermalZone(name, kind, millidegrees / 1000, _trip(root, f"{ZONES}/{name}"))


def _trip(root: Root, folder: str) -> float | None:
    trips = []
    for name in root.names(folder, "trip_point_*_type"):
        millidegrees = root.number(f"{folder}/{name.removesuffix('type')}temp")
        # Firmware says 0 or below for a trip that is not set.
        if root.text(f"{folder}/{name}") in SLOWING and millidegrees and millidegrees > 0:
            trips.append(millidegrees / 1000)
    return min(trips, default=None)
