"""Listens to the microphone for some seconds and measures what comes.

python -m edged.doctor.ear SOURCE SECONDS   what was heard, as JSON on stdout
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from edged.audio.devices import AUTO, InputDevice, find_input, portaudio, server_inputs
from edged.audio.devices import portaudio_inputs as other_inputs
from edged.audio.pulse import Recorder
from edged.audio.sound_server import ServerSource, SoundServer, View
from edged.errors import DeviceError, EdgedError
from edged.parent import answer_only

FRAME_SECONDS = 0.02
SERVER_SECONDS = 2.0
"""A sound server that takes longer hangs"""
MOST_CHANNELS = 32
FULL_SCALE = 0.99
"""Amplitude that is taken for cut off"""
RUN = 3
"""Samples at full scale in a row that are no coincidence"""
SILENCE = -120.0
"""dBFS, of digital silence"""


class Channel(msgspec.Struct, frozen=True):
    """One channel's sound."""

    mean: float
    """What it is off zero, of full scale"""
    peak: float
    clipped: float
    """Share of samples that were cut off"""
    floor: float
    """Level of its quietest parts, dBFS"""
    loud: float
    """Level of its loudest, dBFS"""

    @property
    def zeros(self) -> bool:
        return self.peak == 0.0


class Heard(msgspec.Struct, frozen=True):
    """What came of listening."""

    reachable: bool
    """Whether there is a sound server"""
    error: tuple[str, str] | None = None
    """Code and message of why nothing could be heard"""
    identity: str = ""
    label: str = ""
    rate: int = 0
    """Hertz"""
    name: str | None = None
    """The sound server's name of it"""
    muted: bool = False
    """In the sound server"""
    frames: int = 0
    seconds: float = 0.0
    """In which they came"""
    channels: list[Channel] = []


def listen(source: str, seconds: float) -> Heard:
    """To one microphone, all its channels, at its own rate."""
    view = SoundServer().wait(SERVER_SECONDS)
    if view is None:
        problem = ("sound_server_hung", "the sound server does not answer")
        return Heard(True, problem)
    try:
        device = _find(source, view)
        samples, elapsed = _record(device, seconds)
    except EdgedError as error:
        return Heard(view.reachable, (error.code, error.message))
    own = device.source
    return Heard(
        reachable=view.reachable,
        identity=device.identity,
        label=device.label,
        rate=device.rate,
        name=own.name if own else None,
        muted=bool(own and own.muted),
        frames=len(samples),
        seconds=elapsed,
        channels=[_measure(channel, device.rate) for channel in samples.T],
    )


def _find(source: str, view: View) -> InputDevice:
    offered = server_inputs(view)
    try:
        return find_input(source, offered)
    except DeviceError:
        # PortAudio's names for a sound server are no microphones of their own.
        others = [one for one in other_inputs() if not one.identity.startswith("name:")]
        return find_input(source, [*offered, *(others if source == AUTO else other_inputs())])


# -- recording ------------------------------------------------------------------------------------


def _record(device: InputDevice, seconds: float) -> tuple[np.ndarray, float]:
    """float32 samples by channel, and the seconds in which all but the first block came."""
    if device.source:
        return _of_server(device.source, seconds)
    return _of_portaudio(device, seconds)


def _of_server(source: ServerSource, seconds: float) -> tuple[np.ndarray, float]:
    frames = round(source.rate * FRAME_SECONDS)
    recorder = Recorder(source.name, source.rate, source.channels, frames)
    return _collect(recorder.read, len(source.channels), seconds)


def _of_portaudio(device: InputDevice, seconds: float) -> tuple[np.ndarray, float]:
    sd = portaudio()
    channels = min(device.channels, MOST_CHANNELS)
    frames = round(device.rate * FRAME_SECONDS)
    try:
        stream = sd.RawInputStream(
            device=device.index,
            samplerate=device.rate,
            channels=channels,
            dtype="float32",
            blocksize=frames,
        )
        stream.start()
    except sd.PortAudioError as error:
        message = f"{device.label} cannot be opened: {error}"
        raise DeviceError(message, code="device_busy") from error
    return _collect(lambda: stream.read(frames)[0], channels, seconds)


def _collect(read: Callable[[], Any], channels: int, seconds: float) -> tuple[np.ndarray, float]:
    """Blocks for so many seconds, or until there are no more."""
    first = read()
    blocks = [] if first is None else [_block(first, channels)]
    started = time.monotonic()
    while blocks and time.monotonic() - started < seconds:
        block = read()
        if block is None:
            break
        blocks.append(_block(block, channels))
    elapsed = time.monotonic() - started
    return np.concatenate([np.zeros((0, channels), np.float32), *blocks]), elapsed


def _block(data: Any, channels: int) -> np.ndarray:
    return np.frombuffer(bytes(data), np.float32).reshape(-1, channels)


# -- measuring ------------------------------------------------------------------------------------


def _measure(samples: np.ndarray, rate: int) -> Channel:
    if not len(samples):
        return Channel(0.0, 0.0, 0.0, SILENCE, SILENCE)
    levels = _levels(samples - samples.mean(), round(rate * FRAME_SECONDS))
    return Channel(
        mean=float(samples.mean()),
        peak=float(np.abs(samples).max()),
        clipped=_clipped(samples),
        floor=float(np.percentile(levels, 2)),
        loud=float(np.percentile(levels, 95)),
    )


def _levels(samples: np.ndarray, frame: int) -> np.ndarray:
    """dBFS of each frame; a sine of full scale has -3."""
    whole = len(samples) // frame * frame
    frames = samples[:whole].reshape(-1, frame) if whole else samples.reshape(1, -1)
    power = (frames.astype(np.float64) ** 2).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (SILENCE / 10))))


def _clipped(samples: np.ndarray) -> float:
    """Share of samples that lie in runs at full scale."""
    full = np.abs(samples) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], full.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= RUN].sum() / len(samples))


def main() -> None:
    out = answer_only()
    source, seconds = sys.argv[1:]
    heard = listen(source, float(seconds))
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(heard))


if __name__ == "__main__":
    main()
