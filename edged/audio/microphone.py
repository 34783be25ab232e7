"""A microphone: looks out for it, takes it when it is there, and notices when it is not any more.

It is a sound server's source, or a device that PortAudio offers. Neither says so when it is gone:
streams stall, or are moved to another microphone. So everything is compared with what it should be,
ten times a second. What is lost ends this process; a new one looks out for the same microphone.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

from edged.audio.clock import Sleep, SoundClock
from edged.audio.devices import (
    AUTO,
    InputDevice,
    find_input,
    portaudio,
    portaudio_inputs,
    server_inputs,
)
from edged.audio.pulse import Recorder
from edged.audio.ring import SAMPLE_RATE
from edged.audio.sound_server import ServerSource, SoundServer, View
from edged.audio.sources import BLOCK_SECONDS, Source
from edged.errors import DeviceError, EdgedError, MissingLibraryError
from edged.messages import Gone, Opened, Waiting

STALL_CHECKS = 5
"""Of ten a second without a block, after which the device is lost: nobody says so. They are
counted, so that a halt of this very process is not taken for one of the device"""
PATIENCE_SECONDS = 5.0
"""Longest wait for the first block of a device"""
CHECK_SECONDS = 0.1
"""Most sound servers have answered after a fifth of that"""
ANSWER_SECONDS = 2.0
"""Silence of the sound server that is worth a word"""
QUIET_SECONDS = 4 * BLOCK_SECONDS
"""Audio that a sound server gathers while nobody speaks"""
CLAIM_SECONDS = 1.0
"""Time that a sound server has to take a new device for itself, before we take it from ALSA"""
LOOK_SECONDS = 10.0
"""Between two looks at ALSA's devices while nothing tells of news"""
MOST_CHANNELS = 32


class Microphone(Source):
    """One microphone, or `auto`."""

    def start(self) -> None:
        self._server = SoundServer()
        self._sleep = Sleep()
        self._began = self._next_look = time.monotonic()
        self._seen: object = None
        """What was there when it was last looked for"""
        self._said: Waiting | None = None
        self._device: InputDevice | None = None
        """What is taken"""
        self._feeding: str | None = None
        """The sound server's source that it is heard from, as far as that is known"""
        self._clock: SoundClock | None = None
        self._blocks = self._quiet = 0
        self._server.wait(CHECK_SECONDS)

    def check(self) -> None:
        if slept := self._sleep.seconds():
            self.done = Gone("device_lost", f"the machine has slept for {slept:.0f} s")
        elif self._device is None:
            self._seek()
        else:
            self._watch(self._device)

    def _wait(self, code: str, message: str) -> None:
        news = Waiting(code, message)
        if news != self._said:
            self._said = news
            self.output.send(news)

    # -- looking out ------------------------------------------------------------------------------

    def _seek(self) -> None:
        view, now = self._server.view, time.monotonic()
        if view is None:
            if now - self._began > ANSWER_SECONDS:
                self._wait("sound_server_hung", "the sound server does not answer")
            return
        there = (view.reachable, view.sources, view.default, _devices_changed_at())
        if there != self._seen:
            self._seen = there
            may_be_claimed = view.reachable and not self.options.source.startswith("name:")
            self._next_look = now + (CLAIM_SECONDS if may_be_claimed else 0)
            with contextlib.suppress(DeviceError):
                self._take(find_input(self.options.source, server_inputs(view)))
        elif now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._seek_everywhere(view)

    def _seek_everywhere(self, view: View) -> None:
        """Among ALSA's devices too."""
        inputs, problem = server_inputs(view), None
        try:
            inputs += self._others(view, {device.identity for device in inputs})
        except MissingLibraryError as error:
            problem = error
        try:
            self._take(find_input(self.options.source, inputs))
        except DeviceError as error:
            missing = problem if problem and not inputs else error
            self._wait(missing.code, missing.message)

    def _others(self, view: View, known: set[str]) -> list[InputDevice]:
        """What PortAudio has beside the sound server. `auto` is no name: what ALSA calls so may be
        the sound server again, which has told what it has."""
        named = view.reachable and self.options.source == AUTO
        return [
            device
            for device in portaudio_inputs()
            if device.identity not in known and not (named and device.identity.startswith("name:"))
        ]

    def _take(self, device: InputDevice) -> None:
        self._device, self._taken_at = device, time.monotonic()
        if device.source:
            threading.Thread(target=self._record, args=(device.source,), daemon=True).start()
            return
        try:
            self._open(device)
        except EdgedError as error:
            self.done = Gone(error.code, error.message)

    # -- a sound server's source ------------------------------------------------------------------

    def _record(self, source: ServerSource) -> None:
        """Hand on what it delivers, until it is over; in a thread, which may hang."""
        try:
            rate, channels = self._layout(source)
            near, far = round(rate * BLOCK_SECONDS), round(rate * QUIET_SECONDS)
            recorder = Recorder(source.name, rate, channels, near)
            self._feeding = source.name
            while block := recorder.read():
                self._hear(block, len(block) // recorder.frame_bytes)
                recorder.frames = near if self.output.closely else far
            self.done = Gone("device_lost", "the sound server ended the stream")
        except EdgedError as error:
            self.done = Gone(error.code, error.message)
        except OSError:  # the daemon is gone
            return

    def _layout(self, source: ServerSource) -> tuple[int, tuple[str, ...]]:
        """Of a chosen channel, all channels as they come; else what the server mixes of them. At
        the source's own rate: servers resample quickly, not well."""
        channels = ("mono",) if self.options.channel is None else source.channels
        self._mix(source.rate, len(channels))
        return source.rate, channels

    # -- a device of PortAudio's ------------------------------------------------------------------

    def _open(self, device: InputDevice) -> None:
        sd = portaudio()
        rate, channels = self._accepted(sd, device)
        self._mix(rate, channels)
        try:
            self._stream = sd.RawInputStream(
                device=device.index,
                samplerate=rate,
                channels=channels,
                dtype="float32",
                blocksize=round(rate * BLOCK_SECONDS),
                latency="low",
                callback=self._called,
                finished_callback=self._finished,
            )
            self._stream.start()
        except sd.PortAudioError as error:
            raise DeviceError(
                f"{device.label} cannot be opened: {error}", code="device_busy"
            ) from error

    def _accepted(self, sd: Any, device: InputDevice) -> tuple[int, int]:
        """Rate and channels to open it with: ours if it takes them, else its own."""
        if self.options.channel is None:
            with contextlib.suppress(sd.PortAudioError):
                sd.check_input_settings(device.index, 1, "float32", None, SAMPLE_RATE)
                return SAMPLE_RATE, 1
        return device.rate, min(device.channels, MOST_CHANNELS)

    def _called(self, block: Any, frames: int, when: Any, status: Any) -> None:
        self._hear(block, frames)

    def _finished(self) -> None:
        self.done = Gone("device_lost", "the sound system ended the stream")

    # -- what is heard ----------------------------------------------------------------------------

    def _mix(self, rate: int, channels: int) -> None:
        """Get ready for blocks of so many channels at so many hertz."""
        self._rate, self._channels = rate, channels
        self._clock = SoundClock(rate)
        self._mixer = None
        if (rate, channels) != (SAMPLE_RATE, 1) or self.options.channel:
            from edged.audio.pcm import Mixer

            self._mixer = Mixer(rate, channels, self.options.channel)

    def _hear(self, block: Any, frames: int) -> None:
        assert self._clock
        ended = self._clock.take(frames, time.monotonic())
        if not self.output.blocks:
            self._opened()
        self.output.write(self._mixed(block) if self._mixer else block, ended)

    def _opened(self) -> None:
        device = self._device
        assert device
        self.output.send(Opened(device.identity, device.label, self._rate, self._channels))

    def _mixed(self, block: Any) -> Any:
        import numpy as np

        assert self._mixer
        samples = np.frombuffer(block, np.float32).reshape(-1, self._channels)
        return self._mixer.feed(samples)

    @property
    def drift(self) -> float | None:
        return self._clock.drift if self._clock else None

    @property
    def problem(self) -> str | None:
        device, view = self._device, self._server.view
        if device is None or not self.output.only_zeros:
            return None
        source = view.source(device.source.name) if view and device.source else None
        if source and source.muted:
            return (
                f"{device.label} is muted in the sound server. "
                f"Run: pactl set-source-mute {source.name} 0"
            )
        return f"{device.label} delivers nothing but zeros: it is muted, or no microphone"

    # -- watching ---------------------------------------------------------------------------------

    def _watch(self, device: InputDevice) -> None:
        if view := self._server.view:
            self._compare(device, view)
        if self.output.blocks != self._blocks:
            self._blocks, self._quiet = self.output.blocks, 0
            return
        self._quiet += 1
        if self._blocks and self._quiet >= STALL_CHECKS:
            self._lose("it delivers nothing any more")
        elif not self._blocks:
            self._await_first(device)

    def _await_first(self, device: InputDevice) -> None:
        """A suspended source of a server goes on by itself; ALSA's devices do not."""
        waited = time.monotonic() - self._taken_at
        if not device.source and waited > PATIENCE_SECONDS:
            self._lose("it delivers nothing")
        elif waited > ANSWER_SECONDS:
            self._wait("device_silent", f"{device.label} is there, but delivers nothing yet")

    def _compare(self, device: InputDevice, view: View) -> None:
        """What the sound server says with what should be."""
        source = device.source
        if source and self._is_replaced(source, view):
            self.done = Gone("default_changed", f"the default microphone is {view.default} now")
        elif source and view.reachable and view.source(source.name) is None:
            self._lose("it is not there any more")
        elif self._feeding and view.feeding and view.feeding != self._feeding:
            self._lose(f"the sound server gives us {view.feeding} in its place")
        elif not source:
            self._feeding = self._feeding or view.feeding

    def _is_replaced(self, source: ServerSource, view: View) -> bool:
        """Whether `auto` is another microphone by now."""
        if self.options.source != AUTO or view.default is None:
            return False
        return view.default != source.name and view.source(view.default) is not None

    def _lose(self, reason: str) -> None:
        label = self._device.label if self._device else self.options.source
        self.done = Gone("device_lost", f"{label}: {reason}")


def _devices_changed_at() -> int:
    """When a sound card last came or went; nanoseconds, 0 where there never was one."""
    try:
        return os.stat("/dev/snd").st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0
