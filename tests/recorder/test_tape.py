"""The ring on disk and what is written to it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edged.engine.stream import Stream
from edged.errors import EdgedError
from edged.messages import Mark, Mute
from edged.recorder import recorder as recorder_module
from edged.recorder.lines import Dropped, Line, Sound, decode_line
from edged.recorder.packing import packed, unpacked
from edged.recorder.recorder import Recorder
from edged.recorder.recording import read
from edged.recorder.tape import SOUND, Tape, segments, size_of

MEGABYTE = 1 << 20
HOUR = 3600.0


@pytest.fixture
def stream() -> Stream:
    return Stream(1, lambda _event: None, name="microphone", trace=True)


def feed(recorder: Recorder, stream: Stream, samples: np.ndarray) -> None:
    start = stream.written
    stream.write(samples)
    recorder.heard(stream, start, stream.written)


def lines_of(folder: Path) -> list[Line]:
    return [
        decode_line(line)
        for path in segments(folder)
        for line in path.read_bytes().splitlines()[1:]
    ]


def run(folder: Path, work: Callable[[Recorder], None], most_bytes: int = MEGABYTE) -> Recorder:
    recorder = Recorder(folder, most_bytes, HOUR)
    recorder.start()
    work(recorder)
    recorder.close()
    return recorder


@pytest.mark.parametrize("scale", [1 / 32768, 1 / 3])
def test_samples_lose_nothing_and_16_bits_stay_16_bits(scale: float) -> None:
    samples = np.arange(-300, 300, dtype=np.float32) * np.float32(scale) / 100
    if scale == 1 / 32768:
        samples = np.arange(-32768, 32768, 7).astype(np.float32) / 32768
    data, encoding = packed(samples.tobytes())
    assert encoding == ("s16le" if scale == 1 / 32768 else "f32le")
    assert np.array_equal(unpacked(data, encoding), samples)


def test_what_is_recorded_is_read_again(tmp_path: Path, stream: Stream) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 40_000).astype(np.float32)

    def work(recorder: Recorder) -> None:
        for first in range(0, len(noise), 512):
            feed(recorder, stream, noise[first : first + 512])

    run(tmp_path / "ring", work)
    [track] = read(tmp_path / "ring").tracks
    assert (track.name, track.end, track.holes()) == ("microphone", len(noise), [])
    assert np.array_equal(track.samples(0, len(noise)), noise)
    assert np.array_equal(track.samples(700, 9000), noise[700:9000])
    blocks = [end for line in track.lines if isinstance(line.what, Sound) for end in line.what.ends]
    assert blocks[:2] == [512, 1024]


def test_only_its_owner_reads_it(tmp_path: Path, stream: Stream) -> None:
    folder = tmp_path / "ring"
    run(folder, lambda recorder: feed(recorder, stream, np.zeros(512, np.float32)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600, 0o600]


def test_the_ring_keeps_its_size_and_the_newest(tmp_path: Path, stream: Stream) -> None:
    folder = tmp_path / "ring"
    noise = np.random.default_rng(2).normal(0, 0.1, 16_000).astype(np.float32)

    def work(recorder: Recorder) -> None:
        for _ in range(60):  # 3.8 MB
            feed(recorder, stream, noise)
            while recorder._waiting:
                time.sleep(0.002)
                recorder._write(recorder._take())

    recorder = Recorder(folder, MEGABYTE, HOUR)
    work(recorder)
    recorder._tape.close()
    files = list(segments(folder))
    assert 4 <= len(files) <= 9
    assert sum(map(size_of, files)) <= MEGABYTE
    [track] = read(folder).tracks
    assert track.end == stream.written
    [(first, last)] = track.holes()
    assert first == 0
    assert track.end - last > 8 * 16_000
    seconds = (track.end - last) // 16_000  # across some segments
    whole = track.samples(track.end - seconds * 16_000, track.end)
    assert np.array_equal(whole, np.tile(noise, seconds))


def test_what_is_old_is_deleted(tmp_path: Path) -> None:
    tape = Tape(tmp_path, MEGABYTE, HOUR, lambda: b"{}\n")
    old = tmp_path / "00000007-20200101T000000Z.jsonl"
    for path in (old, old.with_suffix(SOUND)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    other = tmp_path / "notes.jsonl"
    other.write_bytes(b"mine")
    tape.room(1)
    assert not old.exists()
    assert not old.with_suffix(SOUND).exists()
    assert other.exists()
    assert len(list(segments(tmp_path))) == 1
    tape.close()


def test_a_number_follows_the_last_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    (tmp_path / "00000041-20991231T235959Z.jsonl").write_bytes(b"{}\n")
    tape = Tape(tmp_path, MEGABYTE, HOUR, lambda: b"{}\n")
    tape.room(1)
    tape.close()
    assert [path.name[:8] for path in segments(tmp_path)] == ["00000041", "00000042"]


def test_a_disk_that_is_too_slow_makes_nobody_wait(
    tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer gets to nothing at all for a while: what does not fit is dropped, and said."""
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 100_000)
    recorder = Recorder(tmp_path / "ring", MEGABYTE, HOUR)
    block = np.ones(512, np.float32)
    began = time.monotonic()
    for _ in range(2000):
        feed(recorder, stream, block)
    assert time.monotonic() - began < 1.0
    assert recorder._waiting_bytes <= 100_000
    recorder.start()
    recorder.close()
    assert recorder.dropped > 1900
    lines = lines_of(tmp_path / "ring")
    assert any(isinstance(line.what, Dropped) for line in lines)


def test_a_disk_that_takes_nothing_is_told_and_forgotten_when_it_does(
    tmp_path: Path, stream: Stream
) -> None:
    folder = tmp_path / "ring"
    folder.write_text("no folder")
    recorder = Recorder(folder, MEGABYTE, HOUR)
    recorder.note(Mute(True), None)
    assert not recorder._write(recorder._take())
    assert recorder.problem is not None
    folder.unlink()
    recorder.note(Mute(False), None)
    assert recorder._write(recorder._take())
    recorder._tape.close()
    assert recorder.problem is None
    assert [line.what for line in lines_of(folder)] == [Dropped(1), Mute(False)]


def test_what_was_never_captured_is_no_hole(tmp_path: Path, stream: Stream) -> None:
    block = np.full(16_000, 0.5, np.float32)

    def work(recorder: Recorder) -> None:
        feed(recorder, stream, block)
        recorder.told(stream, Mark(1, 16_000, 48_000))
        recorder.missed(stream, 48_000)
        stream.wrote(48_000, time.monotonic())
        feed(recorder, stream, block)

    run(tmp_path / "ring", work)
    [track] = read(tmp_path / "ring").tracks
    assert track.holes() == []
    assert track.gap_at(16_000) == 48_000
    assert track.gap_at(8000) is None
    assert not track.samples(16_000, 48_000).any()


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_half_a_line_at_the_end_costs_that_line_alone(
    tmp_path: Path, stream: Stream, cut: int
) -> None:
    folder = tmp_path / "ring"

    def work(recorder: Recorder) -> None:
        for _ in range(3):
            feed(recorder, stream, np.ones(512, np.float32))
            recorder.note(Mute(True), None)

    run(folder, work)
    [path] = segments(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    [track] = read(folder).tracks
    assert track.end >= 512


def test_a_file_of_something_else(tmp_path: Path) -> None:
    strange = tmp_path / "strange.jsonl"
    strange.write_text("hello\n")
    with pytest.raises(EdgedError) as caught:
        read(strange)
    assert caught.value.code == "bad_recording"
    with pytest.raises(EdgedError) as caught:
        read(tmp_path / "nothing.jsonl")
    assert caught.value.code == "no_file"
    for folder in (tmp_path / "nowhere", tmp_path):
        strange.unlink(missing_ok=True)
        with pytest.raises(EdgedError) as caught:
            read(folder)
        assert caught.value.code == "no_recording"
