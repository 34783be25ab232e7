"""The governor's policy, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edged.engine.governor import CALM_SECONDS, SETTLE_SECONDS, Governor, Observation
from edged.hardware.power import Power
from edged.hardware.thermal import ThermalZone
from edged.profiles import GovernorProfile

LIMITS = GovernorProfile(thermal_margin_celsius=5, battery_percent=20, lag_seconds=2, p95_seconds=1)


def heat(celsius: float, trip: float | None = 80) -> Observation:
    return Observation([ThermalZone("thermal_zone0", "cpu", celsius, trip)])


def battery(percent: int, discharging: bool = True) -> Observation:
    return Observation(
        power=Power(source="battery", battery_percent=percent, discharging=discharging)
    )


CALM = Observation()
LATE = Observation(p95_seconds=1.5)
BEHIND = Observation(lag_seconds=3)
CIRCLES = Observation(degenerate=3)


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        ([CALM] * 10, 0),
        ([heat(74)] * 10, 0),
        ([heat(76)], 1),
        ([heat(200, trip=None)], 0),
        ([battery(21)], 0),
        ([battery(19)], 1),
        ([battery(5, discharging=False)], 0),
        ([LATE] * 2, 0),
        ([LATE] * 3, 1),
        ([LATE, CALM, LATE, LATE], 0),
        ([BEHIND] * 3, 1),
        ([BEHIND, LATE, BEHIND], 1),
        ([Observation(degenerate=2)], 0),
        ([CIRCLES], 1),
    ],
)
def test_steps_down(seen: Sequence[Observation], steps: int) -> None:
    governor = Governor(LIMITS)
    reasons = [governor.judge(one, now) for now, one in enumerate(seen)]
    assert len([reason for reason in reasons if reason]) == steps


def test_a_step_is_given_time_to_show_its_effect() -> None:
    governor = Governor(LIMITS)
    steps = [now for now in range(60) if governor.judge(heat(78), now)]
    assert steps == [0, SETTLE_SECONDS, 2 * SETTLE_SECONDS]


def test_heat_is_over_only_well_below_where_it_began() -> None:
    governor = Governor(LIMITS)
    assert governor.judge(heat(76), 0)
    assert governor.judge(heat(72), SETTLE_SECONDS)
    assert governor.judge(heat(69), 2 * SETTLE_SECONDS) is None
    assert governor.judge(heat(74), 3 * SETTLE_SECONDS) is None


def test_it_is_calm_only_after_a_while_without_pressure() -> None:
    governor = Governor(LIMITS)
    governor.judge(heat(76), 0)
    governor.judge(heat(76), 100)
    governor.judge(heat(60), 101)
    assert not governor.is_calm(100 + CALM_SECONDS - 1)
    assert governor.is_calm(100 + CALM_SECONDS)


def test_a_reason_names_the_sensor_and_its_limit() -> None:
    assert Governor(LIMITS).judge(heat(76), 0) == "cpu has 76 °C, it slows down at 80 °C"
