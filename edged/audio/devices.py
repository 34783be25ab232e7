"""Microphones by an identity that survives replugging, renumbering and reboots.

    python -m edged.audio.devices        the inputs as JSON

PortAudio numbers devices anew whenever one comes or goes, and freezes its list when it starts.
So edged never keeps an index: it remembers what the device is (USB ids with serial number or port,
ALSA's card id, or the name of a sound server's source) and looks in a fresh process.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from edged.errors import DeviceError, MissingLibraryError

AUTO = "auto"
_HARDWARE = re.compile(r"\(hw:(\d+),(\d+)\)")


class InputDevice(msgspec.Struct, frozen=True):
    """One audio input."""

    identity: str
    """Stable: usb:VENDOR:PRODUCT:SERIAL-OR-PORT, alsa:CARD,DEVICE or name:NAME"""
    label: str
    index: int
    """PortAudio's, valid only in the process that asked"""
    channels: int
    rate: int
    """Hertz, what it prefers"""
    default: bool


def portaudio() -> Any:
    """Import sounddevice; raises MissingLibraryError when PortAudio is not installed."""
    try:
        import sounddevice
    except OSError as error:
        raise MissingLibraryError(
            "PortAudio is not installed, so there is no microphone. "
            "Run: sudo apt-get install libportaudio2"
        ) from error
    return sounddevice


def list_inputs(root: Path = Path("/")) -> list[InputDevice]:
    """The inputs that PortAudio sees now, the default one first."""
    sd = portaudio()
    default = sd.default.device[0]
    inputs = [
        InputDevice(
            identity=identity_of(str(entry["name"]), root),
            label=str(entry["name"]),
            index=index,
            channels=int(entry["max_input_channels"]),
            rate=round(entry["default_samplerate"]),
            default=index == default,
        )
        for index, entry in enumerate(sd.query_devices())
        if entry["max_input_channels"] > 0
    ]
    return sorted(inputs, key=lambda device: not device.default)


def find_input(wanted: str, inputs: list[InputDevice]) -> InputDevice:
    """The input with this identity, or whose label begins so; never another one.

    Raises DeviceError with the identities there are.
    """
    if wanted == AUTO:
        if inputs:
            return inputs[0]
        raise DeviceError("There is no microphone", code="no_microphone")
    for device in inputs:
        if wanted in (device.identity, device.label):
            return device
    known = ", ".join(device.identity for device in inputs) or "none"
    raise DeviceError(f"Microphone {wanted} is not there; there is: {known}", code="no_microphone")


def identity_of(name: str, root: Path = Path("/")) -> str:
    """The stable identity of a PortAudio device name."""
    match = _HARDWARE.search(name)
    if not match:
        return f"name:{name}"
    card, device = match.groups()
    usb = _usb_identity(root / f"sys/class/sound/card{card}/device")
    if usb:
        return f"{usb},{device}"
    try:
        card_id = (root / f"proc/asound/card{card}/id").read_text().strip()
    except OSError:
        return f"name:{name}"
    return f"alsa:{card_id},{device}"


def _usb_identity(link: Path) -> str | None:
    """usb:VENDOR:PRODUCT:SERIAL, with the port's path where there is no serial number."""
    interface = link.resolve()
    for folder in (interface, *interface.parents):
        vendor, product = _text(folder / "idVendor"), _text(folder / "idProduct")
        if vendor and product:
            return f"usb:{vendor}:{product}:{_text(folder / 'serial') or folder.name}"
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def main() -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(list_inputs()))
    except MissingLibraryError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
