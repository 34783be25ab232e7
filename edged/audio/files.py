"""Sound files as float32 mono blocks at 16 kHz, read piece by piece, however long they are."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edged.audio.pcm import HIGHEST_RATE, LOWEST_RATE, MOST_CHANNELS, Mixer, PcmConverter, PcmFormat
from edged.errors import AudioError

BLOCK_FRAMES = 65536
STALL_SECONDS = 20.0
"""Longest wait for the next samples from ffmpeg"""
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,"
    "mpegts,ogg,rm,tta,voc,w64,wav,wv"
)
"""What ffmpeg may open: files that hold their audio themselves"""


def open_recording(path: str | Path, name: str | None = None) -> Iterator[np.ndarray]:
    """Open a sound file and return its blocks; from then on it needs no name.

    soundfile reads WAV, FLAC, Ogg, Opus and MP3; ffmpeg, where it is installed, the rest.
    Raises AudioError, which calls the file `name`, at once for one that is missing, empty or no
    audio, and from the blocks for one that is damaged.
    """
    path = Path(path)
    name = name or str(path)
    try:
        if not path.is_file():
            raise AudioError(f"{name} is no file", code="no_file")
        size = path.stat().st_size
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {error.strerror}", code="no_file") from error
    if size == 0:
        raise AudioError(f"{name} is empty", code="empty_audio")
    return _soundfile_blocks(path, name) or _ffmpeg_blocks(path, name)


def duration(path: str | Path) -> float | None:
    """Length in seconds where the file's header tells."""
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.LibsndfileError, OSError):
        return None


def _soundfile_blocks(path: Path, name: str) -> Iterator[np.ndarray] | None:
    import soundfile

    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, OSError, TypeError):  # TypeError: .raw has no header
        return None
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise AudioError(
            f"{name} has {file.samplerate} samples a second; "
            f"edged reads {LOWEST_RATE} to {HIGHEST_RATE}",
            code="bad_rate",
        )
    if file.channels > MOST_CHANNELS:
        raise AudioError(f"{name} has {file.channels} channels", code="bad_channels")
    return _mix(file, name)


def _mix(file: Any, name: str) -> Iterator[np.ndarray]:
    import soundfile

    with file:
        mixer = Mixer(file.samplerate, file.channels)
        try:
            while len(frames := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield mixer.feed(frames)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name} is damaged: {error}", code="damaged_audio") from error
        yield mixer.finish()


def _ffmpeg_blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{name} is no audio that edged can read (WAV, FLAC, Ogg, Opus, MP3). "
            "For other kinds run: sudo apt-get install ffmpeg",
            code="unknown_audio",
        )
    # A playlist would have it open whatever the sender names: other files of ours, other machines.
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file"]
    command += ["-format_whitelist", CONTAINERS, "-i", f"file:{path}", "-vn", "-sn", "-dn"]
    command += ["-f", "f32le", "-ac", "1", "-ar", "16000", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    first = _read(process, name)
    if not first:
        process.communicate()
        raise AudioError(f"{name} is no audio that ffmpeg can read", code="unknown_audio")
    return _converted(process, first, name)


def _converted(process: subprocess.Popen[bytes], first: bytes, name: str) -> Iterator[np.ndarray]:
    converter = PcmConverter(PcmFormat(encoding="f32le"))
    with process:
        data = first
        while data:
            yield converter.feed(data)
            data = _read(process, name)


def _read(process: subprocess.Popen[bytes], name: str) -> bytes:
    """What ffmpeg has converted meanwhile; nothing at its end. Raises AudioError if it hangs."""
    assert process.stdout is not None
    if select.select([process.stdout], [], [], STALL_SECONDS)[0]:
        return os.read(process.stdout.fileno(), 4 * BLOCK_FRAMES)
    process.kill()
    process.communicate()
    raise AudioError(
        f"ffmpeg makes nothing of {name} for {STALL_SECONDS:.0f} s. Convert it to WAV or FLAC",
        code="damaged_audio",
    )
