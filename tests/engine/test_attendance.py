"""A stick that is pulled out and put in again, with the kernel's own announcements."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.engine.attendance import NONE, Attendance
from edged.engine.patrol import Patrol
from edged.engine.supervisor import Supervisor
from edged.hardware.root import Root
from edged.hardware.uevents import Uevents, action
from edged.messages import Rung, WorkerOptions
from edged.profiles import GovernorProfile
from tests.conftest import ROOT

MACHINES = ROOT / "tests" / "hardware" / "machines"
ANNOUNCER = Path("/sys/devices/virtual/mem/null/uevent")
"""Writing an action's name here makes the kernel announce it of /dev/null, which stays"""


def announce(what: str) -> None:
    try:
        ANNOUNCER.write_text(what)
    except OSError as error:
        pytest.skip(f"the kernel cannot be asked to announce a device: {error}")
    time.sleep(0.05)


@pytest.fixture
def uevents() -> Iterator[Uevents]:
    made = Uevents()
    yield made
    made.close()


def test_the_kernel_is_heard_and_only_devices_count(uevents: Uevents) -> None:
    assert not uevents.heard()
    announce("remove")
    assert uevents.heard()
    assert not uevents.heard()
    announce("change")
    assert not uevents.heard()
    assert action(b"add@/devices/pci0000:00\0ACTION=add\0") == "add"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A recorded machine with a Movidius stick; returns the stick's folder in it."""
    machine = MACHINES / "neural-compute-stick-2"
    shutil.copytree(machine, tmp_path / "machine", symlinks=True)
    usb = tmp_path / "machine" / "sys" / "bus" / "usb" / "devices"
    return next(p.parent for p in usb.glob("*/idVendor") if p.read_text().strip() == "03e7")


def pull(stick: Path) -> None:
    stick.rename(stick.parents[4] / "pulled")


def put(stick: Path) -> None:
    (stick.parents[4] / "pulled").rename(stick)


def test_a_stick_is_missed_after_two_looks_and_welcomed_again(stick: Path) -> None:
    attendance = Attendance(Root(stick.parents[4]))
    assert attendance.look() == NONE
    pull(stick)
    assert attendance.look() == NONE  # nobody told
    announce("remove")
    assert attendance.look() == NONE  # it may only be booting
    assert attendance.look().gone == {"movidius myriad", "movidius mixed"}
    assert attendance.look() == NONE
    put(stick)
    announce("add")
    attendance.look()
    assert attendance.look().came == {"movidius myriad", "movidius mixed"}
    attendance.close()


def test_a_stick_that_boots_is_not_missed(stick: Path) -> None:
    attendance = Attendance(Root(stick.parents[4]))
    pull(stick)
    announce("remove")
    assert attendance.look() == NONE
    put(stick)
    announce("add")
    assert [attendance.look() for _ in range(3)] == [NONE] * 3
    attendance.close()


def test_its_rungs_wait_for_it(stick: Path) -> None:
    rungs = [Rung("m", "movidius", "myriad", "fp16"), Rung("m", "onnxruntime", "cpu", "int8")]
    supervisor = Supervisor(rungs, Path, WorkerOptions())
    patrol = Patrol(supervisor, GovernorProfile(), Root(stick.parents[4]))
    pull(stick)
    announce("remove")
    patrol.look(0.0)
    patrol.look(2.0)
    patrol.close()
    assert [step.absent for step in supervisor.ladder.steps] == [True, False, False]
