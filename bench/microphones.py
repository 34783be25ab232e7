"""What it would cost to let the sound server resample to 16 kHz: tones, and words.

Speech with noise above 8 kHz is played into a microphone of 48 kHz stereo, and recorded twice at
once: at 16 kHz, and at the microphone's own rate with soxr behind it, as edged does.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from bench import corpus, report, scoring
from bench.corpus import RATE, Utterance
from edged.audio.sound_server import Recorder
from edged.bench.client import exchange
from edged.bench.daemon import running
from tests.audio.sound_server import SoundServer, open_server

OWN, STEREO = 48000, ("front-left", "front-right")
TONES = (1000, 5000, 7000, 9000, 10000, 12000)
"""Hertz; what lies above 8000 should be gone"""
TONE_SECONDS = 3.0
PAUSE_SECONDS = 1.0


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=55, help="so many, evenly over the core sets")
    options = parser.parse_args()
    document = report.begin()
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as folder:
        server = open_server(Path(folder) / "sound")
        os.environ.update(server.environment)
        server.plug(rate=OWN, channels=2)
        try:
            document["tones_db"] = {tone: _level(server, tone) for tone in TONES}
            report.print_table("tones", ("hertz", "dB"), list(document["tones_db"].items()))
            chosen = [one for one in corpus.utterances(options.corpus) if one.core]
            chosen = corpus.choose_evenly(chosen, options.files)
            ways = _three_ways(server, [corpus.load(one.path) for one in chosen])
        finally:
            server.stop()
    for model in report.models(options):
        with running(model) as daemon:
            rows = [_row(daemon.url, name, heard, chosen) for name, heard in ways.items()]
        document["models"][model] = rows
        report.print_table(model, ("resampled", "words", "errors", "rate"), rows)
    report.finish(document, options.output)


def _row(
    url: str, name: str, heard: Sequence[np.ndarray], chosen: Sequence[Utterance]
) -> tuple[str, int, int, str]:
    errors = scoring.add(
        scoring.compare(
            scoring.normalize(utterance.reference), scoring.normalize(exchange(url, samples).text)
        )
        for utterance, samples in zip(chosen, heard, strict=True)
    )
    return name, errors.words, errors.total, f"{errors.rate:.2%}"


def _level(server: SoundServer, tone: int) -> float:
    """Decibels of what comes back of a tone."""
    t = np.arange(round(TONE_SECONDS * OWN)) / OWN
    played = 0.5 * np.sin(2 * math.pi * tone * t)
    [heard] = _recorded(server, played, [(RATE, ("mono",))])
    middle = heard[len(heard) // 2 : len(heard) // 2 + RATE // 2, 0]
    return round(20 * math.log10(max(1e-6, float(middle.std()) * math.sqrt(2) / 0.5)), 1)


def _three_ways(server: SoundServer, speech: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Every utterance as it is, and recorded both ways."""
    pause = corpus.silence(PAUSE_SECONDS)
    original = np.concatenate([part for samples in speech for part in (pause, samples)])
    wide = soxr.resample(original / 32768, RATE, OWN)
    noise = np.random.default_rng(1).normal(0, 0.03, len(wide))
    high = noise - soxr.resample(soxr.resample(noise, OWN, 16400), 16400, OWN)[: len(noise)]
    served, own = _recorded(server, wide + high, [(RATE, ("mono",)), (OWN, STEREO)])
    found = {
        "not at all": original,
        "by the server": _aligned(original, served[:, 0]),
        "by soxr": _aligned(original, soxr.resample(own.mean(axis=1), OWN, RATE)),
    }
    ends = np.cumsum([len(pause) + len(samples) for samples in speech])
    return {
        name: [
            samples[end - len(one) - len(pause) : end]
            for one, end in zip(speech, ends, strict=True)
        ]
        for name, samples in found.items()
    }


def _aligned(original: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """What was heard, from where the original begins in it, as 16 bit samples."""
    size = len(original) + len(heard)
    spectra = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original / 32768, size))
    start = int(np.argmax(np.fft.irfft(spectra, size)))
    return (np.clip(heard[start : start + len(original)], -1, 1) * 32767).astype(np.int16)


def _recorded(
    server: SoundServer, played: np.ndarray, ways: Sequence[tuple[int, tuple[str, ...]]]
) -> list[np.ndarray]:
    """What comes back of a sound, in each way of recording: rate and channels."""
    seconds = len(played) / OWN + 1
    found: dict[int, np.ndarray] = {}

    def record(number: int) -> None:
        rate, channels = ways[number]
        recorder = Recorder("vmic.monitor", rate, channels, round(rate * 0.032))
        blocks, until = [], time.monotonic() + seconds
        while time.monotonic() < until and (block := recorder.read()):
            blocks.append(bytes(block))
        found[number] = np.frombuffer(b"".join(blocks), "<f4").reshape(-1, len(channels))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(len(ways))]
    for thread in threads:
        thread.start()
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, np.stack([played, played], axis=1), OWN)
        server.play(Path(file.name)).wait()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(ways))]


if __name__ == "__main__":
    main()
