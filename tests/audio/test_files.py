"""Sound files of every kind, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edged.audio.files import duration, open_recording
from edged.errors import AudioError

RATE = 16000


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(open_recording(path)))


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.uniform(-0.5, 0.5, (round(seconds * RATE), channels)).astype(np.float32)


def test_a_file_at_16_khz_is_read_sample_by_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    samples = noise(10)  # more than one block
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    assert np.array_equal(read(path), samples[:, 0])
    assert duration(path) == 10


def test_channels_are_mixed_and_rates_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(3, channels=2), 48000)
    assert abs(len(read(path)) - RATE) <= 2


def test_a_file_goes_on_when_its_name_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    blocks = open_recording(path)
    path.unlink()
    assert sum(map(len, blocks)) == RATE


def test_a_file_is_called_by_the_name_that_the_user_gave_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.touch()
    with pytest.raises(AudioError, match=r"^letter\.wav is empty$"):
        open_recording(path, "letter.wav")


def test_what_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    for name, content, code in (
        ("empty.wav", b"", "empty_audio"),
        ("noise.wav", bytes(range(256)) * 20, "unknown_audio"),
        ("noise.raw", bytes(range(256)) * 20, "unknown_audio"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(AudioError, match=name) as raised:
            open_recording(path)
        assert raised.value.code == code
    for path in (tmp_path / "missing.wav", tmp_path, tmp_path / "empty.wav" / "x"):
        with pytest.raises(AudioError) as raised:
            open_recording(path)
        assert raised.value.code == "no_file"


def test_a_rate_out_of_range_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), 4000)
    with pytest.raises(AudioError, match="4000"):
        open_recording(path)


def test_numbers_that_are_none_become_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, np.nan, np.inf, -9], np.float32), RATE, subtype="FLOAT")
    assert read(path).tolist() == [0.5, 0, 0, -1]


def test_no_file_is_duration_of_nothing(tmp_path: Path) -> None:
    assert duration(tmp_path / "missing.wav") is None


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, whose PCM lies in a file and which complains a lot."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\nhead -c 300000 /dev/zero >&2\ncat {tmp_path}/pcm\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (tmp_path / "film.mkv").write_bytes(bytes(range(256)) * 20)
    return tmp_path / "pcm"


def test_ffmpeg_reads_the_rest(tmp_path: Path, ffmpeg: Path) -> None:
    samples = noise(20)[:, 0]
    ffmpeg.write_bytes(samples.tobytes())
    assert np.array_equal(read(tmp_path / "film.mkv"), samples)


def test_what_ffmpeg_cannot_read_is_no_audio(tmp_path: Path, ffmpeg: Path) -> None:
    ffmpeg.write_bytes(b"")
    with pytest.raises(AudioError, match=r"film\.mkv is no audio") as raised:
        open_recording(tmp_path / "film.mkv")
    assert raised.value.code == "unknown_audio"
