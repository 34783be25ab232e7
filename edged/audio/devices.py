"""Microphones by an identity that survives replugging, renumbering and reboots.

    python -m edged.audio.devices        the inputs as JSON

PortAudio numbers devices anew whenever one comes or goes, and freezes its list when it starts.
So edged never keeps an index: it remembers what the device is (USB ids with serial number or port,
ALSA's card id, or the name of a sound server's source) and looks again. The same hardware has the
same identity behind a sound server and without one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from edged.audio.sound_server import ServerSource, SoundServer, View
from edged.errors import DeviceError, MissingLibraryError

AUTO = "auto"
ANSWER_SECONDS = 2.0
"""Longest wait for a sound server"""
_HARDWARE = re.compile(r"\(hw:(\d+),(\d+)\)")


class InputDevice(msgspec.Struct, frozen=True):
    """One audio input."""

    identity: str
    """Stable: usb:VENDOR:PRODUCT:SERIAL-OR-PORT,DEVICE, alsa:CARD,DEVICE, pulse:SOURCE or
    name:NAME"""
    label: str
    index: int | None
    """PortAudio's, valid only in the process that asked; None for a sound server's source"""
    channels: int
    rate: int
    """Hertz, what it prefers"""
    default: bool
    source: ServerSource | None = None
    """The sound server's, where it is one"""
    port: str | None = None
    """The USB port it is plugged into: 3-1.4"""

    @property
    def names(self) -> set[str]:
        """What it may be asked for by."""
        exact = {f"{self.identity}@{self.port}"} if self.port else set()
        return exact | {self.identity, self.label}


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
    """The inputs there are now, the default one first. Raises MissingLibraryError, and DeviceError
    when the sound server does not answer."""
    view = SoundServer().wait(ANSWER_SECONDS)
    if view is None:
        raise DeviceError("The sound server does not answer", code="sound_server_hung")
    offered = server_inputs(view, root)
    known = {device.identity for device in offered}
    try:
        others = [one for one in portaudio_inputs(root) if one.identity not in known]
    except MissingLibraryError:
        if not offered:
            raise
        others = []
    if offered:  # then the default is the sound server's
        others = [msgspec.structs.replace(one, default=False) for one in others]
    return [*offered, *others]


def server_inputs(view: View, root: Path = Path("/")) -> list[InputDevice]:
    """What a sound server offers, its default first."""
    inputs = []
    for source in view.sources:
        card = source.hardware[0] if source.hardware else None
        inputs.append(
            InputDevice(
                identity=_source_identity(source, root),
                label=source.label,
                index=None,
                channels=len(source.channels),
                rate=source.rate,
                default=source.name == view.default,
                source=source,
                port=_usb_port(card, root),
            )
        )
    return _default_first(inputs)


def _source_identity(source: ServerSource, root: Path) -> str:
    if source.hardware:
        card, device = source.hardware
        if identity := _card_identity(card, device, root):
            return identity
    return f"pulse:{source.name}"


def portaudio_inputs(root: Path = Path("/")) -> list[InputDevice]:
    """What PortAudio sees now, its default first. No stream of it may be open. Raises
    MissingLibraryError."""
    sd = portaudio()
    sd._terminate()  # its list is as old as its start
    sd._initialize()
    default = sd.default.device[0]
    inputs = [
        InputDevice(
            identity=identity_of(str(entry["name"]), root),
            label=str(entry["name"]),
            index=index,
            channels=int(entry["max_input_channels"]),
            rate=round(entry["default_samplerate"]),
            default=index == default,
            port=_usb_port(_card_of(str(entry["name"])), root),
        )
        for index, entry in enumerate(sd.query_devices())
        if entry["max_input_channels"] > 0
    ]
    return _default_first(inputs)


def _default_first(inputs: Iterable[InputDevice]) -> list[InputDevice]:
    return sorted(inputs, key=lambda device: not device.default)


def find_input(wanted: str, inputs: list[InputDevice]) -> InputDevice:
    """The input that is asked for, by identity or label; never another one.

    `auto` is the default one. Raises DeviceError with the identities there are.
    """
    if wanted == AUTO:
        if inputs:
            return inputs[0]
        raise DeviceError("There is no microphone", code="no_microphone")
    found = [device for device in inputs if wanted in device.names]
    if len(found) > 1:
        exact = ", ".join(f"{device.identity}@{device.port}" for device in found)
        raise DeviceError(
            f"There are {len(found)} microphones {wanted}; name one by its port: {exact}",
            code="ambiguous_microphone",
        )
    if found:
        return found[0]
    known = ", ".join(device.identity for device in inputs) or "none"
    raise DeviceError(f"Microphone {wanted} is not there; there is: {known}", code="no_microphone")


def identity_of(name: str, root: Path = Path("/")) -> str:
    """The stable identity of a PortAudio device name."""
    match = _HARDWARE.search(name)
    identity = _card_identity(int(match[1]), int(match[2]), root) if match else None
    return identity or f"name:{name}"


def _card_identity(card: int, device: int, root: Path) -> str | None:
    """What a device of ALSA is known by; None if there is no such card."""
    if usb := _usb_identity(root / f"sys/class/sound/card{card}/device"):
        return f"{usb},{device}"
    identifier = _text(root / f"proc/asound/card{card}/id")
    return f"alsa:{identifier},{device}" if identifier else None


def _card_of(name: str) -> int | None:
    match = _HARDWARE.search(name)
    return int(match[1]) if match else None


def _usb_port(card: int | None, root: Path) -> str | None:
    folder = None if card is None else _usb_folder(root / f"sys/class/sound/card{card}/device")
    return folder.name if folder else None


def _usb_identity(link: Path) -> str | None:
    """usb:VENDOR:PRODUCT:SERIAL, with the port's path where there is no serial number."""
    folder = _usb_folder(link)
    if folder is None:
        return None
    vendor, product = _text(folder / "idVendor"), _text(folder / "idProduct")
    return f"usb:{vendor}:{product}:{_text(folder / 'serial') or folder.name}"


def _usb_folder(link: Path) -> Path | None:
    """The USB device that a sound card is a function of."""
    interface = link.resolve()
    for folder in (interface, *interface.parents):
        if _text(folder / "idVendor") and _text(folder / "idProduct"):
            return folder
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def main() -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(list_inputs()))
    except (DeviceError, MissingLibraryError) as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
