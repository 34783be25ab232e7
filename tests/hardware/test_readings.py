"""What the governor reads every few seconds, and lists of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.hardware import cpu, power, thermal
from edged.hardware.root import Root


def tree(folder: Path, **files: str) -> Root:
    for path, text in files.items():
        file = folder / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Root(folder)


def zone(folder: Path, **files: str) -> list[thermal.ThermalZone]:
    path = "sys__class__thermal__thermal_zone0__"
    return thermal.read(tree(folder, **{f"{path}{name}": text for name, text in files.items()}))


def test_a_zone_changes_between_readings(tmp_path: Path) -> None:
    [cool] = zone(tmp_path, type="cpu-thermal", temp="41500\n")
    [hot] = zone(tmp_path, temp="83000\n")
    assert (cool.kind, cool.celsius, cool.trip_celsius) == ("cpu-thermal", 41.5, None)
    assert hot.celsius == 83.0


def test_the_lowest_trip_that_slows_counts(tmp_path: Path) -> None:
    [found] = zone(
        tmp_path,
        temp="41000",
        trip_point_0_type="critical",
        trip_point_0_temp="110000",
        trip_point_1_type="passive",
        trip_point_1_temp="95000",
        trip_point_2_type="active",
        trip_point_2_temp="50000",
        trip_point_3_type="hot",
        trip_point_3_temp="-274000",
        trip_point_4_type="passive",
        trip_point_4_temp="0",
    )
    assert found.trip_celsius == 95.0


def test_a_sleeping_sensor_is_left_out(tmp_path: Path) -> None:
    assert zone(tmp_path, type="modem") == []


def supplies(folder: Path, **files: str) -> power.Power:
    root = tree(folder, **{f"sys__class__power_supply__{k}": v for k, v in files.items()})
    return power.read(root)


def test_no_supply_is_unknown(tmp_path: Path) -> None:
    assert power.read(Root(tmp_path)) == power.Power(source="unknown")


def test_a_charging_battery_is_on_the_mains(tmp_path: Path) -> None:
    found = supplies(
        tmp_path,
        AC__type="Mains",
        AC__online="1",
        BAT0__type="Battery",
        BAT0__status="Charging",
        BAT0__capacity="40",
        BAT1__type="Battery",
        BAT1__status="Full",
        BAT1__capacity="100",
    )
    assert found == power.Power(source="mains", battery_percent=40)


def test_a_mouse_s_battery_is_none_of_ours(tmp_path: Path) -> None:
    found = supplies(
        tmp_path,
        mouse__type="Battery",
        mouse__scope="Device",
        mouse__status="Discharging",
        mouse__capacity="3",
    )
    assert found == power.Power(source="unknown")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("0,2-3,8", [0, 2, 3, 8]),
        ("", []),
        (None, []),
        ("99999999999", []),
    ],
)
def test_lists_of_processors(text: str | None, numbers: list[int]) -> None:
    assert cpu.parse_list(text) == numbers


def test_features_are_those_of_every_core(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        proc__cpuinfo="processor : 0\nFeatures : asimd asimddp i8mm\n\n"
        "processor : 1\nFeatures : asimd asimddp\n",
    )
    assert cpu.read(root).features == ["asimd", "asimddp"]


def test_threads_of_one_core_are_one_core(tmp_path: Path) -> None:
    folder = "sys__devices__system__cpu"
    files = {f"{folder}__online": "0-3", "proc__cpuinfo": "processor : 0\nmodel name : X\n"}
    for number in range(4):
        files[f"{folder}__cpu{number}__topology__core_id"] = str(number // 2)
        files[f"{folder}__cpu{number}__topology__physical_package_id"] = "0"
    found = cpu.read(tree(tmp_path, **files))
    assert (found.threads, found.cores) == (4, 2)
