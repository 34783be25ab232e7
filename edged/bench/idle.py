"""What it costs while the microphone is open and nobody speaks.

The microphone is a file, played at the pace of time by the capture process.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from edged.bench.daemon import DaemonProcess
from edged.bench.hearing import silence
from edged.bench.processes import cpu_percent
from edged.bench.result import Found, Observation, Series
from edged.bench.room import Room
from edged.recognizer import SAMPLE_RATE

SECONDS = 6
"""One observation each"""
SETTLE_SECONDS = 2.0
"""From ready to the first: the last imports, and what the detector needs to get used to noise"""
SPARE_SECONDS = 20.0
"""Of sound beyond that, which passes while the daemon starts"""
NOISE_DBFS = -40.0
SEED = 20


def measure(room: Room) -> Found:
    length = SETTLE_SECONDS + SECONDS + SPARE_SECONDS
    found = [_listen(room, name, samples) for name, samples in _sounds(length)]
    return Found(
        series=[series for one in found for series in one.series],
        notes=[sentence for one in found for sentence in one.notes],
    )


def _sounds(seconds: float) -> list[tuple[str, np.ndarray]]:
    return [("silence", silence(seconds)), ("steady noise", pink_noise(seconds))]


def pink_noise(seconds: float) -> np.ndarray:
    """As of a fan, int16; the same each time."""
    count = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(SEED).standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20 * seconds))  # flat below 20 Hz
    noise = np.fft.irfft(spectrum, count)
    noise *= 10 ** (NOISE_DBFS / 20) / np.sqrt(np.mean(noise**2))
    pink: np.ndarray = (noise * 32768).astype(np.int16)
    return pink


def _listen(room: Room, name: str, samples: np.ndarray) -> Found:
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as folder:
        file = Path(folder) / "sound.wav"
        soundfile.write(file, samples, SAMPLE_RATE, subtype="PCM_16")
        with room.running(source=("--source", f"file:{file}")) as daemon:
            time.sleep(SETTLE_SECONDS)
            used = [_second(daemon, number) for number in range(SECONDS)]
            heard = daemon.address.get("/v1/transcripts")["transcripts"]
            complaints = daemon.complaints()
    series = Series(name=f"idle {name}", unit="% of a core, microphone open", observations=used)
    said = [f"idle: {name} was taken for speech"] * bool(heard)
    return Found([series], notes=[*said, *complaints])


def _second(daemon: DaemonProcess, number: int) -> Observation:
    return Observation(f"second {number}", cpu_percent(daemon.pid, 1.0))
