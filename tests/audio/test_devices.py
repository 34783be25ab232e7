"""Microphones are known by what they are, not by their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.audio.devices import InputDevice, find_input, identity_of, server_inputs
from edged.audio.sound_server import ServerSource, View
from edged.errors import DeviceError


class Machine:
    """A /sys and /proc with sound cards."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def card(self, number: int, identifier: str, device: str) -> None:
        """A card, and the folder under /sys/devices that it is a function of."""
        folder = self.root / "sys/devices" / device
        folder.mkdir(parents=True, exist_ok=True)
        link = self.root / f"sys/class/sound/card{number}"
        link.mkdir(parents=True)
        (link / "device").symlink_to(folder)
        proc = self.root / f"proc/asound/card{number}"
        proc.mkdir(parents=True)
        (proc / "id").write_text(f"{identifier}\n")

    def usb(self, folder: str, vendor: str, product: str, serial: str | None = None) -> None:
        path = self.root / "sys/devices" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "idVendor").write_text(f"{vendor}\n")
        (path / "idProduct").write_text(f"{product}\n")
        if serial is not None:
            (path / "serial").write_text(f"{serial}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_usb_microphone_is_known_by_its_serial_number(machine: Machine) -> None:
    machine.usb("pci0/usb1/1-2", "046d", "0825", "A1B2C3")
    machine.card(1, "Webcam", "pci0/usb1/1-2/1-2:1.2")
    assert identity_of("Webcam: USB Audio (hw:1,0)", machine.root) == "usb:046d:0825:A1B2C3,0"


def test_it_stays_the_same_on_another_port_with_another_number(machine: Machine) -> None:
    machine.usb("pci0/usb1/1-2", "046d", "0825", "A1B2C3")
    machine.card(1, "Webcam", "pci0/usb1/1-2/1-2:1.2")
    machine.usb("pci0/usb3/3-1/3-1.4", "046d", "0825", "A1B2C3")
    machine.card(7, "Webcam_1", "pci0/usb3/3-1/3-1.4/3-1.4:1.2")
    one = identity_of("Webcam: USB Audio (hw:1,0)", machine.root)
    assert identity_of("Webcam: USB Audio (hw:7,0)", machine.root) == one


def test_without_a_serial_number_the_port_tells_two_alike_apart(machine: Machine) -> None:
    for card, port in ((1, "1-2"), (2, "1-3")):
        machine.usb(f"pci0/usb1/{port}", "0d8c", "0014")
        machine.card(card, f"Device_{card}", f"pci0/usb1/{port}/{port}:1.0")
    assert identity_of("USB (hw:1,0)", machine.root) == "usb:0d8c:0014:1-2,0"
    assert identity_of("USB (hw:2,0)", machine.root) == "usb:0d8c:0014:1-3,0"


def test_an_empty_serial_number_is_none(machine: Machine) -> None:
    machine.usb("pci0/usb1/1-2", "0d8c", "0014", "")
    machine.card(1, "Device", "pci0/usb1/1-2/1-2:1.0")
    assert identity_of("USB (hw:1,0)", machine.root) == "usb:0d8c:0014:1-2,0"


def test_a_card_on_the_board_is_known_by_its_alsa_name(machine: Machine) -> None:
    machine.card(0, "PCH", "pci0/0000:00:1f.3")
    assert identity_of("HDA Intel PCH: ALC257 Analog (hw:0,0)", machine.root) == "alsa:PCH,0"


def test_the_inputs_of_one_card_differ(machine: Machine) -> None:
    machine.card(0, "PCH", "pci0/0000:00:1f.3")
    assert identity_of("Digital Mic (hw:0,6)", machine.root) == "alsa:PCH,6"


@pytest.mark.parametrize("name", ["pulse", "default", "Mic (hw:9,0)", "hw:0,0", ""])
def test_everything_else_is_known_by_its_name(machine: Machine, name: str) -> None:
    machine.card(0, "PCH", "pci0/0000:00:1f.3")
    assert identity_of(name, machine.root) == f"name:{name}"


def device(identity: str, label: str, default: bool = False) -> InputDevice:
    return InputDevice(identity, label, 0, 1, 48000, default)


HEADSET = device("usb:046d:0825:A1B2C3,0", "Headset (hw:1,0)")
BOARD = device("alsa:PCH,0", "PCH (hw:0,0)", default=True)


def test_auto_takes_the_first() -> None:
    assert find_input("auto", [BOARD, HEADSET]) is BOARD


def test_a_microphone_is_found_by_identity_or_label() -> None:
    assert find_input("usb:046d:0825:A1B2C3,0", [BOARD, HEADSET]) is HEADSET
    assert find_input("Headset (hw:1,0)", [BOARD, HEADSET]) is HEADSET


def test_another_one_is_never_taken_instead() -> None:
    with pytest.raises(DeviceError, match="alsa:PCH,0") as raised:
        find_input("usb:046d:0825:A1B2C3,0", [BOARD])
    assert raised.value.code == "no_microphone"


def test_no_microphone_at_all_is_said_plainly() -> None:
    for wanted in ("auto", "alsa:PCH,0"):
        with pytest.raises(DeviceError) as raised:
            find_input(wanted, [])
        assert raised.value.code == "no_microphone"


def test_two_of_the_same_serial_number_are_told_apart_by_their_port(machine: Machine) -> None:
    for card, port in ((1, "1-2"), (2, "1-3")):
        machine.usb(f"pci0/usb1/{port}", "0d8c", "0014", "000000000000")
        machine.card(card, f"Device_{card}", f"pci0/usb1/{port}/{port}:1.0")
    view = View(True, (source("one", (1, 0)), source("two", (2, 0))), "two")
    inputs = server_inputs(view, machine.root)
    with pytest.raises(DeviceError, match="@1-2") as raised:
        find_input("usb:0d8c:0014:000000000000,0", inputs)
    assert raised.value.code == "ambiguous_microphone"
    found = find_input("usb:0d8c:0014:000000000000,0@1-2", inputs)
    assert found.source
    assert found.source.name == "one"


def source(name: str, hardware: tuple[int, int] | None = None) -> ServerSource:
    return ServerSource(name, f"The {name}", 48000, ("mono",), False, hardware)


def test_a_microphone_is_the_same_behind_a_sound_server(machine: Machine) -> None:
    machine.usb("pci0/usb1/1-2", "046d", "0825", "A1B2C3")
    machine.card(1, "Webcam", "pci0/usb1/1-2/1-2:1.2")
    view = View(True, (source("loop"), source("webcam", (1, 0))), "webcam")
    webcam, loop = server_inputs(view, machine.root)
    assert webcam.identity == identity_of("Webcam: USB Audio (hw:1,0)", machine.root)
    assert (webcam.default, webcam.port) == (True, "1-2")
    assert (loop.identity, loop.default, loop.port) == ("pulse:loop", False, None)


def test_a_source_whose_card_is_not_here_is_known_by_its_name(machine: Machine) -> None:
    view = View(True, (source("far", (3, 0)),), None)
    assert [found.identity for found in server_inputs(view, machine.root)] == ["pulse:far"]
