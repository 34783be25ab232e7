"""When to step down to something lighter, and when the reason is gone.

Pure: it is told what was observed and when. Heat and an emptying battery press for as long as they
last; load presses when it is seen several times in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edged.hardware.power import Power
from edged.hardware.thermal import ThermalZone
from edged.profiles import GovernorProfile

UNKNOWN = Power(source="unknown")
SETTLE_SECONDS = 20.0
"""A step down needs so long to show its effect"""
COOLED_CELSIUS = 5.0
"""So much below the limit, heat is over"""
CHARGED_PERCENT = 5
"""So much above the limit, a battery is no longer low"""
IN_A_ROW = 3
"""Observations of load in a row that count"""
DEGENERATE_TEXTS = 3
"""Texts in a row that went in circles or had no end"""
CALM_SECONDS = 30.0
"""Without any pressure for so long, a better rung may be tried"""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen at one moment."""

    zones: Sequence[ThermalZone] = ()
    power: Power = UNKNOWN
    lag_seconds: float = 0.0
    """How far live audio is ahead of the engine"""
    p95_seconds: float | None = None
    """Of the finals of late: from the endpoint to the text"""
    degenerate: int = 0
    """Texts in a row that went in circles or had no end"""


class Governor:
    """Turns observations into steps down and permission to climb."""

    def __init__(self, limits: GovernorProfile) -> None:
        self.limits = limits
        self._hot = False
        self._low = False
        self._loaded = 0
        self._stepped = float("-inf")
        self._pressed = float("-inf")
        self.cause = ""
        """What pressed last, in a word: heat, battery, circles or load"""

    def judge(self, seen: Observation, now: float) -> str | None:
        """Why to step down now, or None. At most one step in SETTLE_SECONDS."""
        reason = self._heat(seen.zones) or self._battery(seen.power) or self._load(seen)
        if reason is None:
            return None
        self._pressed = now
        if now - self._stepped < SETTLE_SECONDS:
            return None
        self._stepped = now
        self._loaded = 0
        return reason

    def is_calm(self, now: float) -> bool:
        """Whether nothing has pressed for long enough to try something better."""
        return now - max(self._pressed, self._stepped) >= CALM_SECONDS

    def _heat(self, zones: Sequence[ThermalZone]) -> str | None:
        """The zone that is closest to its trip, with hysteresis."""
        known = [(zone.trip_celsius - zone.celsius, zone) for zone in zones if zone.trip_celsius]
        if not known:
            self._hot = False
            return None
        room, zone = min(known, key=lambda pair: pair[0])
        margin = self.limits.thermal_margin_celsius
        self._hot = room <= margin + (COOLED_CELSIUS if self._hot else 0.0)
        if not self._hot:
            return None
        self.cause = "heat"
        return f"{zone.kind} has {zone.celsius:.0f} °C, it slows down at {zone.trip_celsius:.0f} °C"

    def _battery(self, power: Power) -> str | None:
        percent = power.battery_percent
        if percent is None or not power.discharging:
            self._low = False
            return None
        limit = self.limits.battery_percent
        self._low = percent < limit + (CHARGED_PERCENT if self._low else 0)
        if not self._low:
            return None
        self.cause = "battery"
        return f"the battery is at {percent} %"

    def _load(self, seen: Observation) -> str | None:
        """Load is believed when it is seen several times in a row; a bad text needs no more."""
        if seen.degenerate >= DEGENERATE_TEXTS:
            self.cause = "circles"
            return f"{seen.degenerate} texts in a row went in circles"
        late = seen.p95_seconds is not None and seen.p95_seconds > self.limits.p95_seconds
        behind = seen.lag_seconds > self.limits.lag_seconds
        self._loaded = self._loaded + 1 if late or behind else 0
        if self._loaded < IN_A_ROW:
            return None
        self.cause = "load"
        if behind:
            return f"live audio is {seen.lag_seconds:.1f} s ahead of the engine"
        return f"5 % of the finals come later than {seen.p95_seconds:.2f} s"
