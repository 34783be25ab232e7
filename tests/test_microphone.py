"""A virtual microphone of a real sound server, through real PortAudio."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from edged import paths
from tests.audio.sound_server import PipeWire, SoundServer, open_server
from tests.client import silence
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Start = Callable[..., DaemonProcess]


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    if PipeWire.missing() and (reason := SoundServer.missing()):
        pytest.skip(reason)
    monkeypatch.setenv("EDGED_CACHE_DIR", str(paths.cache_directory()))
    server = open_server(tmp_path / "sound")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


@pytest.fixture
def sentence(tmp_path: Path, speech: np.ndarray) -> Path:
    """The recording's first sentence, with silence around it."""
    path = tmp_path / "sentence.wav"
    samples = np.concatenate([silence(0.5), speech[: 5 * 16000], silence(1)])
    soundfile.write(path, samples, 16000)
    return path


class Follower:
    """Collects the microphone's events in the background."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.events: list[dict[str, Any]] = []
        self._daemon = daemon
        address = daemon.ws("/v1/transcripts")
        threading.Thread(target=self._read, args=(address,), daemon=True).start()
        daemon.wait(lambda: self.of("hello"))

    def _read(self, address: str) -> None:
        with contextlib.suppress(ConnectionClosed), connect(address) as websocket:
            for message in websocket:
                self.events.append(json.loads(message) | {"at": time.monotonic()})

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def text(self) -> str:
        return " ".join(event["text"] for event in self.of("final"))

    def changes(self) -> list[dict[str, Any]]:
        return self.of("microphone")

    def after(self, count: int, state: str, seconds: float = 10) -> dict[str, Any]:
        """The first change to a state after so many changes."""

        def found() -> dict[str, Any] | None:
            return next((e for e in self.changes()[count:] if e["state"] == state), None)

        change: dict[str, Any] = self._daemon.wait(found, seconds)
        return change

    def gap(self, number: int) -> dict[str, Any]:
        """One gap of all; there are no more than it and those before."""
        self._daemon.wait(lambda: len(self.of("gap")) > number, 5)
        [gap] = self.of("gap")[number:]
        return gap


def microphone(daemon: DaemonProcess) -> dict[str, Any]:
    found: dict[str, Any] = daemon.get("/v1/health")[1]["microphone"]
    return found


def state(daemon: DaemonProcess) -> str:
    return str(microphone(daemon)["state"])


def capture(daemon: DaemonProcess) -> psutil.Process:
    found: psutil.Process = daemon.wait(lambda: daemon.child("edged.audio.capture"))
    return found


def listening(start_daemon: Start, *flags: str, **settings: object) -> DaemonProcess:
    """A daemon that hears its microphone."""
    daemon = start_daemon("--model", TINY, *flags, **settings)
    daemon.wait(lambda: state(daemon) == "listening")
    return daemon


# -- hearing --------------------------------------------------------------------------------------


def test_what_is_spoken_into_the_microphone_is_written(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "worst of times" in follower.text(), 15)
    assert "best of times" in follower.text()
    final = follower.of("final")[0]
    assert 0 < final["latency"]["endpoint"] < 1
    assert follower.of("partial")


def test_what_alsa_calls_a_microphone_is_heard_through_portaudio(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    """It comes and goes as well, and another is not taken in its place."""
    handle = sound.plug()
    daemon = listening(start_daemon, "--source", "name:pulse")
    follower = Follower(daemon)
    silent = ring(daemon)
    sound.play(sentence)
    daemon.wait(lambda: ring(daemon) != silent, 5)
    sound.unplug(handle)
    assert follower.after(0, "waiting")["code"] == "device_lost"
    sound.plug(rate=48000, channels=2)
    follower.after(0, "listening")
    changes = len(follower.changes())
    sound.plug("other")  # which some servers move to at once
    sound.move("other")
    assert follower.after(changes, "waiting")["reason"].endswith("other.monitor in its place")


ARRAY = "aux0,aux1,aux2,aux3,aux4,aux5"


def test_one_channel_of_an_array_is_heard_at_its_own_rate(
    sound: SoundServer, start_daemon: Start, sentence: Path, tmp_path: Path
) -> None:
    """ALSA's plugin for PulseAudio gives silence for channels of such names."""
    spoken = soundfile.read(sentence, dtype="float32")[0]
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (len(spoken), 6)).astype(np.float32)
    noise[:, 3] = spoken
    soundfile.write(tmp_path / "array.wav", noise, 16000)
    sound.plug("array", rate=44100, channels=6, layout=ARRAY)
    daemon = listening(start_daemon, microphone_channel=3)
    found = microphone(daemon)
    assert (found["identity"], found["rate"], found["channels"]) == (
        "pulse:array.monitor",
        44100,
        6,
    )
    follower = Follower(daemon)
    sound.play(tmp_path / "array.wav", "array", ARRAY).wait(30)
    daemon.wait(lambda: "best of times" in follower.text(), 15)


def test_a_channel_that_the_microphone_has_not_is_said(
    sound: SoundServer, start_daemon: Start
) -> None:
    sound.plug()
    daemon = start_daemon("--model", TINY, microphone_channel=1)
    found = daemon.wait(lambda: (m := microphone(daemon))["code"] and m)
    assert (found["state"], found["code"]) == ("waiting", "bad_channels")
    assert found["reason"] == "channel 1 of 1 does not exist; count from 0"


# -- coming and going -----------------------------------------------------------------------------


def test_it_waits_for_a_microphone_and_takes_one_that_appears(
    sound: SoundServer, start_daemon: Start
) -> None:
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: microphone(daemon)["code"] == "no_microphone")
    reasons = daemon.get("/v1/health")[1]["reasons"]
    assert "microphone: There is no microphone" in reasons
    waiting = capture(daemon)
    sound.plug()
    daemon.wait(lambda: state(daemon) == "listening", 5)
    assert capture(daemon) == waiting, "it was looked out for, not tried again and again"
    devices = daemon.get("/v1/devices")[1]["devices"]
    assert devices[0]["identity"] == "pulse:vmic.monitor"
    assert [(one["default"], one["in_use"]) for one in devices] == [
        (True, True),
        *[(False, False)] * (len(devices) - 1),
    ]


RATES, CHANNELS = (48000, 44100, 16000, 8000, 96000), (2, 1, 6)


def resources(daemon: DaemonProcess) -> tuple[int, int, int, int]:
    """Descriptors, threads and resident bytes of the daemon; processes that it has, dead or not."""
    process = psutil.Process(daemon.pid)
    with process.oneshot():
        memory = process.memory_info().rss
        return process.num_fds(), process.num_threads(), memory, len(process.children())


@pytest.mark.parametrize("cycles", [5, pytest.param(100, marks=pytest.mark.long)])
def test_a_microphone_comes_and_goes(
    sound: SoundServer, start_daemon: Start, sentence: Path, cycles: int
) -> None:
    """Each time it is noticed, announced and taken again, whatever its rate is now; nothing is left
    behind."""
    handle = sound.plug()
    daemon = listening(start_daemon, "--source", "pulse:vmic.monitor")
    follower = Follower(daemon)
    noticed, taken, used = [], [], []
    for cycle in range(cycles):
        changes = len(follower.changes())
        unplugged = time.monotonic()
        sound.unplug(handle)
        noticed.append(follower.after(changes, "waiting")["at"] - unplugged)
        plugged = time.monotonic()
        handle = sound.plug(rate=RATES[cycle % 5], channels=CHANNELS[cycle % 3])
        found = follower.after(changes, "listening")
        taken.append(found["at"] - plugged)
        assert (found["identity"], found["instead_of"]) == ("pulse:vmic.monitor", None)
        gap = follower.gap(cycle)
        assert gap["reason"] == "device_lost"
        assert gap["start"] < gap["end"]
        used.append(resources(daemon))
    print(f"noticed after {max(noticed):.2f} s at most, taken again after {max(taken):.2f} s")
    print(f"first, a tenth in, last: {used[0]}, {used[cycles // 10]}, {used[-1]}")
    patience = 1 if cycles > 5 else 2  # other tests may run beside the short one
    assert max(noticed) < 1 * patience
    assert max(taken) < 2 * patience
    assert used[-1][:2] == used[0][:2], "descriptors and threads"
    assert used[-1][3] == used[0][3], "processes"
    assert used[-1][2] - used[cycles // 10][2] < 4 << 20, "memory"
    assert capture(daemon).num_fds() < 25
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "worst of times" in follower.text(), 15)
    assert follower.of("final")[-1]["start"] >= follower.of("gap")[-1]["end"]


def test_another_one_is_not_taken_in_its_place(sound: SoundServer, start_daemon: Start) -> None:
    """PulseAudio moves whoever recorded it to another microphone, without a word."""
    handle = sound.plug()
    sound.plug("other")
    daemon = listening(start_daemon, "--source", "pulse:vmic.monitor")
    follower = Follower(daemon)
    sound.unplug(handle)
    assert follower.after(0, "waiting")["code"] == "device_lost"
    found = daemon.wait(lambda: (m := microphone(daemon))["code"] == "no_microphone" and m, 5)
    assert found["reason"].startswith(
        "Microphone pulse:vmic.monitor is not there; there is: pulse:other.monitor"
    )
    changes = len(follower.changes())
    sound.plug()
    assert follower.after(changes, "listening")["identity"] == "pulse:vmic.monitor"
    changes = len(follower.changes())
    sound.move("other")
    assert follower.after(changes, "waiting")["code"] == "device_lost"
    assert follower.after(changes, "listening")["identity"] == "pulse:vmic.monitor"
    assert {change["identity"] for change in follower.changes()} == {"pulse:vmic.monitor"}


def test_auto_follows_the_default_and_says_so(sound: SoundServer, start_daemon: Start) -> None:
    sound.plug("other")
    handle = sound.plug()
    daemon = listening(start_daemon)
    assert microphone(daemon)["identity"] == "pulse:vmic.monitor"
    follower = Follower(daemon)
    sound.make_default("other")
    assert follower.after(0, "waiting")["code"] == "default_changed"
    other = follower.after(0, "listening")
    assert (other["identity"], other["instead_of"]) == ("pulse:other.monitor", "pulse:vmic.monitor")
    changes = len(follower.changes())
    sound.make_default("vmic")
    assert follower.after(changes, "listening")["instead_of"] == "pulse:other.monitor"
    changes = len(follower.changes())
    sound.unplug(handle)
    assert follower.after(changes, "waiting")
    assert follower.after(changes, "listening")["instead_of"] == "pulse:vmic.monitor"
    assert follower.gap(2)["reason"] == "device_lost"


def test_a_sound_server_that_stalls_freezes_or_dies(
    sound: SoundServer, start_daemon: Start
) -> None:
    """PortAudio and PulseAudio say nothing of the first two."""
    if isinstance(sound, PipeWire):
        pytest.skip("PipeWire suspends nothing that is recorded, and has no process to freeze")
    sound.plug()
    daemon = listening(start_daemon)
    follower = Follower(daemon)
    sound.suspend(True)
    assert follower.after(0, "waiting")["code"] == "device_lost"
    daemon.wait(lambda: microphone(daemon)["code"] == "device_silent", 5)
    waiting = capture(daemon)
    changes = len(follower.changes())
    sound.suspend(False)
    follower.after(changes, "listening")
    assert capture(daemon) == waiting
    changes = len(follower.changes())
    with sound.frozen():
        assert follower.after(changes, "waiting")["code"] == "device_lost"
        daemon.wait(lambda: microphone(daemon)["code"] == "sound_server_hung", 5)
    follower.after(changes, "listening")
    changes = len(follower.changes())
    sound.kill()
    follower.after(changes, "waiting")
    sound.start()
    sound.plug()
    follower.after(changes, "listening")
    assert follower.gap(2)["reason"] == "device_lost", (
        "what was held back is dropped, and said to be"
    )


def test_a_microphone_that_delivers_only_zeros_is_said_to(
    sound: SoundServer, start_daemon: Start
) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    found = daemon.wait(lambda: (m := microphone(daemon))["code"] and m, 6)
    assert (found["state"], found["code"]) == ("listening", "only_zeros")
    assert any("nothing but zeros" in why for why in daemon.get("/v1/health")[1]["reasons"])
    sound.mute(True)
    daemon.wait(lambda: "pactl set-source-mute vmic.monitor 0" in microphone(daemon)["reason"], 3)


# -- mute -----------------------------------------------------------------------------------------


def ring(daemon: DaemonProcess) -> bytes:
    """The memory that the capture process writes to, as anybody may read it."""
    for link in Path(f"/proc/{capture(daemon).pid}/fd").iterdir():
        if "edged-audio" in str(link.readlink()):
            return link.read_bytes()
    raise RuntimeError("there is no ring")


def mute(daemon: DaemonProcess, muted: bool) -> dict[str, Any]:
    report: dict[str, Any] = daemon.post("/v1/microphone", {"muted": muted})[1]
    return report


def assert_deaf(daemon: DaemonProcess) -> None:
    """Nothing that is spoken reaches the ring."""
    before = ring(daemon)
    time.sleep(0.5)
    assert ring(daemon) == before


def test_while_muted_nothing_reaches_the_ring(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    follower = Follower(daemon)
    sound.play(sentence)
    silent = ring(daemon)
    daemon.wait(lambda: ring(daemon) != silent)
    assert mute(daemon, True)["muted_by"] == ["order"]
    assert follower.after(0, "muted")["muted_by"] == ["order"]
    assert_deaf(daemon)
    assert mute(daemon, False)["muted"] is False
    daemon.wait(lambda: follower.of("gap"), 5)
    [gap] = follower.of("gap")
    assert gap["reason"] == "muted"
    assert gap["end"] - gap["start"] >= 0.5
    muted = ring(daemon)
    daemon.wait(lambda: ring(daemon) != muted)


def test_it_stays_muted_over_a_restart(
    sound: SoundServer, start_daemon: Start, sentence: Path, free_port: int
) -> None:
    sound.plug()
    flags = ("--model", TINY, "--port", str(free_port))
    daemon = listening(start_daemon, *flags)
    mute(daemon, True)
    daemon.stop()
    again = DaemonProcess(daemon.folder, flags, {})
    try:
        again.wait(lambda: state(again) == "muted")
        sound.play(sentence)
        assert_deaf(again)
        assert mute(again, False)["muted"] is False
    finally:
        again.stop()
    assert not (daemon.folder / "muted").exists()


def test_a_switch_mutes_whatever_is_ordered(
    sound: SoundServer, start_daemon: Start, sentence: Path, tmp_path: Path
) -> None:
    switch = tmp_path / "value"
    switch.write_text("0\n")
    sound.plug()
    daemon = listening(start_daemon, microphone_mute_file=switch)
    follower = Follower(daemon)
    sound.play(sentence)
    switch.write_text("1\n")
    assert follower.after(0, "muted")["muted_by"] == ["switch"]
    assert mute(daemon, True)["muted_by"] == ["order", "switch"]
    assert mute(daemon, False)["muted_by"] == ["switch"], "an order is not above the switch"
    assert_deaf(daemon)
    switch.write_text("0\n")
    follower.after(1, "listening")
    changes = len(follower.changes())
    switch.unlink()
    changed = follower.after(changes, "muted")
    assert changed["code"] == "mute_switch"
    assert (
        changed["reason"] == f"the mute switch {switch} cannot be read: No such file or directory"
    )
    assert_deaf(daemon)


def test_a_capture_process_that_does_not_obey_is_ended(
    sound: SoundServer, start_daemon: Start
) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    deaf = capture(daemon)
    deaf.suspend()
    began = time.monotonic()
    assert mute(daemon, True)["muted"] is True
    assert time.monotonic() - began < 2
    assert not deaf.is_running()
    daemon.wait(lambda: state(daemon) == "muted", 5)


# -- the capture process --------------------------------------------------------------------------


def test_a_killed_capture_process_is_replaced(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    follower = Follower(daemon)
    capture(daemon).kill()
    assert follower.after(0, "waiting")["code"] == "capture_died"
    follower.after(0, "listening")
    silent = ring(daemon)
    sound.play(sentence)
    daemon.wait(lambda: ring(daemon) != silent, 5)


def test_a_capture_process_that_hangs_is_replaced(sound: SoundServer, start_daemon: Start) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    hanging = capture(daemon)
    hanging.suspend()
    daemon.wait(lambda: state(daemon) == "waiting", 20)
    daemon.wait(lambda: state(daemon) == "listening", 20)
    assert not hanging.is_running()


def test_a_capture_process_that_cannot_be_started_is_tried_again(
    sound: SoundServer, start_daemon: Start
) -> None:
    sound.plug()
    daemon = listening(start_daemon)
    follower = Follower(daemon)
    process = psutil.Process(daemon.pid)
    limits = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))
    capture(daemon).kill()
    failed = daemon.wait(
        lambda: next((c for c in follower.changes() if c["code"] == "capture_failed"), None), 10
    )
    assert failed["reason"] == "the capture process cannot be started: Too many open files"
    changes = len(follower.changes())
    process.rlimit(psutil.RLIMIT_NOFILE, limits)
    follower.after(changes, "listening")
    assert daemon.stop() == 0


# -- the sound's own clock ------------------------------------------------------------------------


@pytest.fixture
def alsa_microphone(sound: SoundServer, speech: np.ndarray) -> Iterator[Callable[[float], None]]:
    """A microphone of ALSA's, without any sound server: speaks so much faster than it should, in
    parts per million, from when it is told to."""
    fifo = sound.folder / "microphone"
    os.mkfifo(fifo)
    (sound.folder / "home" / ".asoundrc").write_text(
        f'pcm.alsamic {{ type file slave.pcm {{ type null }} file /dev/null infile "{fifo}" '
        'format "raw" hint { show on description "ALSA microphone" } }\n'
    )
    stop = threading.Event()
    threads = []

    def speak(drift: float) -> None:
        samples = np.tile(speech, 4).astype("<f4")
        started = time.monotonic()
        # Open at both ends, so that PortAudio may open and close it while it looks around.
        fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        with os.fdopen(fd, "wb", buffering=0) as microphone:
            fcntl.fcntl(microphone, fcntl.F_SETPIPE_SZ, 1 << 16)
            for first in range(0, len(samples), 512):
                due = started + first / (16000 * (1 + drift / 1e6))
                time.sleep(max(0, due - time.monotonic()))
                if stop.is_set():
                    return
                microphone.write(samples[first : first + 512].tobytes())

    def begin(drift: float) -> None:
        threads.append(threading.Thread(target=speak, args=(drift,)))
        threads[0].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.long
def test_drift_is_measured_and_reported(
    alsa_microphone: Callable[[float], None], start_daemon: Start
) -> None:
    """PortAudio and ALSA as they are; the microphone's clock is 0.2 % fast."""
    alsa_microphone(2000)
    daemon = listening(start_daemon, "--source", "name:alsamic")
    assert microphone(daemon)["drift"] is None
    daemon.wait(lambda: microphone(daemon)["drift"], 100)
    time.sleep(10)
    assert microphone(daemon)["drift"] == pytest.approx(2000, abs=100)
    with urllib.request.urlopen(daemon.url + "/metrics", timeout=10) as answer:
        [line] = [line for line in answer if line.startswith(b"edged_microphone_drift_ppm ")]
    assert float(line.split()[1]) == pytest.approx(2000, abs=100)
    assert daemon.get("/v1/transcripts")[1]["transcripts"], "and what is said is heard"


@pytest.mark.long
def test_sound_that_the_server_could_not_keep_is_a_gap(
    sound: SoundServer, start_daemon: Start
) -> None:
    """Of 32 channels at 96 kHz it keeps a third of a second, and does not say what it drops."""
    sound.plug("wide", rate=96000, channels=32)
    daemon = listening(start_daemon, microphone_channel=0)
    follower = Follower(daemon)
    time.sleep(5)
    hearing = capture(daemon)
    hearing.suspend()
    time.sleep(2)
    hearing.resume()
    daemon.wait(lambda: follower.of("gap"), 10)
    [gap] = follower.of("gap")
    assert gap["reason"] == "overrun"
    assert gap["end"] - gap["start"] == pytest.approx(1.7, abs=0.4)
    assert capture(daemon) == hearing, "a halt of ours is not the microphone's"
