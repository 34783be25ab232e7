"""Capture: what is written to the ring, and programs and files as sources of a real daemon."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from edged.audio.output import Output
from edged.audio.ring import AudioRing
from edged.channel import channel_pair
from edged.messages import Captured, CaptureReport, Lost, decode_capture_report
from tests.client import s16, silence
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
Start = Callable[..., DaemonProcess]


# -- output -------------------------------------------------------------------------------------


class Bench:
    """An output with its ring, and the daemon's end of its socket."""

    def __init__(self, position: int = 0, captured_ago: float | None = None) -> None:
        self.ours, self._theirs = channel_pair()
        self.ours.setblocking(False)
        self.ring = AudioRing.create(4 * RATE)
        clock = 0.0 if captured_ago is None else time.monotonic() - captured_ago
        self.output = Output(self._theirs, self.ring, position, clock)

    def reports(self) -> list[CaptureReport]:
        reports = []
        while True:
            try:
                reports.append(decode_capture_report(self.ours.recv(65536)))
            except BlockingIOError:
                return reports

    def close(self) -> None:
        self.ring.close()
        for sock in (self.ours, self._theirs):
            sock.close()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(*args: Any, **options: Any) -> Bench:
        benches.append(Bench(*args, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


BLOCK = np.linspace(-1, 1, 512, dtype=np.float32)


def test_a_block_goes_into_the_ring_and_is_reported(bench: Callable[..., Bench]) -> None:
    it = bench(position=1000)
    it.output.write(BLOCK)
    it.output.write(BLOCK.tobytes())
    assert np.array_equal(it.ring.view(1000, 1512), BLOCK)
    assert np.array_equal(it.ring.view(1512, 2024), BLOCK)
    reports = it.reports()
    assert [type(report) for report in reports] == [Captured, Captured]
    assert [report.written for report in reports if isinstance(report, Captured)] == [1512, 2024]


def test_while_muted_nothing_reaches_the_ring(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.output.write(BLOCK)
    before = it.ring.view(0, it.ring.capacity).copy()
    it.reports()
    it.output.mute(True)
    for _ in range(100):
        it.output.write(BLOCK)
    assert np.array_equal(it.ring.view(0, it.ring.capacity), before)
    assert it.output.position == len(BLOCK)
    assert it.reports() == []


def test_after_muting_the_gap_is_told_and_silence_lies_before_what_follows(
    bench: Callable[..., Bench],
) -> None:
    it = bench(position=4 * RATE, captured_ago=1.0)
    it.ring.write(0, np.ones(4 * RATE, np.float32))
    it.output.mute(True)
    it.output.write(BLOCK)
    it.output.mute(False)
    it.output.write(BLOCK)
    lost, captured = it.reports()
    assert isinstance(lost, Lost)
    assert (lost.start, lost.reason) == (4 * RATE, "muted")
    assert lost.end - lost.start >= 0.9 * RATE
    assert isinstance(captured, Captured)
    assert captured.written == lost.end + len(BLOCK)
    assert np.array_equal(it.ring.view(lost.end, captured.written), BLOCK)
    assert not it.ring.view(lost.end - 512, lost.end).any()


def test_a_block_that_began_while_muted_stays_out(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.output.mute(True)
    it.output.mute(False)
    it.output.write(BLOCK, time.monotonic())
    assert it.output.position == 0
    assert it.reports() == []
    it.output.write(BLOCK, time.monotonic() + 1)
    assert it.output.position > 0


def test_time_without_a_device_is_a_gap(bench: Callable[..., Bench]) -> None:
    it = bench(position=RATE, captured_ago=0.5)
    it.output.write(BLOCK)
    it.output.write(BLOCK)
    lost, *captured = it.reports()
    assert isinstance(lost, Lost)
    assert (lost.start, lost.reason) == (RATE, "device_lost")
    assert len(captured) == 2, "one gap is told once"


def test_the_first_device_is_no_gap(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.output.write(BLOCK)
    assert [type(report) for report in it.reports()] == [Captured]


def test_sound_that_was_lost_on_its_way_is_a_gap(bench: Callable[..., Bench]) -> None:
    """A source that knows when its sound was captured is held to it."""
    it = bench()
    for ended in (10.0, 10.032, 11.0):
        it.output.write(BLOCK, ended)
    _, _, lost, captured = it.reports()
    assert isinstance(lost, Lost)
    assert (lost.start, lost.reason) == (1024, "overrun")
    assert lost.end == 1024 + round(0.936 * RATE)
    assert captured == Captured(lost.end + 512, 11.0)


def test_jitter_is_no_gap(bench: Callable[..., Bench]) -> None:
    it = bench()
    for ended in (10.0, 10.1, 10.09, 10.15):
        it.output.write(BLOCK, ended)
    assert {type(report) for report in it.reports()} == {Captured}


def test_a_daemon_that_is_busy_does_not_stop_the_capture(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(2000):
        it.output.write(BLOCK)
    assert it.output.position == 2000 * len(BLOCK)
    it.reports()
    it.output.write(BLOCK)
    [newest] = it.reports()
    assert isinstance(newest, Captured)
    assert newest.written == 2001 * len(BLOCK), "the next report makes up for the lost ones"


# -- sources of a real daemon -------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(speech: np.ndarray) -> np.ndarray:
    return np.concatenate([speech[: round(4.2 * RATE)], silence(1.5)])


@pytest.fixture
def raw(tmp_path: Path, clip: np.ndarray) -> Path:
    path = tmp_path / "clip.raw"
    path.write_bytes(s16(clip))
    return path


def microphone(daemon: DaemonProcess) -> dict[str, Any]:
    state: dict[str, Any] = daemon.get("/v1/health")[1]["microphone"]
    return state


def stored(daemon: DaemonProcess) -> list[str]:
    page = daemon.get("/v1/transcripts")[1]["transcripts"]
    return [entry["text"].lower() for entry in page if entry["stream"] == "microphone"]


def test_what_a_program_writes_is_heard(start_daemon: Start, raw: Path) -> None:
    daemon = start_daemon("--model", TINY, "--source", f"program:cat {raw}")
    [text] = daemon.wait(lambda: stored(daemon))
    assert "best of times" in text
    daemon.wait(lambda: microphone(daemon)["state"] == "ended")


def test_one_channel_of_a_programs_audio_can_be_chosen(
    start_daemon: Start, tmp_path: Path, clip: np.ndarray
) -> None:
    other = np.random.default_rng(1).uniform(-1, 1, len(clip))
    frames = np.stack([other, clip, other], axis=1).astype("<f4")
    path = tmp_path / "clip.f32"
    path.write_bytes(np.repeat(frames, 3, axis=0).tobytes())
    daemon = start_daemon(
        *("--model", TINY, "--source", f"program:cat {path}"),
        microphone_rate=48000,
        microphone_encoding="f32le",
        microphone_channels=3,
        microphone_channel=1,
    )
    [text] = daemon.wait(lambda: stored(daemon))
    assert "best of times" in text


def test_a_file_is_played_at_the_pace_of_time(
    start_daemon: Start, tmp_path: Path, clip: np.ndarray
) -> None:
    path = tmp_path / "clip.flac"
    soundfile.write(path, clip, RATE)
    daemon = start_daemon("--model", TINY, "--source", f"file:{path}")
    state = daemon.wait(lambda: (m := microphone(daemon))["state"] == "listening" and m)
    assert (state["source"], state["label"]) == (f"file:{path}", str(path))
    [text] = daemon.wait(lambda: stored(daemon))
    assert "best of times" in text
    daemon.wait(lambda: microphone(daemon)["state"] == "ended")


def test_a_program_that_fails_is_started_again(start_daemon: Start, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    daemon = start_daemon("--model", TINY, "--source", f"program:echo >> {starts}; exit 3")
    daemon.wait(lambda: starts.read_text().count("\n") >= 4)
    state = daemon.wait(lambda: (m := microphone(daemon))["state"] == "waiting" and m)
    assert state["code"] == "program_failed"
    assert "exit code 3" in state["reason"]
    health = daemon.get("/v1/health")
    assert health[0] == 200, "clients can still stream"
    assert any("exit code 3" in reason for reason in health[1]["reasons"])
    assert daemon.log.read_text().count("exit code 3") == 1, "and it is said once"


def test_a_source_that_comes_back_is_heard(start_daemon: Start, tmp_path: Path, raw: Path) -> None:
    gone = tmp_path / "gone"
    raw.rename(gone)
    daemon = start_daemon("--model", TINY, "--source", f"program:cat {raw}")
    daemon.wait(lambda: microphone(daemon)["code"] == "program_failed")
    gone.rename(raw)
    [text] = daemon.wait(lambda: stored(daemon))
    assert "best of times" in text


def test_a_file_that_is_missing_is_waited_for(
    start_daemon: Start, tmp_path: Path, clip: np.ndarray
) -> None:
    path = tmp_path / "clip.wav"
    daemon = start_daemon("--model", TINY, "--source", f"fast:{path}")
    state = daemon.wait(lambda: (m := microphone(daemon))["code"] and m)
    assert (state["state"], state["code"]) == ("waiting", "no_file")
    assert str(path) in state["reason"]
    soundfile.write(tmp_path / "new.wav", clip, RATE)
    (tmp_path / "new.wav").rename(path)
    [text] = daemon.wait(lambda: stored(daemon))
    assert "best of times" in text


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and no zombie that nobody has asked about."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("command", ["sleep 1000", "sleep 1000; true"])
def test_a_program_does_not_outlive_the_daemon(start_daemon: Start, command: str) -> None:
    daemon = start_daemon("--model", TINY, "--source", f"program:{command}")

    def sleepers() -> list[psutil.Process]:
        family = psutil.Process(daemon.pid).children(recursive=True)
        return [process for process in family if process.name() in {"sleep", "sh", "dash"}]

    programs = daemon.wait(sleepers)
    assert daemon.stop() == 0
    assert not [program for program in programs if runs(program)]


def test_a_program_does_not_outlive_a_daemon_that_is_killed(
    start_daemon: Start, tmp_path: Path
) -> None:
    number = tmp_path / "pid"
    command = f"echo $$ > {number}.new; mv {number}.new {number}; exec sleep 1000"
    daemon = start_daemon("--model", TINY, "--source", f"program:{command}")
    daemon.wait(number.exists)
    program = psutil.Process(int(number.read_text()))
    assert runs(program)
    daemon.process.kill()
    daemon.process.wait()
    while runs(program):
        time.sleep(0.02)


def test_a_daemon_that_starts_muted_hears_nothing(start_daemon: Start, raw: Path) -> None:
    daemon = start_daemon(
        "--model", TINY, "--source", f"program:cat {raw}", microphone_muted="true"
    )
    daemon.wait(lambda: microphone(daemon)["state"] == "ended")
    assert daemon.get("/v1/health")[1]["microphone"]["muted"] is True
    assert stored(daemon) == []


def test_while_it_is_quiet_the_daemon_is_told_of_some_blocks_together(
    bench: Callable[..., Bench],
) -> None:
    it = bench()
    it.output.closely = False
    quiet = np.full(512, 0.001, np.float32).tobytes()
    for block in range(17):
        it.output.write(quiet, 10 + block * 0.032)
    assert [report.written for report in it.reports()] == [4096, 8192]
    it.output.write(quiet, 10.544)
    it.output.mute(True)
    assert it.reports() == [Captured(18 * 512, 10.544)], "nothing is kept back when it is muted"


def test_a_louder_block_is_told_at_once(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.output.closely = False
    quiet, loud = (np.full(512, level, np.float32).tobytes() for level in (0.001, 0.05))
    for block in (quiet, quiet, quiet, loud, loud):
        it.output.write(block)
    assert [report.written for report in it.reports()] == [2048, 2560]
